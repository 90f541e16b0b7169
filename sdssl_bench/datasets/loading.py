"""From a verified copy to the two splits that tasks use; identity of the images."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from sdssl_bench.datasets.base import ClassificationData, ImageSet
from sdssl_bench.datasets.folders import read_folder
from sdssl_bench.datasets.inspection import (
    Inspection,
    SplitFacts,
    inspect,
    overlap_problems,
    split_facts,
)
from sdssl_bench.datasets.layouts import obtain, spec
from sdssl_bench.errors import DataError


def load(name: str, *, data_root: Path | None, allow_partial: bool = False) -> ClassificationData:
    """One of the ten sets or "folder:PATH", verified.

    Args:
        name: one of NAMES, or "folder:" and a path (absolute, or relative to the working folder).
        data_root: folder that holds the sets, or the set itself; not used for a folder.
        allow_partial: take what is there of an incomplete copy, and note that.

    Raises:
        UsageError: for an unknown name.
        DataError: if it is missing, incomplete (without `allow_partial`), or wrong.
    """
    if name.startswith("folder:"):
        return _load_folder(name)
    found = inspect(spec(name), data_root)
    wrong = [p.text for p in found.problems if not p.tolerable]
    if wrong:
        raise DataError(_message(found, "is not what it should be", wrong))
    if not found.problems:
        variant = "mini" if found.expected.marker else "official"
        return _assemble(found, variant, {})
    texts = [p.text for p in found.problems]
    if not allow_partial:
        raise DataError(_message(found, "is incomplete", texts, hint=True))
    for split, facts in found.splits.items():
        if not facts.present.any():
            raise DataError(_message(found, f"has no {split} image at all", texts))
    return _assemble(found, "partial", _partial_notes(found))


def _message(found: Inspection, verdict: str, texts: list[str], *, hint: bool = False) -> str:
    expected = " and ".join(f"{n:,} {split}" for split, n in found.expected.sizes.items())
    there = " and ".join(f"{int(f.present.sum()):,}" for f in found.splits.values())
    lines = [
        f"{found.spec.title} ({found.spec.name}) in {found.root} {verdict}: expected {expected} "
        f"images, found {there}.",
        *(f"  {text}" for text in texts),
    ]
    if found.expected.marker:
        lines.append(
            f"{found.expected.marker} says what this miniature has; write it again with "
            "'sdssl-bench data mini DIR'."
        )
    else:
        lines.append(f"Extract the official archives again. {obtain(found.spec)}")
    if hint:
        lines.append("Or pass --allow-partial: it scores what is there and says so in the record.")
    return "\n".join(lines)


def _partial_notes(found: Inspection) -> dict[str, Any]:
    notes: dict[str, Any] = {"partial_of": "mini" if found.expected.marker else "official"}
    for split, facts in found.splits.items():
        present = np.unique(facts.listing.targets[facts.present])
        notes[split] = {
            "expected": found.expected.sizes[split],
            "found": int(facts.present.sum()),
            "num_classes_present": len(present),
            "classes_present": [found.class_names[i] for i in present],
        }
    return notes


def _assemble(found: Inspection, variant: str, notes: dict[str, Any]) -> ClassificationData:
    tolerated = found.spec.tolerated
    if found.spec.notes:
        notes = {**notes, "remarks": list(found.spec.notes)}
    if tolerated:
        listed = {n for facts in found.splits.values() for n in facts.listing.names}
        notes = {**notes, "damaged_images_tolerated": sorted(tolerated & listed)}
    train, test = (
        image_set(
            facts,
            dataset=found.spec.name,
            split=split,
            root=found.root,
            class_names=found.class_names,
            expected=found.expected.sizes[split],
            tolerated=tolerated,
        )
        for split, facts in found.splits.items()
    )
    return ClassificationData(found.spec.name, variant, found.spec.headline, train, test, notes)


def _load_folder(name: str) -> ClassificationData:
    text = name.removeprefix("folder:")
    root = Path(text).expanduser()
    if not text or not root.is_dir():
        raise DataError(f"Expected a folder after 'folder:', found '{text}', which is none.")
    listing, test = read_folder(root)
    wrong = overlap_problems(listing)
    splits = {}
    for split in ("train", "test"):
        facts = split_facts(root, listing.split(split))
        bad = np.flatnonzero(~facts.present)
        if len(bad):
            names = ", ".join(facts.listing.names[i] for i in bad[:5])
            raise DataError(
                f"{name}: {len(bad):,} {split} files are empty or broken links, first {names}. "
                "Remove or repair them."
            )
        splits[split] = facts
    if wrong:
        raise DataError(f"{name}: {wrong[0].text}.")
    sets = {
        split: image_set(
            facts, dataset=name, split=split, root=root, class_names=listing.class_names
        )
        for split, facts in splits.items()
    }
    absent = sorted(set(range(len(listing.class_names))) - set(listing.test.targets.tolist()))
    notes: dict[str, Any] = {"test_folder": test}
    if absent:
        notes["classes_without_test_images"] = [listing.class_names[i] for i in absent]
    return ClassificationData(name, "folder", "top1", sets["train"], sets["test"], notes)


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
        expected=expected,
        predefined_val=None if val is None else np.flatnonzero(np.isin(keep, val)).astype(np.int64),
        tolerated=tolerated & frozenset(names),
    )
