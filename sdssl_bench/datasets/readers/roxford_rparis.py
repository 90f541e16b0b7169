"""Revisited Oxford and Paris in their official layout (Radenovic et al. 2018), verified.

roxford5k: 4,993 images, 70 queries. rparis6k: 6,322 images, 70 queries. Query images are files
beside the database's and not among them.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.datasets.catalogue import spec
from sdssl_bench.datasets.checking import CheckReport, outcome, unreadable_images
from sdssl_bench.datasets.readers.ground_truth import LABELS, GroundTruth, read_ground_truth
from sdssl_bench.datasets.readers.images_on_disk import image_files, list_images, subset
from sdssl_bench.errors import DataError
from sdssl_bench.records import canonical_json


@dataclass(frozen=True, eq=False)
class RetrievalData:
    """Queries and database with their ground truth.

    Attributes:
        name: "roxford5k" or "rparis6k".
        variant: "official", "mini" or "partial".
        truth: in the order of `queries` and `database`.
        fingerprint: sha256 over images and ground truth.
        notes: facts to record with every number.
    """

    name: str
    variant: str
    root: Path
    truth: GroundTruth
    queries: ImageSet
    database: ImageSet
    fingerprint: str
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Found:
    """A copy as it is on disk.

    Attributes:
        expected: {"queries", "database"}: official numbers, or those of the miniature.
        paths: image name -> file relative to the root, of the images that are there.
        problems: what is missing, in words.
    """

    name: str
    root: Path
    file: Path
    truth: GroundTruth
    expected: dict[str, int]
    mini: bool
    paths: dict[str, str]
    problems: tuple[str, ...]

    @property
    def variant(self) -> str:
        """What is recorded: "partial", "mini" or "official"."""
        return "partial" if self.problems else "mini" if self.mini else "official"


def inspect(name: str, data_root: Path | None) -> Found:
    """Find a copy and say what it lacks.

    Raises:
        UsageError: for an unknown name.
        DataError: if the ground truth is not there or not right.
    """
    entry = spec(name, kind="retrieval")
    root, anchor = entry.find(data_root)
    file = root / anchor
    truth = read_ground_truth(file)
    mini = entry.miniature_at(root)
    expected = dict(entry.sizes)
    if mini:
        expected = {"queries": mini[1]["test"], "database": mini[1]["train"]}
    problems = [
        f"{file.name} lists {found:,} {part} images, expected {expected[part]:,}"
        for part, found in (("database", len(truth.database)), ("queries", len(truth.queries)))
        if found != expected[part]
    ]
    paths = _paths(root)
    for part, names in (("database", truth.database), ("queries", truth.queries)):
        missing = [image for image in names if image not in paths]
        if missing:
            problems.append(
                f"{part}: {len(missing):,} of {len(names):,} images are missing or empty in "
                f"{root / 'jpg'}, first {', '.join(missing[:3])}"
            )
    return Found(name, root, file, truth, expected, bool(mini), paths, tuple(problems))


def load(name: str, *, data_root: Path | None, allow_partial: bool = False) -> RetrievalData:
    """The set, verified.

    Args:
        name: of a retrieval set.
        data_root: holds the set's folder, or is it.
        allow_partial: restrict queries, database and ground truth to the images that are there.

    Raises:
        DataError: if anything is missing, naming it.
    """
    found = inspect(name, data_root)
    truth, notes = found.truth, {}
    if found.problems:
        keep = {
            part: np.flatnonzero([image in found.paths for image in names]).astype(np.int64)
            for part, names in (("queries", truth.queries), ("database", truth.database))
        }
        if not allow_partial or not all(map(len, keep.values())):
            lines = "\n".join(f"  {problem}" for problem in found.problems)
            raise DataError(
                f"{name} in {found.root} is incomplete:\n{lines}\nExtract the archives again, or pass "
                "--allow-partial: it restricts the ground truth to the images that are there and "
                f"says so in the record.\n{spec(name).layout}"
            )
        truth = truth.restricted(**keep)
        notes = {
            "partial_of": "mini" if found.mini else "official",
            "expected": found.expected,
            "found": {"queries": len(truth.queries), "database": len(truth.database)},
        }
    queries, database = (
        image_files(name, part, root=found.root, names=[found.paths[image] for image in names])
        for part, names in (("queries", truth.queries), ("database", truth.database))
    )
    digest = hashlib.sha256(
        canonical_json([truth.to_json(), queries.fingerprint, database.fingerprint]).encode()
    )
    return RetrievalData(
        name, found.variant, found.root, truth, queries, database, digest.hexdigest(), notes
    )


def check(
    name: str, *, data_root: Path | None, decode: bool = False, num_workers: int | None = None
) -> CheckReport:
    """Ground truth and images; see `check.check`.

    Raises:
        DataError: if there is no ground truth, or it is not right.
    """
    found = inspect(name, data_root)
    truth = found.truth
    verified = [
        f"{found.file.name}: {len(truth.queries)} queries, {len(truth.database):,} database images; "
        + ", ".join(f"{sum(map(len, truth.labels[k])):,} {k}" for k in LABELS),
        "every index lies in the list, no image has two labels of one query, every box has an area",
    ]
    bad = None
    variant: str | None = None
    try:
        data = load(name, data_root=data_root, allow_partial=True)
    except DataError:
        pass  # No query or no image is there at all, which the problems say.
    else:
        variant = data.variant
        verified.append(
            f"{len(data.queries)} query images and {len(data.database):,} database images are there"
        )
        bad = unreadable_images((data.queries, data.database), num_workers) if decode else None
    return outcome(
        name,
        variant=variant,
        root=found.root,
        verified=verified,
        problems=found.problems,
        unreadable=bad,
    )


def limited(
    data: RetrievalData, *, queries: NDArray[np.int64], database: NDArray[np.int64]
) -> RetrievalData:
    """Some queries and images of a set, for a trial run."""
    return RetrievalData(
        data.name,
        data.variant,
        data.root,
        data.truth.restricted(queries=queries, database=database),
        subset(data.queries, queries),
        subset(data.database, database),
        data.fingerprint,
        data.notes,
    )


def without_positives(truth: GroundTruth) -> dict[str, int]:
    """Queries that each protocol leaves out, by protocol."""
    has = {label: np.array([len(rows) > 0 for rows in truth.labels[label]]) for label in LABELS}
    kept = {"E": has["easy"], "M": has["easy"] | has["hard"], "H": has["hard"]}
    return {name: int((~mask).sum()) for name, mask in kept.items()}


def _paths(root: Path) -> dict[str, str]:
    """Image name -> path of the non-empty files below jpg/, wherever they are nested."""
    folder = root / "jpg"
    if not folder.is_dir():
        return {}
    files = [f for f in list_images(folder) if f.lower().endswith((".jpg", ".jpeg"))]
    counts = Counter(_stem(file) for file in files)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise DataError(
            f"{folder}: expected every image once, found {twice[0]} in {counts[twice[0]]} places. "
            "Remove the copies."
        )
    images = image_files("", "", root=folder, names=files)
    return {_stem(file): f"jpg/{file}" for file in images.names}


def _stem(file: str) -> str:
    return file.rpartition("/")[2].rpartition(".")[0]
