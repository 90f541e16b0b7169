"""`data check`: is a copy complete and right, and if not, what is missing and where does it come from."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sdssl_bench.datasets.base import (
    ClassificationData,
    ImageError,
    ImageSet,
    truncated_is_an_error,
)
from sdssl_bench.datasets.inspection import Inspection, inspect
from sdssl_bench.datasets.layouts import layout, spec
from sdssl_bench.datasets.loading import load
from sdssl_bench.errors import DataError


@dataclass(frozen=True)
class CheckReport:
    """What was found; JSON values only, see `to_json`.

    Attributes:
        name: of the set.
        ok: complete, right, and every image readable if they were decoded.
        state: "complete", "incomplete" (--allow-partial would score it), "wrong" or "not found".
        variant: "official", "mini", "partial" or "folder"; None if it cannot be loaded at all.
        root: folder that was read.
        counts: split -> {"expected", "found", "classes", "fewest", "most"}; the last two are images
            per class, of classes that have any.
        num_classes: {"expected", "found"}.
        verified: statements that hold.
        problems: statements of what is expected and what was found instead.
        unreadable: "file: reason" of every image that cannot be decoded; None if none was decoded.
        obtain: expected tree and origin, when something is wrong.
    """

    name: str
    ok: bool
    state: str
    variant: str | None = None
    root: str | None = None
    counts: dict[str, dict[str, int | None]] = field(default_factory=dict)
    num_classes: dict[str, int | None] = field(default_factory=dict)
    verified: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    unreadable: tuple[str, ...] | None = None
    obtain: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def check(
    name: str, *, data_root: Path | None, decode: bool = False, num_workers: int | None = None
) -> CheckReport:
    """Verify counts, classes, labels, splits, checksums of list files, and images if `decode`.

    Never raises for what is wrong with the data: that is the report.

    Raises:
        UsageError: for an unknown name.
    """
    if name.startswith("folder:"):
        return _check_folder(name, decode, num_workers=num_workers)
    entry = spec(name)
    try:
        found = inspect(entry, data_root)
    except DataError as error:
        state = "not found" if "was not found" in str(error) or data_root is None else "wrong"
        return CheckReport(name, False, state, problems=(str(error),), obtain=layout(name))
    problems = [p.text for p in found.problems]
    wrong = any(not p.tolerable for p in found.problems)
    sums = [] if found.expected.marker else _checksum_problems(found)
    unreadable = None
    variant = None
    if not wrong:
        try:
            data = load(name, data_root=data_root, allow_partial=True)
        except DataError as error:
            problems = [str(error)]
        else:
            variant = data.variant
            unreadable = _unreadable(data, num_workers) if decode else None
    state = "wrong" if wrong or sums else "incomplete" if problems else "complete"
    return CheckReport(
        name=name,
        ok=state == "complete" and not unreadable,
        state=state,
        variant=variant,
        root=str(found.root),
        counts=_counts(found),
        num_classes={"expected": found.expected.num_classes, "found": len(found.class_names)},
        verified=_verified(found, sums, unreadable),
        problems=tuple(problems + sums),
        unreadable=unreadable,
        obtain="" if state == "complete" else layout(name),
    )


def _counts(found: Inspection) -> dict[str, dict[str, int | None]]:
    counts: dict[str, dict[str, int | None]] = {}
    for split, facts in found.splits.items():
        own = _per_class(facts.listing.targets[facts.present])
        counts[split] = {"expected": found.expected.sizes[split], **own}
    return counts


def _per_class(targets: Any) -> dict[str, int | None]:
    _, sizes = np.unique(targets, return_counts=True)
    fewest, most = (int(sizes.min()), int(sizes.max())) if len(sizes) else (0, 0)
    return {"found": len(targets), "classes": len(sizes), "fewest": fewest, "most": most}


def _verified(
    found: Inspection, sums: Sequence[str], unreadable: Sequence[str] | None
) -> tuple[str, ...]:
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
    if unreadable is not None and not unreadable:
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


def _unreadable(data: ClassificationData, num_workers: int | None) -> tuple[str, ...]:
    # Pillow decodes outside the interpreter lock, so threads are enough.
    workers = (os.cpu_count() or 1) if num_workers is None else max(1, num_workers)
    with truncated_is_an_error(), ThreadPoolExecutor(workers) as pool:
        return tuple(
            message
            for split in (data.train, data.test)
            for message in pool.map(lambda i, s=split: _fault(s, i), range(len(split)))
            if message
        )


def _fault(images: ImageSet, index: int) -> str | None:
    try:
        images.load(index)
    except ImageError as error:
        return str(error)
    return None


def _check_folder(name: str, decode: bool, *, num_workers: int | None) -> CheckReport:
    try:
        data = load(name, data_root=None)
    except DataError as error:
        return CheckReport(name, False, "wrong", problems=(str(error),), obtain=layout(name))
    unreadable = _unreadable(data, num_workers) if decode else None
    counts: dict[str, dict[str, int | None]] = {
        s.split: {"expected": None, **_per_class(s.targets)} for s in (data.train, data.test)
    }
    absent = data.notes.get("classes_without_test_images", [])
    return CheckReport(
        name=name,
        ok=not unreadable,
        state="complete",
        variant="folder",
        root=str(data.train.root),
        counts=counts,
        num_classes={"expected": None, "found": data.train.num_classes},
        verified=(
            "every class folder has images; every test class is in train",
            *((f"{len(absent)} classes have no test image",) if absent else ()),
            *(("every image decodes",) if unreadable == () else ()),
        ),
        unreadable=unreadable,
    )


def render(report: CheckReport, *, most: int = 20) -> str:
    """The report as lines for a terminal; at most `most` unreadable files are named."""
    mark = "ok" if report.ok else "NOT OK"
    state = report.state + (f", {report.variant}" if report.variant else "")
    lines = [f"{report.name}: {mark} ({state})" + (f" in {report.root}" if report.root else "")]
    for split, count in report.counts.items():
        of = "" if count["expected"] is None else f" of {count['expected']:,}"
        lines.append(
            f"  {split}: {count['found']:,}{of} images, {count['classes']:,} classes, "
            f"{count['fewest']:,} to {count['most']:,} images per class"
        )
    lines += [f"  + {statement}" for statement in report.verified]
    lines += ["  - " + problem.replace("\n", "\n    ") for problem in report.problems]
    bad = report.unreadable or ()
    if bad:
        lines.append(f"  - {len(bad):,} images cannot be decoded:")
        lines += [f"    {line}" for line in bad[:most]]
        if len(bad) > most:
            lines.append(f"    and {len(bad) - most:,} more")
    # An error that says "not found" has the tree in it already.
    if report.obtain and report.state != "not found":
        lines += [f"  {line}" for line in report.obtain.splitlines()]
    return "\n".join(lines)
