"""Videos whose right segmentation is known, and an encoder that makes it provable."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from sdssl_bench.datasets.readers.palette import write_mask
from sdssl_bench.encoders.encoder import Encoder, LayerFeatures, ModelInfo, everything
from sdssl_bench.task import RunContext

COLOURS = np.array([[20, 20, 20], [230, 30, 30], [30, 230, 30], [30, 30, 230]], np.uint8)


class MeanColour(Encoder):
    """Layer l sees each patch's mean colour through one of `depth` fixed maps; nothing is learned."""

    def __init__(self, patch: int = 16, depth: int = 3) -> None:
        super().__init__()
        self.depth, self.dims, self.stride = depth, (16,) * depth, patch
        self.input_size, self.norm = 4 * patch, "none"
        self.scale = nn.Parameter(torch.ones(1))
        self.maps = [
            torch.randn(3, 16, generator=torch.Generator().manual_seed(i)) for i in range(depth)
        ]
        self._calls = 0
        self.info = ModelInfo(
            name="mean-colour", uri="test", format="module", network="model", arch="mean-colour",
            weights_sha256="0" * 64,
        )  # fmt: skip

    @property
    def calls(self) -> int:
        """Forward passes so far; private, since plain attributes count as the encoder's structure."""
        return self._calls

    def forward_layers(
        self,
        images: Tensor,
        layers: Sequence[int],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[int, Any]:
        assert not any(side % self.stride for side in images.shape[-2:])
        self._calls += 1
        colour = nn.functional.avg_pool2d(images, self.stride).movedim(1, -1)
        return {
            layer: reduce(
                LayerFeatures(
                    colour.flatten(1, 2).mean(1), colour @ self.maps[layer - 1], nn.Identity()
                )
            )
            for layer in sorted(layers)
        }


def blocks(
    grid: tuple[int, int], frames: int, *, patch: int, objects: int = 2
) -> NDArray[np.uint8]:
    """[T, H, W] ids of squares of 2 x 2 patches that move by one patch a frame."""
    ids = np.zeros((frames, *grid), np.uint8)
    for t in range(frames):
        for k in range(1, objects + 1):
            row = (3 * (k - 1) + t) % (grid[0] - 1)
            ids[t, row : row + 2, 3 * (k - 1) : 3 * (k - 1) + 2] = k
    return np.kron(ids, np.ones((1, patch, patch), np.uint8))


def write_video(root: Path, name: str, ids: NDArray[np.uint8]) -> None:
    """Frames in the flat colours of the ids, and the masks, in the official layout."""
    frames, masks = (root / part / "480p" / name for part in ("JPEGImages", "Annotations"))
    frames.mkdir(parents=True)
    masks.mkdir(parents=True)
    for t, mask in enumerate(ids):
        image = Image.fromarray(COLOURS[mask])
        image.save(frames / f"{t:05d}.jpg", quality=98, subsampling=0)
        write_mask(masks / f"{t:05d}.png", mask)


def context(tmp_path: Path, **changes: Any) -> RunContext:
    """A run on the CPU with caches in the test's folder."""
    settings: dict[str, Any] = {
        "data_root": tmp_path,
        "cache_dir": tmp_path / "cache",
        "device": "cpu",
    }
    return RunContext(**{**settings, **changes})
