"""The ground truth of revisited Oxford/Paris: `gnd_*.pkl` as published, or the same as JSON.

A dict of `imlist` (database names without ending), `qimlist`, and `gnd`: per query `bbx` (x1, y1,
x2, y2 in pixels of the query image) and `easy`, `hard`, `junk`, indices into `imlist`
(Radenovic et al. 2018).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.readers.unpickle import load_arrays
from sdssl_bench.errors import DataError

LABELS = ("easy", "hard", "junk")
_NAME = re.compile(r"[\w.+ -]+(/[\w.+ -]+)*", re.ASCII)


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Queries, database, and what is relevant to what.

    Attributes:
        database: [N] image names without ending.
        queries: [Q] likewise.
        boxes: [Q, 4] x1, y1, x2, y2 of the landmark in the query image, in pixels.
        labels: "easy" | "hard" | "junk" -> [Q] arrays of database indices, ascending.
    """

    database: tuple[str, ...]
    queries: tuple[str, ...]
    boxes: NDArray[np.float64]
    labels: Mapping[str, tuple[NDArray[np.int64], ...]]

    def labelled(self, query: int) -> NDArray[np.int64]:
        """[P] database indices of the query's easy, hard and junk images, in this order."""
        return np.concatenate([self.labels[label][query] for label in LABELS])

    def by_label(self, query: int, values: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """`values` [P], one for each of `labelled(query)`, sorted out by label."""
        ends = np.cumsum([len(self.labels[label][query]) for label in LABELS])
        return dict(zip(LABELS, np.split(values, ends[:-1]), strict=True))

    def restricted(
        self, *, queries: NDArray[np.int64], database: NDArray[np.int64]
    ) -> "GroundTruth":
        """Only these queries and database images, ascending indices; lists lose what is gone."""
        new = np.full(len(self.database), -1, np.int64)
        new[database] = np.arange(len(database))
        return GroundTruth(
            tuple(self.database[i] for i in database),
            tuple(self.queries[i] for i in queries),
            self.boxes[queries],
            {
                label: tuple(kept[kept >= 0] for kept in (new[lists[q]] for q in queries))
                for label, lists in self.labels.items()
            },
        )

    def to_json(self) -> dict[str, Any]:
        """The official structure, JSON values only."""
        return {
            "imlist": list(self.database),
            "qimlist": list(self.queries),
            "gnd": [
                {
                    "bbx": self.boxes[query].tolist(),
                    **{label: self.labels[label][query].tolist() for label in LABELS},
                }
                for query in range(len(self.queries))
            ],
        }


def read_ground_truth(path: Path) -> GroundTruth:
    """The ground truth in a `.pkl` or `.json` file, verified.

    A pickle is read without executing anything in it.

    Raises:
        DataError: if the file is missing, hostile, damaged, or not such a ground truth; says where.
    """
    if not path.is_file():
        raise DataError(
            f"Expected the ground truth {path}, found no such file. Obtain gnd_roxford5k.pkl or "
            "gnd_rparis6k.pkl from http://cmp.felk.cvut.cz/revisitop/."
        )
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(path.read_text("utf-8"))
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: expected JSON, found a file that is not: {error}.") from error
    else:
        content = load_arrays(path)
    try:
        return _parse(content)
    except _Malformed as error:
        raise DataError(
            f"{path} is no ground truth of revisited Oxford/Paris: {error}. Obtain the official file "
            "again, or convert it with 'sdssl-bench data convert-gnd'."
        ) from None


class _Malformed(Exception):
    """What is wrong, in words."""


def _parse(content: Any) -> GroundTruth:
    if not isinstance(content, dict) or not {"imlist", "qimlist", "gnd"} <= content.keys():
        raise _Malformed("expected a dict with imlist, qimlist and gnd")
    database, queries = (_names(content, key) for key in ("imlist", "qimlist"))
    entries = content["gnd"]
    if not isinstance(entries, Sequence) or len(entries) != len(queries):
        raise _Malformed(f"gnd: expected a list with one entry for each of {len(queries)} queries")
    parsed = [_entry(e, f"gnd[{i}]", size=len(database)) for i, e in enumerate(entries)]
    labels = {label: tuple(lists[label] for _, lists in parsed) for label in LABELS}
    return GroundTruth(database, queries, np.stack([box for box, _ in parsed]), labels)


def _names(content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = content[key]
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        raise _Malformed(f"{key}: expected a list of image names")
    for name in names:
        # A name becomes a path below the image folder and must stay there.
        if not (isinstance(name, str) and _NAME.fullmatch(name)) or ".." in name.split("/"):
            raise _Malformed(f"{key}: expected image names, found {name!r:.60}")
    if len(set(names)) < len(names):
        raise _Malformed(f"{key}: an image is listed more than once")
    return tuple(names)


def _entry(
    entry: Any, where: str, *, size: int
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.int64]]]:
    if not isinstance(entry, dict) or not {"bbx", *LABELS} <= entry.keys():
        raise _Malformed(f"{where}: expected a dict with bbx, easy, hard and junk")
    try:
        box = np.asarray(entry["bbx"], np.float64)
    except (TypeError, ValueError):
        raise _Malformed(f"{where}.bbx: expected four numbers") from None
    if box.shape != (4,) or not np.isfinite(box).all() or not (box[:2] < box[2:]).all():
        raise _Malformed(f"{where}.bbx: expected x1 < x2 and y1 < y2, found {box.tolist()}")
    lists = {label: _indices(entry[label], f"{where}.{label}", size=size) for label in LABELS}
    together = np.concatenate(list(lists.values()))
    if len(np.unique(together)) < len(together):
        raise _Malformed(f"{where}: an image has two of the labels easy, hard and junk")
    return box, lists


def _indices(values: Any, where: str, *, size: int) -> NDArray[np.int64]:
    try:
        array = np.asarray(values) if isinstance(values, list | tuple | np.ndarray) else None
    except ValueError:  # lists of different lengths
        array = None
    if array is None or array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
        raise _Malformed(f"{where}: expected a list of indices into imlist")
    if len(array) and not 0 <= array.min() <= array.max() < size:
        raise _Malformed(f"{where}: expected indices in 0..{size - 1}, found {array.max()}")
    return np.sort(array.astype(np.int64))
