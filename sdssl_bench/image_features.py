"""Features of images of many shapes: every image passes through the encoder once for all layers.

Images are batched by shape, which changes no number, and rows are written by index into one
memory-mapped file per layer. The files lie in the feature cache under a digest of everything that
could change them; an extraction that was killed goes on where it stopped, and several processes
share one.
"""

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.datasets.base import truncated_is_an_error
from sdssl_bench.distributed import (
    broadcast,
    gather_objects,
    is_main_process,
    num_processes,
    process_index,
    resolve_device,
    wait_for_everyone,
)
from sdssl_bench.encoder import Encoder, check_layers, move
from sdssl_bench.errors import TaskError, UserError
from sdssl_bench.features.forward import placed
from sdssl_bench.features.identity import feature_identity, key_of
from sdssl_bench.features.locking import alone
from sdssl_bench.image_bank import ImageBank, RowWriter, StoredBank
from sdssl_bench.image_loading import ImageJob, bad_images, batches, pooling, prefetched, workers
from sdssl_bench.task import RunContext

TOKENS = {"cpu": 2048, "cuda": 65_536}
"""Patch tokens per forward pass where the batch size is automatic."""


def extract_images(
    encoder: Encoder, job: ImageJob, layers: Sequence[int], *, ctx: RunContext
) -> ImageBank:
    """One vector per image and layer, from the cache or from one pass over the images.

    Must be called by all processes of a launched run.

    Raises:
        TaskError: for features that are not finite (names layer and image), or images that cannot
            be read (names up to 20) unless ctx.on_bad_image is "skip".
    """
    layers = check_layers(layers, encoder.depth)
    facts = feature_identity(
        encoder, job.images, preprocess=job, dtype=ctx.dtype, bank_dtype=ctx.bank_dtype
    )
    store = StoredBank(ctx.cache_dir.expanduser() / "features" / key_of(facts), job.pool)
    what = f"{job.images.dataset} {job.images.split}"
    started = time.perf_counter()
    with (
        alone(store.folder, progress=ctx.progress, what=what)
        if is_main_process()
        else nullcontext()
    ):
        if is_main_process():
            store.folder.mkdir(parents=True, exist_ok=True)
            (store.folder / "last-used").touch()
        missing = broadcast(store.missing(layers) if is_main_process() else [])
        bad: list[int] = []
        if missing:
            bad = _fill(encoder, job, missing, store=store, facts=facts, ctx=ctx)
        elif ctx.progress and is_main_process():
            ctx.progress.message(f"features of {what}: {len(job.images):,} images from cache")
        arrays = store.open(layers)
        wait_for_everyone()
    if bad and (ctx.on_bad_image != "skip" or len(bad) == len(job.images)):
        raise TaskError(bad_images(job.images, bad))
    seconds = {"extract": time.perf_counter() - started}
    return ImageBank(arrays, len(job.images), tuple(bad), seconds)


def _fill(
    encoder: Encoder,
    job: ImageJob,
    layers: list[int],
    *,
    store: StoredBank,
    facts: dict[str, Any],
    ctx: RunContext,
) -> list[int]:
    """Extract layers; returns the images that cannot be read."""
    assert encoder.info is not None
    state = np.empty(0, np.uint8)
    failure: UserError | None = None
    if is_main_process():
        about = {
            "model": encoder.info.name,
            "dataset": job.images.dataset,
            "split": job.images.split,
            "identity": facts,
        }
        wanted = {layer: encoder.dims[layer - 1] for layer in layers}
        try:
            _check_room(store, len(job.images) * sum(wanted.values()), ctx.bank_dtype)
            state = store.prepare(len(job.images), wanted, ctx.bank_dtype, about=about)
        except UserError as error:
            failure = error
    state, failure = broadcast((state, failure))
    if failure is not None:
        raise failure
    # One process says what is done: the others may look when the first rows are already there.
    rows = store.writer(layers, process_index(), state=state)
    try:
        with placed(encoder, torch.device(resolve_device(ctx.device))):
            _write_rows(encoder, job, layers, rows=rows, ctx=ctx)
    except UserError as error:
        failure = error
    finally:
        rows.close()
    # Every process hears of the first error: none may wait for one that has stopped.
    for error_of_one in gather_objects(failure):
        if error_of_one is not None:
            raise error_of_one
    bad = broadcast(store.bad(layers) if is_main_process() else [])
    if is_main_process():
        store.complete(layers)
    return bad


def _check_room(store: StoredBank, values: int, dtype: str) -> None:
    """Writing to a mapped file on a full disk ends the process without a word."""
    need, free = values * np.dtype(dtype).itemsize, shutil.disk_usage(store.folder).free
    if need > free:
        raise TaskError(
            f"The features need {need / 1e9:.1f} GB in {store.folder.parent}, {free / 1e9:.1f} GB are "
            "free. Make room with 'sdssl-bench cache rm', choose another folder with --cache-dir, or "
            "halve the need with --bank-dtype float16."
        )


def _write_rows(
    encoder: Encoder, job: ImageJob, layers: list[int], *, rows: RowWriter, ctx: RunContext
) -> None:
    """This process's share of the images that are not done."""
    device = torch.device(resolve_device(ctx.device))
    stage = _Stage(encoder, job, layers, device=device, dtype=ctx.dtype, stored=ctx.bank_dtype)
    with ThreadPoolExecutor(workers(ctx, device)) as pool, truncated_is_an_error():
        groups, unreadable = batches(
            job,
            pool,
            rows.done,
            most_tokens=TOKENS.get(device.type, TOKENS["cpu"]),
            most_images=ctx.batch_size,
        )
        rows.mark_bad(unreadable)
        mine = groups[process_index() :: num_processes()]
        progress = ctx.progress if is_main_process() else None
        if progress:
            label = f"{job.images.dataset} {job.images.split}"
            progress.start("features of " + label, sum(map(len, mine)))
        for indices, loaded in prefetched(pool, job, mine):
            good = [i for i, image in zip(indices, loaded, strict=True) if image is not None]
            rows.mark_bad([i for i in indices if i not in good])
            if good:
                pixels = np.stack([image for image in loaded if image is not None])
                rows.write(good, stage(torch.from_numpy(pixels), good))
            if progress:
                progress.advance(len(indices))
    if progress:
        progress.finish()


@dataclass(frozen=True, eq=False)
class _Stage:
    """The forward pass: uint8 images of one shape to vectors of all layers."""

    encoder: Encoder
    job: ImageJob
    layers: list[int]
    device: torch.device
    dtype: str
    stored: str

    def __call__(self, pixels: Tensor, indices: list[int]) -> dict[int, NDArray[Any]]:
        kind = getattr(torch, self.stored)
        out = {layer: t.to(kind).cpu().numpy() for layer, t in self._forward(pixels).items()}
        for layer, vectors in out.items():
            bad = np.flatnonzero(~np.isfinite(vectors).all(1))
            if len(bad):
                raise TaskError(
                    f"Features must be finite, found NaN or infinity in layer {layer} of "
                    f"{self.job.images.names[indices[bad[0]]]}."
                )
        return out

    def _forward(self, pixels: Tensor) -> dict[int, Tensor]:
        try:
            return self._averaged(pixels)
        except torch.OutOfMemoryError as error:
            if len(pixels) == 1:
                size = f"{pixels.shape[-1]} x {pixels.shape[-2]}"
                raise TaskError(
                    f"One image of {size} pixels does not fit into the memory of {self.device}. Use "
                    "--imsize with fewer pixels, --dtype bfloat16, or --device cpu."
                ) from error
        halves = [self._forward(half) for half in pixels.chunk(2)]
        return {layer: torch.cat([half[layer] for half in halves]) for layer in self.layers}

    def _averaged(self, pixels: Tensor) -> dict[int, Tensor]:
        pool = pooling(self.job.pool, gem_p=self.job.gem_p)
        low = self.dtype != "float32"
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, getattr(torch, self.dtype), enabled=low),
        ):
            views = self.job.geometry.views(move(pixels, self.encoder))
            sums: dict[int, Tensor] = {}
            for view in views:
                for layer, vectors in self.encoder.forward_layers(view, self.layers, pool).items():
                    sums[layer] = vectors.float() + sums.get(layer, 0)
            return {layer: total / len(views) for layer, total in sums.items()}
