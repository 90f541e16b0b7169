"""What a reader finds in a set's official lists, the state of the files, and the images that are there."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.base import EncodedImages, ImageSet
from sdssl_bench.datasets.files import file_facts


@dataclass(frozen=True, eq=False)
class SplitListing:
    """One split as its lists have it; the files may or may not exist.

    Attributes:
        names: [N] paths relative to the root, or "data_batch_1:17" for rows of arrays.
        targets: [N] 0-based class ids.
        pixels: [N, H, W, 3] uint8 of a set stored as arrays.
        keys: [N] names that do not depend on how a copy is nested; `names` if None.
        predefined_val: indices that are officially validation.
        facts: [N] sizes and times of the files, where the reader has looked them up; see `SplitFacts`.
        kept: whether the facts are those of an earlier run, so that a file may have changed since.
        encoded: the images of a set stored in a table.
        rows: [N] of the table that lists the items, counted as its user does.
    """

    names: Sequence[str]
    targets: NDArray[np.int64]
    pixels: NDArray[np.uint8] | None = None
    keys: Sequence[str] | None = None
    predefined_val: NDArray[np.int64] | None = None
    facts: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    kept: bool = False
    encoded: EncodedImages | None = None
    rows: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Listing:
    """Both splits.

    Attributes:
        class_names: [C].
        absent: files of arrays that are not there, so that their items are unknown.
        from_folders: classes and items are the folders and files that are there; no list names them.
    """

    class_names: tuple[str, ...]
    train: SplitListing
    test: SplitListing
    absent: tuple[str, ...] = ()
    from_folders: bool = False

    def split(self, name: str) -> SplitListing:
        """The split "train" or "test"."""
        return self.train if name == "train" else self.test


@dataclass(frozen=True, eq=False)
class OwnSet:
    """A set of the user's own, as its reader found it.

    Attributes:
        root: folder that names are relative to.
        notes: facts to record with every number.
    """

    listing: Listing
    root: Path
    notes: dict[str, Any] = field(default_factory=dict)


def sorted_classes(labels: Iterable[str]) -> list[str]:
    """The labels that occur, once each: by value if all are whole numbers, else as text.

    >>> sorted_classes(["10", "9", "10"]), sorted_classes(["10", "9", "x"])
    (['9', '10'], ['10', '9', 'x'])
    """
    found = set(labels)
    whole = all(label.removeprefix("-").isdecimal() for label in found)
    return sorted(found, key=lambda label: (int(label) if whole else 0, label))


@dataclass(frozen=True, eq=False)
class SplitFacts:
    """One split with the state of its files.

    Attributes:
        sizes: [N] bytes, -1 for a missing file; None for arrays.
        times: [N] modification times in ns, likewise.
        present: [N] whether there is something to read.
    """

    listing: SplitListing
    present: NDArray[np.bool_]
    sizes: NDArray[np.int64] | None = None
    times: NDArray[np.int64] | None = None


def split_facts(root: Path, listing: SplitListing) -> SplitFacts:
    """State of the files of a split."""
    if listing.pixels is not None:
        return SplitFacts(listing, np.ones(len(listing.targets), np.bool_))
    sizes, times = listing.facts or file_facts(root, listing.names)
    return SplitFacts(listing, sizes > 0, sizes, times)


def image_set(
    facts: SplitFacts,
    *,
    dataset: str,
    split: str,
    root: Path,
    class_names: tuple[str, ...],
    expected: int | None = None,
    tolerated: frozenset[str] = frozenset(),
) -> ImageSet:
    """The split restricted to the items that are present, with its fingerprint."""
    keep = np.flatnonzero(facts.present).tolist()
    listing = facts.listing
    names = listing.names
    keys = listing.keys or names
    if len(keep) < len(names):
        names = [names[i] for i in keep]
        keys = [keys[i] for i in keep]
    targets = np.ascontiguousarray(listing.targets[keep])
    digest = hashlib.sha256("\0".join(keys).encode("utf-8", "surrogateescape"))
    digest.update(targets.astype("<i8").tobytes())
    if listing.pixels is not None:
        digest.update(np.ascontiguousarray(listing.pixels).data)
    if facts.sizes is not None:
        digest.update(facts.sizes[keep].astype("<i8").tobytes())
    fingerprint = digest.hexdigest()
    if facts.times is not None:
        digest.update(facts.times[keep].astype("<i8").tobytes())
    val = listing.predefined_val
    return ImageSet(
        dataset=dataset,
        split=split,
        class_names=class_names,
        targets=targets,
        names=names,
        root=root,
        fingerprint=fingerprint,
        freshness=digest.hexdigest(),
        pixels=listing.pixels,
        listed=np.stack([facts.sizes[keep], facts.times[keep]], axis=1)
        if listing.kept and facts.sizes is not None and facts.times is not None
        else None,
        encoded=None if listing.encoded is None else listing.encoded.take(np.array(keep, np.int64)),
        expected=expected,
        predefined_val=None if val is None else np.flatnonzero(np.isin(keep, val)).astype(np.int64),
        tolerated=tolerated & frozenset(names),
    )
