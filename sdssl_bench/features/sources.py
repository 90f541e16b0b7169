"""How images reach the encoder: of one size in blocks of rows, or of many sizes grouped by shape."""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sdssl_bench.datasets import ImageSet
from sdssl_bench.encoders import POOLINGS, LayerFeatures, gem
from sdssl_bench.features.identity import Preprocess
from sdssl_bench.features.image_geometry import Box, Geometry, crop_box
from sdssl_bench.features.store import shard_rows

Rows = NDArray[np.int64]
Pool = Callable[[LayerFeatures], Tensor]

_UNREADABLE = (0, 0)
TOKENS_CPU, TOKENS_DEVICE = 2_048, 65_536
"""Patch tokens per pass over images of one shape, where the batch size is automatic."""


@dataclass(frozen=True, eq=False)
class Group:
    """One batch.

    Attributes:
        rows: [B] dataset indices, ascending.
        proven: rows that are all written once this batch and those before it are.
    """

    rows: Rows
    proven: Rows


class Source(Protocol):
    """The images of an extraction, and how they pass through the encoder."""

    @property
    def images(self) -> ImageSet:
        """Images by index."""

    @property
    def preprocess(self) -> Preprocess:
        """RGB image -> uint8 tensor; its description is part of the features' identity."""

    @property
    def pools(self) -> Mapping[str, Pool]:
        """Pooling -> reduction of a layer's tokens to [B, D]."""

    def views(self, images: Tensor) -> Sequence[Tensor]:
        """What of normalised images [B, 3, H, W] passes through the encoder; features are averaged."""

    def groups(
        self,
        rows: Rows,
        *,
        batch_size: int | None,
        device: torch.device,
        piece: int,
        part: tuple[int, int],
    ) -> list[Group]:
        """The batches of one process.

        Args:
            rows: all rows to compute, ascending.
            batch_size: images per batch; None is automatic.
            device: of the encoder.
            piece: images of the encoder's own size that fit into one pass.
            part: (index of this process, number of processes).
        """


@dataclass(frozen=True, eq=False)
class OneSize:
    """Images that preprocessing brings to one size."""

    images: ImageSet
    preprocess: Preprocess
    pools: Mapping[str, Pool]

    def views(self, images: Tensor) -> Sequence[Tensor]:
        """The images themselves."""
        return [images]

    def groups(
        self,
        rows: Rows,
        *,
        batch_size: int | None,
        device: torch.device,
        piece: int,
        part: tuple[int, int],
    ) -> list[Group]:
        """Blocks of rows, see `plan_batches`."""
        return plan_batches(rows, num_rows=len(self.images), batch_size=piece, part=part)


def plan_batches(
    rows: Rows, *, num_rows: int, batch_size: int, part: tuple[int, int]
) -> list[Group]:
    """Batches of one process; shards of rows are proven when their last batch is written.

    A batch never spans two blocks: aligned runs of shards at least as long as a batch. So a run that
    resumes forms the same batches for the shards it still lacks, and its features are the same bits.

    Args:
        rows: all rows to compute, ascending.
        num_rows: N.
        batch_size: images per batch.
        part: (index of this process, number of processes).

    >>> plans = plan_batches(np.arange(70), num_rows=70, batch_size=40, part=(0, 1))
    >>> [(len(one.rows), len(one.proven)) for one in plans]
    [(40, 0), (24, 64), (6, 6)]
    """
    size = shard_rows(num_rows)
    block = size * math.ceil(batch_size / size)
    cuts = np.flatnonzero(np.diff(rows // block)) + 1
    groups = []
    for members in np.split(rows, cuts)[part[0] :: part[1]]:
        for at in range(0, len(members), batch_size):
            last = at + batch_size >= len(members)
            groups.append(Group(members[at : at + batch_size], members if last else members[:0]))
    return groups


@dataclass(frozen=True, eq=False)
class CroppedImages(ImageSet):
    """Images cut to their boxes, [N, 4] x1, y1, x2, y2, when they are loaded."""

    boxes: NDArray[np.float64] | None = None

    def box(self, index: int) -> Box | None:
        """The crop of one image."""
        if self.boxes is None:
            return None
        x1, y1, x2, y2 = (float(value) for value in self.boxes[index])
        return x1, y1, x2, y2

    def load(self, index: int) -> Image.Image:
        """The part of the image inside its box."""
        image, box = super().load(index), self.box(index)
        return image if box is None else image.crop(crop_box(image.size, box))


@dataclass(frozen=True)
class Shrink:
    """The preprocessing of `ManySizes`."""

    geometry: Geometry
    facts: Mapping[str, Any]

    def __call__(self, image: Image.Image) -> Tensor:
        """Uint8 [3, H, W]."""
        return torch.from_numpy(self.geometry.load(image))

    def describe(self) -> Mapping[str, Any]:
        """Everything that decides what becomes of an image."""
        return self.facts


@dataclass(frozen=True, eq=False)
class ManySizes:
    """Images that keep their aspect, batched by shape, which changes no number.

    Attributes:
        files: images of any shape.
        geometry: how they are shrunk, scaled and fitted.
        pool: "cls", "gem" or "mean".
        gem_p: power of GeM.
        boxes: [N, 4] x1, y1, x2, y2 to crop each image to, or None.
    """

    files: ImageSet
    geometry: Geometry
    pool: str
    gem_p: float
    boxes: NDArray[np.float64] | None = None

    @cached_property
    def images(self) -> CroppedImages:
        """The files, cut to their boxes."""
        values = {one.name: getattr(self.files, one.name) for one in fields(ImageSet)}
        return CroppedImages(**values, boxes=self.boxes)

    @property
    def preprocess(self) -> Shrink:
        """The geometry; crops and pooling are part of what it describes."""
        facts = {
            "boxes": None if self.boxes is None else self.boxes.tolist(),
            "geometry": self.geometry.describe(),
            "pool": self.pool,
            "gem_p": self.gem_p if self.pool == "gem" else None,
        }
        return Shrink(self.geometry, facts)

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The one pooling."""
        pool = partial(gem, p=self.gem_p) if self.pool == "gem" else POOLINGS[self.pool]
        return {self.pool: pool}

    def views(self, images: Tensor) -> Sequence[Tensor]:
        """The images at every scale."""
        return self.geometry.views(images)

    def groups(
        self,
        rows: Rows,
        *,
        batch_size: int | None,
        device: torch.device,
        piece: int,
        part: tuple[int, int],
    ) -> list[Group]:
        """Images of one shape, by their files' headers; unreadable ones alone, loading says why."""
        with ThreadPoolExecutor(8) as threads:
            sizes = list(threads.map(self._size, rows.tolist()))
        tokens = TOKENS_CPU if device.type == "cpu" else TOKENS_DEVICE
        groups: list[list[int]] = []
        last = None
        for size, row in sorted(zip(sizes, rows.tolist(), strict=True)):
            most = batch_size or max(1, tokens // max(1, self.geometry.tokens(size)))
            if size == _UNREADABLE or size != last or len(groups[-1]) >= most:
                groups.append([])
            groups[-1].append(row)
            last = size
        members = [np.array(group, np.int64) for group in groups[part[0] :: part[1]]]
        return [Group(group, group) for group in members]

    def _size(self, row: int) -> tuple[int, int]:
        """(width, height) after cropping and shrinking, from the file's header alone."""
        try:
            with Image.open(self.files.root / self.files.names[row]) as image:
                return self.geometry.size(image.size, self.images.box(row))
        except OSError:
            return _UNREADABLE
