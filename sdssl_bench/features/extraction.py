"""Features of a dataset split: one forward pass per image for all layers, poolings and points asked.

Rows go by dataset index into banks in the cache, whatever the batch size, the number of workers or of
processes (`accelerate launch`). What is stored already is not computed again, and a killed run goes on
where its journal ends.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from errno import ENOSPC

import numpy as np
import torch
from numpy.typing import NDArray

from sdssl_bench.datasets import ImageSet
from sdssl_bench.encoders import POOLINGS, Encoder, check_layers
from sdssl_bench.errors import DataError, TaskError, UsageError, UserError, did_you_mean
from sdssl_bench.features.bank import FeatureBank
from sdssl_bench.features.forward import DTYPES
from sdssl_bench.features.identity import Facts, Preprocess, feature_identity, key_of
from sdssl_bench.features.passes import ADVICE, STOP, Pass, PassResult, StoppedError, run_pass
from sdssl_bench.features.sources import OneSize, Pool, Source
from sdssl_bench.features.store import BankFile, BankFolder, BankKey, alone
from sdssl_bench.system import (
    agreed,
    gather_objects,
    is_main_process,
    resolve_device,
    unwritable,
    writing,
)
from sdssl_bench.task import RunContext, limited_indices

SHOWN = 20
"""Unreadable images that an error names."""


@dataclass(frozen=True, eq=False)
class _Plan:
    """What one extraction has to do; made by the main process for all.

    Attributes:
        files: every bank asked for.
        wanted: dataset indices asked for.
        missing: which rows to write, [N] per bank that lacks some.
    """

    files: dict[str, BankFile]
    wanted: NDArray[np.int64]
    missing: dict[str, NDArray[np.bool_]]


def extract(
    encoder: Encoder,
    images: ImageSet,
    layers: Sequence[int],
    *,
    poolings: Sequence[str] = ("cls",),
    preprocess: Preprocess,
    ctx: RunContext,
    rows: NDArray[np.int64] | None = None,
) -> FeatureBank:
    """Features of every image for all layers and poolings, from the cache as far as it has them.

    Under a launcher every process must call this; each computes its share and gets the whole bank.

    Args:
        encoder: loaded, with `info` set; the bank is of its point, and that of all its points is made in the
            same pass. It runs in eval mode on `ctx.device` and is handed back as
            it was.
        images: one split.
        layers: any of 1..L.
        poolings: names from `encoders.POOLINGS`.
        preprocess: RGB image -> uint8 tensor, picklable.
        ctx: cache, device, precision, batch size, workers, limit and what to do about bad images.
        rows: the only images wanted, ascending, in place of those of `ctx.limit`. They share the banks
            of the whole split, so that no image of it is decoded twice.

    Returns:
        The bank; rows in dataset order, those of `ctx.limit` or without skipped images if so asked.

    Raises:
        UsageError: for a layer, pooling or precision that does not exist.
        DataError: for a split without images.
        TaskError: for features that are not finite, images that cannot be read (after all others are
            stored), or a cache that cannot be written.
    """
    source = OneSize(images, preprocess, POOLINGS)
    return extract_from(source, encoder, layers, poolings=poolings, ctx=ctx, rows=rows)


def extract_from(
    source: Source,
    encoder: Encoder,
    layers: Sequence[int],
    *,
    poolings: Sequence[str],
    ctx: RunContext,
    rows: NDArray[np.int64] | None = None,
) -> FeatureBank:
    """`extract` for images of any source; same arguments, result and errors."""
    started = time.perf_counter()
    images = source.images
    keys = _check_request(encoder, layers, poolings, pools=source.pools, ctx=ctx)
    if len(images) == 0:
        raise DataError(f"{images.dataset} {images.split}: expected images, found none.")
    facts = feature_identity(
        encoder, images, preprocess=source.preprocess, dtype=ctx.dtype, bank_dtype=ctx.bank_dtype
    )
    folder = BankFolder(ctx.cache_dir.expanduser() / "features" / key_of(facts), len(images))
    what = f"{images.dataset} {images.split}"
    wanted = limited_indices(len(images), ctx.limit) if rows is None else rows
    with ExitStack() as stack:

        def prepare() -> _Plan:
            widths = {one.name: encoder.dims[one.layer - 1] for one in keys}
            lock = alone(folder.path, progress=ctx.progress, what=what)
            try:
                with writing(folder.path.parent, advice=ADVICE):
                    stack.enter_context(lock)
                    _prepare(folder, facts, widths, encoder=encoder, ctx=ctx)
            except UserError:
                # A cache that only others may write is good for what it holds.
                if not folder.holds(facts, widths, ctx.bank_dtype):
                    raise
                plan = _make_plan(folder, widths, wanted)
                if plan.missing:
                    raise
                return plan
            return _make_plan(folder, widths, wanted)

        plan = agreed(prepare)
        seconds: dict[str, float] = {}
        bad: dict[int, str] = {}
        if plan.missing:
            job = Pass(
                folder=folder,
                files={name: plan.files[name] for name in plan.missing},
                missing=plan.missing,
                keys=[one for one in keys if one.name in plan.missing],
                device=torch.device(resolve_device(ctx.device)),
                ctx=ctx,
            )
            seconds = _joined(gather_objects(run_pass(encoder, source, job)))
            bad = agreed(lambda: _prove(folder, plan))
            _report_bad(bad, len(plan.wanted), what, skip=ctx.on_bad_image == "skip")
        elif ctx.progress is not None and is_main_process():
            ctx.progress.message(f"features of {what}: {len(plan.wanted):,} images from the cache")
        indices = np.setdiff1d(plan.wanted, np.fromiter(bad, np.int64, len(bad)))
        return FeatureBank(
            {
                (one.layer, one.pooling): plan.files[one.name]
                for one in keys
                if one.point == encoder.point
            },
            len(images),
            indices=indices,
            targets=images.targets[indices],
            bad_images=[bad[row] for row in sorted(bad)],
            seconds={**seconds, "total": time.perf_counter() - started},
            cached=not plan.missing,
        )


def _check_request(
    encoder: Encoder,
    layers: Sequence[int],
    poolings: Sequence[str],
    *,
    pools: Mapping[str, Pool],
    ctx: RunContext,
) -> list[BankKey]:
    for pooling in poolings:
        if pooling not in pools:
            raise UsageError(did_you_mean("pooling", pooling, pools))
    if ctx.dtype not in DTYPES:
        raise UsageError(did_you_mean("dtype", ctx.dtype, DTYPES))
    if ctx.bank_dtype not in ("float32", "float16"):
        raise UsageError(did_you_mean("bank dtype", ctx.bank_dtype, ("float32", "float16")))
    if ctx.on_bad_image not in ("error", "skip"):
        raise UsageError(did_you_mean("on_bad_image", ctx.on_bad_image, ("error", "skip")))
    if ctx.batch_size is not None and ctx.batch_size < 1:
        raise UsageError(f"The batch size is a number of images from 1, found {ctx.batch_size}.")
    if not poolings:
        raise UsageError(f"No pooling was asked for. Known: {', '.join(pools)}.")
    return keys_of(encoder, layers, poolings)


def keys_of(encoder: Encoder, layers: Sequence[int], poolings: Sequence[str]) -> list[BankKey]:
    """The banks of one extraction: those of every point that was asked for with the encoder's own.

    Raises:
        UsageError: for a layer that does not exist.
    """
    return [
        BankKey(layer, pooling, point)
        for layer in check_layers(layers, encoder.depth)
        for pooling in dict.fromkeys(poolings)
        for point in encoder.points
    ]


def _prepare(
    folder: BankFolder, facts: Facts, widths: dict[str, int], *, encoder: Encoder, ctx: RunContext
) -> None:
    assert encoder.info is not None
    about = {
        "model": encoder.info.name,
        "dataset": facts["images"]["dataset"],
        "split": facts["images"]["split"],
        "details": encoder.info.details,
    }
    folder.prepare(facts, widths, ctx.bank_dtype, about=about)
    (folder.path / "last-used").touch()
    (folder.path / STOP).unlink(missing_ok=True)


def _make_plan(folder: BankFolder, widths: dict[str, int], wanted: NDArray[np.int64]) -> _Plan:
    files = folder.files(list(widths))
    missing = {}
    for name, state in folder.state(files).items():
        lacking = np.zeros(folder.num_rows, dtype=bool)
        lacking[wanted] = ~state.done[wanted]
        if lacking.any():
            missing[name] = lacking
    need = sum(int(rows.sum()) * files[name].row_bytes for name, rows in missing.items())
    free = shutil.disk_usage(folder.path).free
    if need > free:
        short = f"{need / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        raise unwritable(OSError(ENOSPC, short), folder.path.parent, advice=ADVICE)
    return _Plan(files, wanted, missing)


def _joined(results: list[PassResult]) -> dict[str, float]:
    """Seconds of the main process; or the error of the process that failed, in every process."""
    errors = [result.error for result in results if result.error is not None]
    if errors:
        raise min(errors, key=lambda error: isinstance(error, StoppedError))
    return results[0].seconds


def _prove(folder: BankFolder, plan: _Plan) -> dict[int, str]:
    """Every wanted row is vouched for or unreadable; returns the unreadable ones."""
    states = folder.state(plan.files)
    wanted = set(plan.wanted.tolist())
    bad = {r: why for state in states.values() for r, why in state.bad.items() if r in wanted}
    for name, state in states.items():
        lost = [row for row in plan.wanted[~state.done[plan.wanted]].tolist() if row not in bad]
        if lost:
            raise TaskError(
                f"Bank {name} in {folder.path} lacks {len(lost)} rows that should be written (first: "
                f"{lost[0]}). Is the cache on a disk that all processes share? Run again to complete it."
            )
    folder.seal(states, plan.files)
    return bad


def _report_bad(bad: dict[int, str], wanted: int, what: str, *, skip: bool) -> None:
    if not bad or (skip and len(bad) < wanted):
        return
    rows = sorted(bad)
    shown = "\n  ".join(bad[row] for row in rows[:SHOWN])
    more = f"\n  and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    raise TaskError(
        f"{len(bad)} of {wanted} images of {what} cannot be read:\n  {shown}{more}\n"
        "The features of all others are kept. Repair these files and run again, or leave them out "
        "with --on-bad-image skip, which is recorded."
    )
