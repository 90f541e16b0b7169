"""`data check roxford5k rparis6k copydays`: is a copy complete, and does every image decode."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sdssl_bench.datasets import copydays, roxford_rparis
from sdssl_bench.datasets.base import ImageError, ImageSet, truncated_is_an_error
from sdssl_bench.datasets.checking import CheckReport
from sdssl_bench.datasets.ground_truth import LABELS
from sdssl_bench.errors import DataError


def check_revisited(
    name: str, *, data_root: Path | None, decode: bool = False, num_workers: int | None = None
) -> CheckReport:
    """Verify ground truth and images of roxford5k or rparis6k. Never raises for bad data."""
    try:
        found = roxford_rparis.inspect(name, data_root)
    except DataError as error:
        return _failed(name, error, data_root)
    truth, problems = found.truth, found.problems
    verified = [
        f"{found.file.name}: {len(truth.queries)} queries, {len(truth.database):,} database images; "
        + ", ".join(f"{sum(map(len, truth.labels[k])):,} {k}" for k in LABELS),
        "every index lies in the list, no image has two labels of one query, every box has an area",
    ]
    unreadable = None
    variant: str | None = "partial" if problems else "mini" if found.mini else "official"
    try:
        data = roxford_rparis.load(name, data_root=data_root, allow_partial=True)
    except DataError:
        variant = None
    else:
        verified.append(
            f"{len(data.queries)} query images and {len(data.database):,} database images are there"
        )
        unreadable = _unreadable((data.queries, data.database), num_workers) if decode else None
    return CheckReport(
        name=name,
        ok=not problems and not unreadable,
        state="incomplete" if problems else "complete",
        variant=variant,
        root=str(found.root),
        verified=tuple(verified),
        problems=problems,
        unreadable=unreadable,
        obtain=roxford_rparis.layout(name) if problems else "",
    )


def check_copydays(
    *, data_root: Path | None, decode: bool = False, num_workers: int | None = None
) -> CheckReport:
    """Verify the blocks of Copydays, or of a made set. Never raises for bad data."""
    name = copydays.NAME
    try:
        found = copydays.inspect(data_root)
        data = copydays.load(data_root=data_root, allow_partial=True)
    except DataError as error:
        return _failed(name, error, data_root)
    kinds = {
        "official": "INRIA Copydays",
        "mini": "a miniature made of attacks",
        "attacks": "a set made by 'data copydays', not INRIA Copydays",
    }
    sizes = {block: len(rows) for block, rows in data.rows.items()}
    unreadable = _unreadable((data.images,), num_workers) if decode else None
    return CheckReport(
        name=name,
        ok=not found.problems and not unreadable,
        state="incomplete" if found.problems else "complete",
        variant=data.variant,
        root=str(found.root),
        verified=(
            kinds[found.kind],
            f"{sizes['original']} originals, {sizes.get('strong', 0)} strong copies, "
            f"{sum(sizes.values()):,} images in {len(sizes)} of {len(copydays.BLOCKS)} blocks",
            "every copy that is counted has its original, by number",
        ),
        problems=found.problems,
        unreadable=unreadable,
        obtain=copydays.LAYOUT if found.problems else "",
    )


def _failed(name: str, error: DataError, data_root: Path | None) -> CheckReport:
    missing = data_root is None or "was not found" in str(error)
    return CheckReport(name, False, "not found" if missing else "wrong", problems=(str(error),))


def _unreadable(sets: Sequence[ImageSet], num_workers: int | None) -> tuple[str, ...]:
    with truncated_is_an_error(), ThreadPoolExecutor(max(1, num_workers or 4)) as pool:
        return tuple(
            fault
            for images in sets
            for fault in pool.map(lambda i, s=images: _fault(s, i), range(len(images)))
            if fault
        )


def _fault(images: ImageSet, index: int) -> str | None:
    try:
        images.load(index)
    except ImageError as error:
        return str(error)
    return None
