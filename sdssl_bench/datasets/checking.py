"""`data check`: is a copy complete and right, and if not, what is missing and where does it come from.

What all kinds of sets share; what is verified stands in the `check` of each kind's module.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from sdssl_bench.datasets import catalogue
from sdssl_bench.datasets.base import ImageError, ImageSet, in_threads
from sdssl_bench.datasets.copies import Copies
from sdssl_bench.datasets.specs.specification import KINDS, NotFoundError
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
        copies: of a classification set, its test images that are training images too.
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
    copies: Copies | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def check(
    name: str, *, data_root: Path | None, decode: bool = False, num_workers: int | None = None
) -> CheckReport:
    """Verify a set, and decode all its images if `decode`.

    Never raises for what is wrong with the data: that is the report.

    Args:
        name: of the set, or of a set of one's own, such as "folder:PATH".
        data_root: folder that holds the sets, or the set itself.
        decode: whether every image is decoded.
        num_workers: threads that decode; all cores if None.

    Raises:
        UsageError: for an unknown name.
    """
    kind = catalogue.kind_of(name)
    verify = resolve_name(f"{KINDS[kind]}:check")
    try:
        report: CheckReport = verify(
            name, data_root=data_root, decode=decode, num_workers=num_workers
        )
    except DataError as error:
        state = "not found" if isinstance(error, NotFoundError) else "wrong"
        layout = catalogue.layout(name)
        obtain = "" if layout in str(error) else layout
        return CheckReport(name, False, state, problems=(str(error),), obtain=obtain)
    return report


def outcome(
    name: str,
    *,
    variant: str | None,
    root: Path,
    verified: Sequence[str],
    problems: Sequence[str],
    unreadable: tuple[str, ...] | None,
) -> CheckReport:
    """The report of a copy that was found and whose `problems`, if any, leave parts that can be scored."""
    return CheckReport(
        name=name,
        ok=not problems and not unreadable,
        state="incomplete" if problems else "complete",
        variant=variant,
        root=str(root),
        verified=tuple(verified),
        problems=tuple(problems),
        unreadable=unreadable,
        obtain=catalogue.layout(name) if problems else "",
    )


def unreadable(reads: Sequence[Callable[[], object]], num_workers: int | None) -> tuple[str, ...]:
    """The messages of those of `reads` that cannot read their file, in their order."""
    return tuple(message for message in in_threads(_fault, reads, num_workers) if message)


def unreadable_images(sets: Sequence[ImageSet], num_workers: int | None) -> tuple[str, ...]:
    """`unreadable` of all images of some sets."""
    reads = [partial(images.load, index) for images in sets for index in range(len(images))]
    return unreadable(reads, num_workers)


def _fault(read: Callable[[], object]) -> str | None:
    try:
        read()
    except (ImageError, DataError) as error:
        return str(error)
    return None


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
    if report.copies:
        sign = "+" if report.copies.compared and not report.copies.test_images else "!"
        lines.append(f"  {sign} {report.copies.text}")
    lines += ["  - " + problem.replace("\n", "\n    ") for problem in report.problems]
    bad = report.unreadable or ()
    if bad:
        lines.append(f"  - {len(bad):,} images cannot be decoded:")
        lines += [f"    {line}" for line in bad[:most]]
        if len(bad) > most:
            lines.append(f"    and {len(bad) - most:,} more")
    # An error that says "not found" has the tree in it already.
    if report.state != "not found":
        lines += [f"  {line}" for line in report.obtain.splitlines()]
    return "\n".join(lines)
