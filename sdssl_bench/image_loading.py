"""Images of many shapes on their way to the encoder: which, how they are cut, decoded ahead in batches."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sdssl_bench.datasets.base import ImageError, ImageSet
from sdssl_bench.encoder import POOLINGS, LayerFeatures, gem
from sdssl_bench.image_geometry import Box, Geometry
from sdssl_bench.task import RunContext

Pool = Callable[[LayerFeatures], Tensor]


def pooling(name: str, *, gem_p: float) -> Pool:
    """The reduction of a layer's tokens to one vector."""
    return partial(gem, p=gem_p) if name == "gem" else POOLINGS[name]


@dataclass(frozen=True, eq=False)
class ImageJob:
    """What is extracted.

    Attributes:
        images: files of any shape.
        geometry: how they are shrunk, scaled and fitted.
        pool: "cls", "gem" or "mean".
        gem_p: power of GeM.
        boxes: [N, 4] x1, y1, x2, y2 to crop each image to, or None.
    """

    images: ImageSet
    geometry: Geometry
    pool: str
    gem_p: float
    boxes: NDArray[np.float64] | None = None

    def box(self, index: int) -> Box | None:
        """The crop of one image."""
        if self.boxes is None:
            return None
        x1, y1, x2, y2 = (float(v) for v in self.boxes[index])
        return x1, y1, x2, y2

    def load(self, index: int) -> NDArray[np.uint8]:
        """uint8 [3, H, W]; raises ImageError."""
        return self.geometry.load(self.images.load(index), self.box(index))

    def __call__(self, image: Image.Image) -> Tensor:
        """Uint8 [3, H, W] of an image that has no crop box."""
        return torch.from_numpy(self.geometry.load(image))

    def describe(self) -> dict[str, Any]:
        """Everything that decides what becomes of an image; JSON values only."""
        return {
            "boxes": None if self.boxes is None else self.boxes.tolist(),
            "geometry": self.geometry.describe(),
            "pool": self.pool,
            "gem_p": self.gem_p if self.pool == "gem" else None,
        }


def batches(
    job: ImageJob,
    pool: ThreadPoolExecutor,
    done: NDArray[np.bool_],
    *,
    most_tokens: int,
    most_images: int | None,
) -> tuple[list[list[int]], list[int]]:
    """Images still to do, in groups of one shape; and those whose size cannot be read.

    Args:
        job: the images.
        pool: threads that read the files' headers.
        done: [N] images to leave out.
        most_tokens: patch tokens per group, where `most_images` is None.
        most_images: images per group.
    """
    todo = np.flatnonzero(~done).tolist()
    sizes = dict(zip(todo, pool.map(partial(_size, job), todo), strict=True))
    unreadable = [index for index, size in sizes.items() if size is None]
    order = sorted((size, index) for index, size in sizes.items() if size is not None)
    groups: list[list[int]] = []
    last = None
    for size, index in order:
        tokens = job.geometry.tokens(size)
        most = most_images or max(1, most_tokens // tokens)
        if size != last or len(groups[-1]) >= most:
            groups.append([])
            last = size
        groups[-1].append(index)
    return groups, unreadable


def _size(job: ImageJob, index: int) -> tuple[int, int] | None:
    """(width, height) after the geometry, from the file's header alone."""
    try:
        with Image.open(job.images.root / job.images.names[index]) as image:
            return job.geometry.size(image.size, job.box(index))
    except OSError:
        return None


def prefetched(
    pool: ThreadPoolExecutor, job: ImageJob, groups: list[list[int]]
) -> Iterator[tuple[list[int], list[NDArray[np.uint8] | None]]]:
    """Each batch with its decoded images, None for one that cannot be read; decodes ahead."""
    waiting: deque[tuple[list[int], list[Future[NDArray[np.uint8] | None]]]] = deque()
    ahead = 4
    for batch in groups:
        waiting.append((batch, [pool.submit(_load, job, index) for index in batch]))
        if len(waiting) > ahead:
            indices, futures = waiting.popleft()
            yield indices, [future.result() for future in futures]
    while waiting:
        indices, futures = waiting.popleft()
        yield indices, [future.result() for future in futures]


def _load(job: ImageJob, index: int) -> NDArray[np.uint8] | None:
    try:
        return job.load(index)
    except ImageError:
        return None


def workers(ctx: RunContext, device: torch.device) -> int:
    """Threads that decode; Pillow works outside the interpreter lock, so no processes are needed."""
    if ctx.num_workers is not None:
        return max(1, ctx.num_workers)
    # On a CPU every further thread takes a core from the forward pass.
    return 1 if device.type == "cpu" else min(16, os.cpu_count() or 1)


def bad_images(images: ImageSet, bad: Sequence[int]) -> str:
    """What the user is told of images that cannot be read; names up to 20."""
    listed = []
    for index in bad[:20]:
        try:
            images.load(index)
            listed.append(f"{images.names[index]}: read now, but not when features were made")
        except ImageError as error:
            listed.append(str(error))
    lines = "\n".join(f"  {line}" for line in listed)
    return (
        f"{len(bad)} of {len(images)} images of {images.dataset} cannot be read:\n{lines}\nRepair them, "
        "or leave them out and count them with --on-bad-image skip."
    )
