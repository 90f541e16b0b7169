"""Find a set, read its lists, and verify everything that can be verified without decoding.

A problem is tolerable when a part is missing and the rest is right: --allow-partial then scores what
is there. Anything that makes a label or a split doubtful is never tolerable.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

import numpy as np

from sdssl_bench.datasets.listing import Listing, SplitFacts, split_facts
from sdssl_bench.datasets.specs.specification import DatasetSpec


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
    root, _ = spec.find(data_root)
    expected = _expected(spec, root)
    listing: Listing = resolve_name(spec.reader)(root, expected.num_classes)
    splits = {split: split_facts(root, listing.split(split)) for split in ("train", "test")}
    problems = [
        *_class_problems(listing, expected),
        *label_problems(listing),
        *overlap_problems(listing),
        *_count_problems(spec, listing, expected),
    ]
    for split, facts in splits.items():
        problems += _missing_files(split, facts)
    if not any(p.tolerable for p in problems):
        problems += _empty_classes(listing)
    return Inspection(spec, root, expected, listing.class_names, splits, tuple(problems))


def _expected(spec: DatasetSpec, root: Path) -> Expected:
    mini = spec.miniature_at(root)
    if mini is None:
        return Expected(spec.num_classes, dict(spec.sizes), None)
    marker, counts = mini
    return Expected(counts.pop("classes"), counts, marker)


def _class_problems(listing: Listing, expected: Expected) -> list[Problem]:
    found = len(listing.class_names)
    if found == expected.num_classes:
        return []
    fewer = listing.from_folders and found < expected.num_classes
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
            twice = next(value for value, count in Counter(values).items() if count > 1)
            text = (
                f"{split}: {len(values) - len(unique[split]):,} items are listed more than once, "
                f"e.g. {twice}"
            )
            problems.append(Problem(text, False))
    both = sorted(unique["train"] & unique["test"])
    if both:
        text = f"train and test share {len(both):,} items, e.g. {', '.join(both[:3])}"
        problems.append(Problem(text, False))
    return problems


def _count_problems(spec: DatasetSpec, listing: Listing, expected: Expected) -> list[Problem]:
    problems = [Problem(f"the file {name} is missing", True) for name in listing.absent]
    where = "" if listing.from_folders or listing.train.pixels is not None else " in the lists"
    for split, count in expected.sizes.items():
        found = len(listing.split(split).targets)
        if found != count:
            text = f"{split}: expected {count:,} images, found {found:,}{where}"
            problems.append(Problem(text, found < count))
    if problems and expected.marker is None:
        problems += _short_folders(listing, spec.fewest)
    return problems


def _short_folders(listing: Listing, least: Mapping[str, int]) -> list[Problem]:
    """Class folders that are smaller than any official one."""
    problems = []
    for split, fewest in least.items():
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
