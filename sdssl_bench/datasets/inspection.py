"""Find a set, read its lists, and verify everything that can be verified without decoding.

A problem is tolerable when a part is missing and the rest is right: --allow-partial then scores what
is there. Anything that makes a label or a split doubtful is never tolerable.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets import cifar, folders, list_sets, mat_sets
from sdssl_bench.datasets.layouts import find_root
from sdssl_bench.datasets.listing import Listing, SplitListing
from sdssl_bench.datasets.scan import file_facts
from sdssl_bench.datasets.spec import DatasetSpec
from sdssl_bench.errors import DataError

MARKER = "sdssl-bench-mini.json"
"""Written by `data mini`: what a complete miniature of each set has."""

IMAGENET_FEWEST = {"train": 732, "test": 50}
"""Images of the smallest official class folder (the largest train folder has 1,300)."""

READERS: dict[str, Callable[[Path, int], Listing]] = {
    "cifar10": cifar.read_cifar10,
    "cifar100": cifar.read_cifar100,
    "flowers": mat_sets.read_flowers,
    "pets": list_sets.read_pets,
    "cub": list_sets.read_cub,
    "aircraft": list_sets.read_aircraft,
    "cars": mat_sets.read_cars,
    "dogs": mat_sets.read_dogs,
    "nabirds": list_sets.read_nabirds,
    "imagenet": folders.read_imagenet,
}


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        text: expected and found.
        tolerable: the rest can be scored under --allow-partial.
    """

    text: str
    tolerable: bool


@dataclass(frozen=True)
class Expected:
    """What a complete copy has: the official numbers, or those of the miniature."""

    num_classes: int
    sizes: dict[str, int]
    marker: Path | None


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


@dataclass(frozen=True, eq=False)
class Inspection:
    """Everything known of a copy without decoding an image."""

    spec: DatasetSpec
    root: Path
    expected: Expected
    class_names: tuple[str, ...]
    splits: dict[str, SplitFacts]
    problems: tuple[Problem, ...]


def inspect(spec: DatasetSpec, data_root: Path | None) -> Inspection:
    """Find, read and verify.

    Raises:
        DataError: if the set is not there or its lists cannot be read.
    """
    root = find_root(spec, data_root)
    expected = _expected(spec, root)
    listing = READERS[spec.name](root, expected.num_classes)
    splits = {split: split_facts(root, listing.split(split)) for split in ("train", "test")}
    problems = [
        *_class_problems(spec, listing, expected),
        *label_problems(listing),
        *overlap_problems(listing),
        *_count_problems(spec, listing, expected),
    ]
    for split, facts in splits.items():
        problems += _missing_files(split, facts)
    if not any(p.tolerable for p in problems):
        problems += _empty_classes(listing)
    return Inspection(spec, root, expected, listing.class_names, splits, tuple(problems))


def split_facts(root: Path, listing: SplitListing) -> SplitFacts:
    """State of the files of a split."""
    if listing.pixels is not None:
        return SplitFacts(listing, np.ones(len(listing.targets), np.bool_))
    sizes, times = file_facts(root, listing.names)
    return SplitFacts(listing, sizes > 0, sizes, times)


def _expected(spec: DatasetSpec, root: Path) -> Expected:
    for folder in (root.absolute(), *root.absolute().parents):
        marker = folder / MARKER
        if not marker.is_file():
            continue
        try:
            entry = json.loads(marker.read_text("utf-8"))["datasets"][spec.name]
            sizes = {split: int(entry[split]) for split in ("train", "test")}
            return Expected(int(entry["classes"]), sizes, marker)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{marker} marks {root} as miniature data but does not say what {spec.name} has. "
                "Write the miniatures again ('sdssl-bench data mini DIR'), or keep other data "
                "elsewhere."
            ) from error
    return Expected(spec.num_classes, dict(spec.sizes), None)


def _class_problems(spec: DatasetSpec, listing: Listing, expected: Expected) -> list[Problem]:
    found = len(listing.class_names)
    if found == expected.num_classes:
        return []
    # Only ImageNet's class list is made of the folders that happen to be there.
    fewer = spec.name == "imagenet" and found < expected.num_classes
    return [Problem(f"expected {expected.num_classes:,} classes, found {found:,}", fewer)]


def label_problems(listing: Listing) -> list[Problem]:
    """Targets outside 0..C-1 or not one per item."""
    problems = []
    for split in ("train", "test"):
        part = listing.split(split)
        if len(part.names) != len(part.targets):
            text = f"{split}: {len(part.names):,} items but {len(part.targets):,} labels"
            problems.append(Problem(text, False))
            continue
        bad = np.flatnonzero((part.targets < 0) | (part.targets >= len(listing.class_names)))
        if len(bad):
            text = (
                f"{split}: expected labels of {len(listing.class_names)} classes, found {len(bad):,} "
                f"outside, first that of {part.names[bad[0]]}: {part.targets[bad[0]] + 1} (from 1)"
            )
            problems.append(Problem(text, False))
    return problems


def overlap_problems(listing: Listing) -> list[Problem]:
    """Items that are in both splits, or twice in one."""
    keys = {s: listing.split(s).keys or listing.split(s).names for s in ("train", "test")}
    problems = []
    unique = {split: set(values) for split, values in keys.items()}
    for split, values in keys.items():
        if len(unique[split]) < len(values):
            text = f"{split}: {len(values) - len(unique[split]):,} items are listed more than once"
            problems.append(Problem(text, False))
    both = sorted(unique["train"] & unique["test"])
    if both:
        text = f"train and test share {len(both):,} items, e.g. {', '.join(both[:3])}"
        problems.append(Problem(text, False))
    return problems


def _count_problems(spec: DatasetSpec, listing: Listing, expected: Expected) -> list[Problem]:
    problems = [Problem(f"the file {name} is missing", True) for name in listing.absent]
    # The lists of these sets are the files themselves.
    where = "" if spec.name in ("cifar10", "cifar100", "imagenet") else " in the lists"
    for split, count in expected.sizes.items():
        found = len(listing.split(split).targets)
        if found != count:
            text = f"{split}: expected {count:,} images, found {found:,}{where}"
            problems.append(Problem(text, found < count))
    if spec.name == "imagenet" and problems and expected.marker is None:
        problems += _short_folders(listing)
    return problems


def _short_folders(listing: Listing) -> list[Problem]:
    """ImageNet's class folders that are smaller than any official one."""
    problems = []
    for split, fewest in IMAGENET_FEWEST.items():
        counts = np.bincount(listing.split(split).targets, minlength=len(listing.class_names))
        short = np.flatnonzero(counts < fewest)
        if len(short):
            examples = ", ".join(f"{listing.class_names[i]} ({counts[i]})" for i in short[:3])
            text = f"{split}: {len(short):,} class folders have fewer than {fewest} images, e.g. {examples}"
            problems.append(Problem(text, True))
    return problems


def _missing_files(split: str, facts: SplitFacts) -> list[Problem]:
    missing = np.flatnonzero(~facts.present)
    if not len(missing):
        return []
    examples = ", ".join(facts.listing.names[i] for i in missing[:3])
    text = (
        f"{split}: {len(missing):,} of {len(facts.present):,} image files are missing or empty, "
        f"first {examples}"
    )
    return [Problem(text, True)]


def _empty_classes(listing: Listing) -> list[Problem]:
    problems = []
    for split in ("train", "test"):
        present = np.unique(listing.split(split).targets)
        absent = sorted(set(range(len(listing.class_names))) - set(present.tolist()))
        if absent:
            names = ", ".join(listing.class_names[i] for i in absent[:3])
            text = f"{split}: {len(absent)} classes have no image, e.g. {names}"
            problems.append(Problem(text, False))
    return problems
