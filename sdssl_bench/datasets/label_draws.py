"""Which training images have a label: drawn class by class in several tries, or listed by name.

A try puts the images of every class in an order of its own, by a hash of their names, and takes from the
front. So a try with more labels holds all images of the same try with fewer, no order of files and no
machine changes it, and more tries leave the first ones as they are. `tests/datasets/test_label_draws.py`
has it in a few lines of plain Python.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.base import ClassificationData, ImageSet
from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.task import limited_indices

SALT = "sdssl-bench label draws 1"
"""Part of every hash; a new number is a new draw, and then a new version of the tasks."""


@dataclass(frozen=True, eq=False)
class LabelDraws:
    """Training images whose labels are used.

    Attributes:
        rows: by try, [n] dataset indices, ascending; the same n in all tries.
        digests: by try, sha256 (16 digits) of the names of these images.
        absent: listed images that an incomplete copy does not have.
    """

    rows: tuple[NDArray[np.int64], ...]
    digests: tuple[str, ...]
    absent: int = 0

    @property
    def union(self) -> NDArray[np.int64]:
        """Every image that any try uses, ascending: what has to be in the bank."""
        return np.unique(np.concatenate(self.rows))

    @property
    def size(self) -> int:
        """Images of a try."""
        return len(self.rows[0])

    def describe(self) -> dict[str, Any]:
        """What a record says of them."""
        absent = {"absent": self.absent} if self.absent else {}
        return {
            "images": self.size,
            "tries": len(self.rows),
            "sha256": list(self.digests),
            **absent,
        }

    def places(self, indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """By try, where its images stand in a bank.

        Args:
            indices: dataset index of each row of the bank, ascending.

        Raises:
            DataError: if the bank lacks some; a try without them would be another try.
        """
        lost = np.setdiff1d(self.union, indices)
        if len(lost):
            raise DataError(
                f"{len(lost)} of the training images whose labels are used cannot be read. Scores of few "
                "labels need all of them: repair these files, or draw others with --seed."
            )
        return [np.searchsorted(indices, rows) for rows in self.rows]


def draw(
    images: ImageSet,
    *,
    shots: int,
    fraction: float,
    tries: int,
    seed: int,
    limit: int | None = None,
) -> LabelDraws:
    """Images of every class, drawn `tries` times.

    Args:
        images: the training split.
        shots: of every class; 0 goes by the fraction.
        fraction: of every class, rounded, at least one image.
        tries: how often.
        seed: another one draws other images.
        limit: of --limit: drawn from the images of such a trial.

    Raises:
        UsageError: if a class has fewer images than `shots`.
    """
    rows = limited_indices(len(images), limit)
    targets = images.targets[rows]
    classes, start, members = np.unique(np.sort(targets), return_index=True, return_counts=True)
    if shots and members.min() < shots:
        least = int(members.argmin())
        trial = "" if limit is None else f" under --limit {limit}"
        raise UsageError(
            f"{shots} labels of every class were asked for; '{images.class_names[classes[least]]}' of "
            f"{images.dataset} has {members[least]} training images{trial}. Ask for fewer."
        )
    wanted = np.full(len(classes), shots) if shots else np.maximum(1, np.rint(fraction * members))
    keys = _keys([images.names[row] for row in rows.tolist()], tries, seed)
    place = np.searchsorted(classes, targets)
    found = []
    for one in keys.T:
        order = np.lexsort((one, place))
        rank = np.arange(len(rows)) - start[place[order]]
        found.append(np.sort(rows[order[rank < wanted[place[order]]]]))
    return LabelDraws(tuple(found), tuple(_digest(images, one) for one in found))


def _keys(names: Sequence[str], tries: int, seed: int) -> NDArray[np.uint64]:
    """[N, tries] what images are ordered by: 8 bytes of one hash for each try."""
    raw = b"".join(
        hashlib.shake_128(f"{SALT}:{seed}:{name}".encode()).digest(8 * tries) for name in names
    )
    return np.frombuffer(raw, ">u8").reshape(len(names), tries).astype(np.uint64)


def listed(data: ClassificationData, names: Sequence[str], *, limit: int | None) -> LabelDraws:
    """The training images that a list names, whole or by the end of their paths.

    Args:
        data: the set; only an incomplete copy may lack some of them.
        names: such as "n01440764_10026.JPEG".
        limit: of --limit: those among the images of such a trial.

    Raises:
        DataError: if images are missing, or a name fits several.
    """
    images, wanted = data.train, set(names)
    found: dict[str, int] = {}
    for row in limited_indices(len(images), limit).tolist():
        name = images.names[row]
        for form in (name, name.rpartition("/")[2]):
            if form in wanted:
                if found.setdefault(form, row) != row:
                    raise DataError(
                        f"{form} in the list of --subset fits several images of {images.dataset}: "
                        f"{images.names[found[form]]}, {name}. Write their whole names."
                    )
                break
    absent = sorted(wanted - found.keys())
    if not found or (absent and data.variant != "partial" and limit is None):
        raise DataError(
            f"--subset lists {len(wanted):,} images, {len(absent):,} of them are no training images of "
            f"{images.dataset}, first {absent[0]}. Names there look like {images.names[0]}."
        )
    rows = np.array(sorted(set(found.values())), np.int64)
    return LabelDraws((rows,), (_digest(images, rows),), len(absent))


def _digest(images: ImageSet, rows: NDArray[np.int64]) -> str:
    names = "\n".join(sorted(images.names[row] for row in rows.tolist()))
    return hashlib.sha256(names.encode()).hexdigest()[:16]
