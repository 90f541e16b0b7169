"""Batches of preprocessed images, in a given order, from this thread, threads or processes.

On a CPU the images are loaded between forward passes by the thread that runs them: decoding and
resizing measured 2 % of a small ViT's forward pass at 32 px and 2 % of a ViT-S/14's at 224 px, while a
thread beside it slows the forward pass by more, since it takes a core from each parallel region. An
accelerator leaves the cores free, so threads load ahead (Pillow decodes without the interpreter's
lock). Worker processes are for whoever asks for them; uint8 pixels cross the process boundary.
"""

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sdssl_bench.datasets import ImageError, ImageSet, truncated_is_an_error
from sdssl_bench.errors import TaskError
from sdssl_bench.features.identity import Preprocess
from sdssl_bench.system import ahead, end_with_parent

MAX_THREADS = 16
PIECE, AHEAD = 16, 4
"""Images that a thread loads at a time, and pieces that wait per thread: whole batches would come in
bursts, with the accelerator idle between them."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Batch:
    """Images that could be read, and those that could not.

    Attributes:
        rows: [B] dataset indices of `pixels`, ascending.
        pixels: uint8 [B, 3, S, S]; None if no image of the batch could be read.
        bad: "path: reason" of the others, by dataset index.
    """

    rows: Rows
    pixels: Tensor | None
    bad: dict[int, str]


def load_batch(images: ImageSet, preprocess: Preprocess, rows: Rows) -> Batch:
    """Load and preprocess some images."""
    good: list[int] = []
    pixels: list[Tensor] = []
    bad: dict[int, str] = {}
    for row in rows.tolist():
        try:
            image = images.load(row)
        except ImageError as error:
            bad[row] = str(error)
            continue
        pixels.append(preprocess(image))
        good.append(row)
    return Batch(np.array(good, np.int64), _copied(np.stack, pixels), bad)


def _copied(how: Callable[[list[Any]], Any], pixels: Sequence[Tensor]) -> Tensor | None:
    """By numpy: torch shares such a copy among all cores, which the loading threads need."""
    return torch.from_numpy(how([one.numpy() for one in pixels])) if pixels else None


def batches(
    images: ImageSet,
    preprocess: Preprocess,
    groups: Sequence[Rows],
    *,
    device: torch.device,
    num_workers: int | None,
) -> Iterator[Batch]:
    """One batch per group of rows, in order.

    Args:
        images: the dataset.
        preprocess: image -> uint8 tensor.
        groups: dataset indices of each batch.
        device: where the batches go.
        num_workers: processes that load; 0 loads in the calling thread; None chooses: the calling
            thread for a CPU, threads for an accelerator.
    """
    with truncated_is_an_error():
        if num_workers is None and device.type != "cpu":
            threads = min(MAX_THREADS, os.cpu_count() or 1)
            yield from load_ahead(images, preprocess, groups, num_threads=threads)
        elif num_workers:
            yield from load_in_processes(images, preprocess, groups, num_workers=num_workers)
        else:
            for rows in groups:
                yield load_batch(images, preprocess, rows)


def load_ahead(
    images: ImageSet, preprocess: Preprocess, groups: Sequence[Rows], *, num_threads: int
) -> Iterator[Batch]:
    """Batches loaded by threads, which take a few images at a time."""
    load = partial(load_batch, images, preprocess)
    cut = [-(-len(rows) // PIECE) for rows in groups]
    pieces = [part for rows, count in zip(groups, cut) for part in np.array_split(rows, count)]
    loaded = ahead(load, pieces, num_threads=num_threads, most=AHEAD * num_threads)
    for count in cut:
        yield join(list(islice(loaded, count)))


def join(parts: Sequence[Batch]) -> Batch:
    """One batch of several, in their order."""
    pixels = [part.pixels for part in parts if part.pixels is not None]
    return Batch(
        np.concatenate([part.rows for part in parts]),
        _copied(np.concatenate, pixels),
        {row: why for part in parts for row, why in part.bad.items()},
    )


class _Groups(Dataset[Batch]):
    def __init__(self, images: ImageSet, preprocess: Preprocess, groups: Sequence[Rows]) -> None:
        self.images, self.preprocess, self.groups = images, preprocess, groups

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Batch:
        with truncated_is_an_error():
            return load_batch(self.images, self.preprocess, self.groups[index])


def load_in_processes(
    images: ImageSet, preprocess: Preprocess, groups: Sequence[Rows], *, num_workers: int
) -> Iterator[Batch]:
    """Batches loaded by worker processes, which end when the caller does, killed or not."""
    # Not forked from here: a forked worker would keep the cache's lock and torch's threads half alive.
    context: Any = multiprocessing.get_context(
        "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    )
    if hasattr(context, "set_forkserver_preload"):
        context.set_forkserver_preload([__name__])  # torch is imported once, not once per worker
    with warnings.catch_warnings():
        # More workers than cores is what the user asked for.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        loader: DataLoader[Batch] = DataLoader(
            _Groups(images, preprocess, groups),
            batch_size=None,
            num_workers=min(num_workers, len(groups)),
            multiprocessing_context=context,
            worker_init_fn=end_with_parent,
        )
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise TaskError(
            f"An image-loading process died ({error}). If memory is short, use fewer of them "
            f"(--num-workers {num_workers // 2}) or none (--num-workers 0)."
        ) from error
