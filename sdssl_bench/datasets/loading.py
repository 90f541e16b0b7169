"""Classification sets: from a verified copy to the two splits that tasks use, and what `data check` says."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np

from sdssl_bench.datasets.base import ClassificationData
from sdssl_bench.datasets.catalogue import spec
from sdssl_bench.datasets.checking import CheckReport, outcome
from sdssl_bench.datasets.copies import Copies, find_copies, read_all
from sdssl_bench.datasets.inspection import Inspection, inspect, overlap_problems
from sdssl_bench.datasets.kept_trees import kept_in
from sdssl_bench.datasets.listing import OwnSet, image_set, split_facts
from sdssl_bench.datasets.specs.own import OwnSource, own_source
from sdssl_bench.errors import DataError
from sdssl_bench.records import digest
from sdssl_bench.task import DatasetInfo


def load(
    name: str,
    *,
    data_root: Path | None,
    allow_partial: bool = False,
    cache_dir: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> ClassificationData:
    """A classification set, verified.

    Args:
        name: of the set, or of a set of one's own, such as "folder:PATH"; see `specs.own`.
        data_root: folder that holds the sets, or the set itself; not used for sets of one's own.
        allow_partial: take what is there of an incomplete copy, and note that.
        cache_dir: root of the cache, where listings of large folders are kept; None keeps none.
        say: told in a sentence if such a folder changed since it was listed.

    Raises:
        UsageError: for an unknown name.
        DataError: if it is missing, incomplete (without `allow_partial`), or wrong.
    """
    source = own_source(name)
    with kept_in(cache_dir, say):
        if source:
            return _load_own(name, source)
        found = inspect(spec(name, kind="classification"), data_root)
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
        lines.append(f"Extract the official archives again. {found.spec.obtain}")
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


def _load_own(name: str, source: OwnSource) -> ClassificationData:
    source_set: OwnSet = resolve_name(source.reader)(name.partition(":")[2])
    listing = source_set.listing
    if wrong := overlap_problems(listing):
        raise DataError(f"{name}: {wrong[0].text}.")
    sets = {}
    for split in ("train", "test"):
        facts = split_facts(source_set.root, listing.split(split))
        bad = np.flatnonzero(~facts.present)
        if len(bad):
            rows = facts.listing.rows
            places = ", ".join(
                facts.listing.names[i] + (f" (row {rows[i]})" if rows is not None else "")
                for i in bad[:5]
            )
            raise DataError(
                f"{name}: {len(bad):,} {split} files are missing, empty or broken links, first "
                f"{places}. Remove or repair them."
            )
        sets[split] = image_set(
            facts, dataset=name, split=split, root=source_set.root, class_names=listing.class_names
        )
    return ClassificationData(name, "folder", "top1", sets["train"], sets["test"], source_set.notes)


def describe(data: ClassificationData) -> DatasetInfo:
    """Identity of both splits: the same images and labels give the same fingerprint anywhere."""
    splits = {"train": data.train, "test": data.test}
    prints = {name: split.fingerprint for name, split in splits.items()}
    return DatasetInfo(
        name=data.name,
        variant=data.variant,
        fingerprint=digest(prints),
        splits={name: len(split) for name, split in splits.items()},
        details={
            "num_classes": data.train.num_classes,
            "headline": data.headline,
            "fingerprints": prints,
            **data.notes,
        },
    )


def check(
    name: str, *, data_root: Path | None, decode: bool = False, num_workers: int | None = None
) -> CheckReport:
    """Counts, classes, labels, splits and checksums of list files; see `check.check`.

    Raises:
        DataError: if there is no copy, or its lists cannot be read.
    """
    if own_source(name):
        return _check_own(name, decode, num_workers=num_workers)
    found = inspect(spec(name, kind="classification"), data_root)
    problems = [p.text for p in found.problems]
    wrong = any(not p.tolerable for p in found.problems)
    sums = [] if found.expected.marker else _checksum_problems(found)
    bad, copies, variant = None, None, None
    if not wrong:
        try:
            data = load(name, data_root=data_root, allow_partial=True)
        except DataError as error:
            problems = [str(error)]
        else:
            variant = data.variant
            bad, copies = _images(data, decode, num_workers)
    report = outcome(
        name,
        variant=variant,
        root=found.root,
        verified=_verified(found, sums, bad),
        problems=problems + sums,
        unreadable=bad,
    )
    counts: dict[str, dict[str, int | None]] = {
        split: {
            "expected": found.expected.sizes[split],
            **_per_class(facts.listing.targets[facts.present]),
        }
        for split, facts in found.splits.items()
    }
    return replace(
        report,
        state="wrong" if wrong or sums else report.state,
        counts=counts,
        copies=copies,
        num_classes={"expected": found.expected.num_classes, "found": len(found.class_names)},
    )


def _images(
    data: ClassificationData, decode: bool, num_workers: int | None
) -> tuple[tuple[str, ...] | None, Copies]:
    """What cannot be decoded, None if nothing was, and the copies between the splits."""
    return read_all(data, num_workers) if decode else (None, find_copies(data, num_workers))


def _per_class(targets: Any) -> dict[str, int | None]:
    _, sizes = np.unique(targets, return_counts=True)
    fewest, most = (int(sizes.min()), int(sizes.max())) if len(sizes) else (0, 0)
    return {"found": len(targets), "classes": len(sizes), "fewest": fewest, "most": most}


def _verified(found: Inspection, sums: Sequence[str], bad: Sequence[str] | None) -> tuple[str, ...]:
    text = " ".join(p.text for p in found.problems)
    sizes = " and ".join(f"{n:,} {split}" for split, n in found.expected.sizes.items())
    kind = "of this miniature" if found.expected.marker else "official"
    statements = [] if found.problems else [f"all {sizes} images are there, the numbers {kind}"]
    if "expected labels" not in text:
        statements.append(f"labels lie in the {len(found.class_names):,} classes")
    if "share" not in text and "more than once" not in text:
        statements.append("train and test are disjoint by name, no item twice")
    if not found.expected.marker and not sums and found.spec.file_md5:
        statements.append("md5 of the list files or batches are the official ones")
    if bad is not None and not bad:
        statements.append("every image present decodes")
    return tuple(statements)


def _checksum_problems(found: Inspection) -> list[str]:
    problems = []
    for file, expected in found.spec.file_md5.items():
        path = found.root / file
        if not path.is_file():
            continue
        with path.open("rb") as stream:
            md5 = hashlib.file_digest(stream, "md5").hexdigest()
        if md5 != expected:
            problems.append(f"{file}: expected md5 {expected}, found {md5}: not the official file")
    return problems


def _check_own(name: str, decode: bool, *, num_workers: int | None) -> CheckReport:
    data = load(name, data_root=None)
    bad, copies = _images(data, decode, num_workers)
    counts: dict[str, dict[str, int | None]] = {
        s.split: {"expected": None, **_per_class(s.targets)} for s in (data.train, data.test)
    }
    absent = {s.split: s.num_classes - len(np.unique(s.targets)) for s in (data.train, data.test)}
    return CheckReport(
        name=name,
        ok=not bad,
        state="complete",
        variant="folder",
        root=str(data.train.root),
        counts=counts,
        num_classes={"expected": None, "found": data.train.num_classes},
        verified=(
            "every test class is in train, no item twice, none in both splits",
            *(f"{n} classes have no {split} image" for split, n in absent.items() if n),
            *(("every image decodes",) if bad == () else ()),
        ),
        unreadable=bad,
        copies=copies,
    )
