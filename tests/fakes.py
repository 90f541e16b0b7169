"""Encoders and data whose right answers are known in advance."""

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.encoders.encoder import Encoder, LayerFeatures, ModelInfo, everything


class FakeEncoder(Encoder):
    """Layer l of L: patch tokens are (mean colour, row, column) of each patch, times l.

    The class token is (mean colour of the image, 1, 2) times l. All values are exact in float32 for
    images of one colour per patch, so features do not depend on how images are batched.
    """

    def __init__(self, *, depth: int = 3, stride: int = 4, input_size: int = 8) -> None:
        super().__init__()
        self.depth, self.stride, self.input_size = depth, stride, input_size
        self.dims = (5,) * depth
        self.norm = "none"
        self.mean, self.std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        self.scale = nn.Parameter(torch.ones(()))
        self.info = ModelInfo(
            name="fake",
            uri="fake",
            format="module",
            network="model",
            arch="fake",
            weights_sha256="0" * 64,
        )

    def forward_layers(
        self,
        images: Tensor,
        layers: Sequence[int],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[int, Any]:
        grid = nn.functional.avg_pool2d(images, self.stride).permute(0, 2, 3, 1)
        rows, columns = torch.meshgrid(
            *(torch.arange(float(side)) for side in grid.shape[1:3]), indexing="ij"
        )
        position = torch.stack([rows, columns], dim=-1).expand(len(grid), -1, -1, -1)
        patches = torch.cat([grid, position], dim=-1) * self.scale
        token = torch.cat(
            [images.mean((2, 3)), torch.tensor([[1.0, 2.0]]).expand(len(images), 2)], dim=1
        )
        return {
            layer: reduce(LayerFeatures(token * layer, patches * layer, lambda tokens: tokens))
            for layer in sorted(layers)
        }


@dataclass(frozen=True)
class Pixels:
    """The image's own pixels as uint8 [3, H, W]."""

    id: str = "as is"

    def describe(self) -> dict[str, Any]:
        return {"id": self.id}

    def __call__(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


@dataclass(frozen=True)
class DeadlyPixels(Pixels):
    """Ends the process that calls it, as the kernel does when memory is short."""

    def __call__(self, image: Image.Image) -> Tensor:
        os._exit(9)


def colours(num_images: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """[N, 3], all different."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(256**3, num_images, replace=False)
    return np.stack([chosen >> 16, (chosen >> 8) & 255, chosen & 255], axis=1).astype(np.uint8)


def plain_images(
    num_images: int, *, size: int = 8, seed: int = 0, split: str = "train"
) -> ImageSet:
    """Images of one colour each, in memory; class = index modulo 7."""
    pixels = np.broadcast_to(
        colours(num_images, seed=seed)[:, None, None], (num_images, size, size, 3)
    ).copy()
    return ImageSet(
        dataset="colours",
        split=split,
        class_names=tuple("abcdefg"),
        targets=np.arange(num_images, dtype=np.int64) % 7,
        names=[f"array:{i}" for i in range(num_images)],
        root=Path(),
        fingerprint=f"{num_images}-{size}-{seed}",
        freshness="",
        pixels=pixels,
    )


def image_files(folder: Path, num_images: int, *, size: int = 8, seed: int = 0) -> ImageSet:
    """The same images as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    images = plain_images(num_images, size=size, seed=seed)
    assert images.pixels is not None
    names = [f"{i:04d}.png" for i in range(num_images)]
    for name, pixels in zip(names, images.pixels, strict=True):
        Image.fromarray(pixels).save(folder / name)
    return ImageSet(
        dataset="folder:colours",
        split="train",
        class_names=images.class_names,
        targets=images.targets,
        names=names,
        root=folder,
        fingerprint=images.fingerprint,
        freshness="",
    )


def expected_cls(images: ImageSet, layer: int) -> NDArray[np.float32]:
    """The class tokens FakeEncoder gives, by definition."""
    assert images.pixels is not None
    mean = images.pixels[:, 0, 0].astype(np.float32) / 255
    fixed = np.tile(np.array([1, 2], np.float32), (len(mean), 1))
    return np.concatenate([mean, fixed], axis=1) * layer


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
