"""What a pass through the encoder will cost: from a few of its own batches, done here and now.

The batches are those that the pass would form, spread over the images; decoding, the encoder's own
forward pass at its own geometry and the poolings are what they will be. Nothing is stored.
"""

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from sdssl_bench.datasets import ImageSet
from sdssl_bench.encoders import POOLINGS, Encoder
from sdssl_bench.features.extraction import keys_of
from sdssl_bench.features.forward import Forward, placed
from sdssl_bench.features.identity import Preprocess, feature_identity, key_of
from sdssl_bench.features.loading import MAX_THREADS, load_batch
from sdssl_bench.features.sources import OneSize, Source
from sdssl_bench.features.store import BankFolder, BankKey
from sdssl_bench.system import Work, available_cpus, num_processes, resolve_device
from sdssl_bench.task import RunContext, limited_indices

SECONDS = 2.0
"""Spent on batches, after a first one that warms up; one batch at least is timed."""

Rows = NDArray[np.int64]


def extract_work(
    encoder: Encoder,
    images: ImageSet,
    layers: Sequence[int],
    *,
    poolings: Sequence[str] = ("cls",),
    preprocess: Preprocess,
    ctx: RunContext,
    rows: Rows | None = None,
) -> Work:
    """What `extract` would do with the same arguments."""
    source = OneSize(images, preprocess, POOLINGS)
    return extract_from_work(source, encoder, layers, poolings=poolings, ctx=ctx, rows=rows)


def extract_from_work(
    source: Source,
    encoder: Encoder,
    layers: Sequence[int],
    *,
    poolings: Sequence[str],
    ctx: RunContext,
    rows: Rows | None = None,
) -> Work:
    """What `extract_from` would do with the same arguments."""
    images = source.images
    facts = feature_identity(
        encoder, images, preprocess=source.preprocess, dtype=ctx.dtype, bank_dtype=ctx.bank_dtype
    )
    folder = BankFolder(ctx.cache_dir.expanduser() / "features" / key_of(facts), len(images))
    wanted = limited_indices(len(images), ctx.limit) if rows is None else rows
    missing: dict[BankKey, Rows] = {}
    for key in keys_of(encoder, layers, poolings):
        width = {key.name: encoder.dims[key.layer - 1]}
        done = np.zeros(len(images), dtype=bool)
        if folder.holds(facts, width, ctx.bank_dtype):
            done = folder.state(folder.files(list(width)))[key.name].done
        if not done[wanted].all():
            missing[key] = wanted[~done[wanted]]
    todo = np.unique(np.concatenate([wanted[:0], *missing.values()]))
    size = np.dtype(ctx.bank_dtype).itemsize
    return Work(
        what=f"features of {images.dataset} {images.split}",
        items=len(todo),
        unit="images",
        stored=len(wanted) - len(todo),
        measure=partial(_measure, source, encoder, list(missing), todo, ctx=ctx),
        writes={
            f"{folder.path}/{key.name}": len(lacking) * encoder.dims[key.layer - 1] * size
            for key, lacking in missing.items()
        },
    )


def _measure(
    source: Source,
    encoder: Encoder,
    keys: Sequence[BankKey],
    rows: Rows,
    *,
    ctx: RunContext,
) -> float:
    device = torch.device(resolve_device(ctx.device))
    forward = Forward(
        encoder,
        keys,
        device=device,
        dtype=ctx.dtype,
        batch_size=ctx.batch_size,
        pools=source.pools,
        views=source.views,
    )
    groups = source.groups(
        rows, batch_size=ctx.batch_size, device=device, piece=forward.piece, part=(0, 1)
    )
    forward.piece = max(len(group.rows) for group in groups)
    with placed(encoder, device):
        return batch_seconds(
            source.images, source.preprocess, [g.rows for g in groups], forward, ctx=ctx
        )


def batch_seconds(
    images: ImageSet,
    preprocess: Preprocess,
    groups: Sequence[Rows],
    forward: Forward,
    *,
    ctx: RunContext,
) -> float:
    """Seconds that loading groups of images and their forward passes take, all processes sharing them.

    Args:
        images: the dataset, or another source that `load_batch` reads.
        preprocess: image -> uint8 tensor.
        groups: dataset indices of each batch.
        forward: of the encoder, which is in its place.
        ctx: device and number of loading processes.
    """
    every = sum(len(rows) for rows in groups)
    loading = passing = 0.0
    timed = 0
    # From the middle: the last group can be a small one. Where there is one group, it is taken twice.
    places = np.linspace(0, len(groups) - 1, 2 * min(len(groups), 16) + 1).astype(int)[1::2]
    for number, place in enumerate([places[len(places) // 2], *places]):
        started = time.perf_counter()
        batch = load_batch(images, preprocess, groups[place])
        loaded = time.perf_counter()
        if batch.pixels is not None:
            forward(batch.pixels)
        if number == 0:
            continue
        loading += loaded - started
        passing += time.perf_counter() - loaded
        timed += len(groups[place])
        if loading + passing > SECONDS:
            break
    on_cpu = torch.device(resolve_device(ctx.device)).type == "cpu"
    workers = ctx.num_workers or (1 if on_cpu else MAX_THREADS)
    loading /= min(workers, available_cpus())
    # Loading goes on beside an accelerator, and takes its time from a CPU.
    spent = loading + passing if on_cpu else max(loading, passing)
    return spent * every / timed / num_processes()
