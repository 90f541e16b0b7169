"""Patch tokens of all layers of images, image by image; nothing is kept."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.datasets import ImageSet, Preprocess
from sdssl_bench.encoders import Encoder, LayerFeatures, move
from sdssl_bench.errors import TaskError
from sdssl_bench.features import DTYPES, automatic_batch_size, batches
from sdssl_bench.system import resolve_device
from sdssl_bench.task import RunContext


class PatchTokens:
    """An encoder, ready for images of one size.

    Args:
        encoder: placed and in eval mode.
        steps: RGB image -> uint8 tensor.
        ctx: device, precision, batch size, workers and what to do about bad images.

    Attributes:
        seconds: spent so far, by phase.
        device: of the tokens.
        batch_size: images per forward pass.
    """

    def __init__(self, encoder: Encoder, steps: Preprocess, ctx: RunContext) -> None:
        self.device = torch.device(resolve_device(ctx.device))
        self.seconds = {"load": 0.0, "forward": 0.0}
        self._encoder, self._steps, self._ctx = encoder, steps, ctx
        self.batch_size = ctx.batch_size or automatic_batch_size(steps.size, self.device)

    def of(
        self, images: ImageSet, rows: NDArray[Any], layers: Sequence[int], bad: list[str]
    ) -> Iterator[tuple[int, dict[int, Tensor]]]:
        """(row, {layer: [h, w, D] float32}) of each image that can be read.

        Args:
            images: the split.
            rows: dataset indices, ascending.
            layers: any of 1..L.
            bad: takes "file: reason" of the others, if they are to be skipped.

        Raises:
            TaskError: for an image that cannot be read and is not to be skipped, features that are not
                finite, or a device without enough memory.
        """
        groups = [rows[at : at + self.batch_size] for at in range(0, len(rows), self.batch_size)]
        loaded = batches(
            images, self._steps, groups, device=self.device, num_workers=self._ctx.num_workers
        )
        started = time.perf_counter()
        for batch in loaded:
            self.seconds["load"] += time.perf_counter() - started
            bad += batch.bad.values()
            if batch.bad and self._ctx.on_bad_image != "skip":
                raise TaskError(
                    f"Images of {images.dataset} {images.split} cannot be read: {'; '.join(bad)}. "
                    "Repair them and run again, or leave them out with --on-bad-image skip, which is "
                    "recorded."
                )
            if batch.pixels is not None:
                tokens = self._forward(batch.pixels, layers)
                for place, row in enumerate(batch.rows.tolist()):
                    yield row, {layer: maps[place] for layer, maps in tokens.items()}
            started = time.perf_counter()

    def _forward(self, pixels: Tensor, layers: Sequence[int]) -> dict[int, Tensor]:
        started = time.perf_counter()
        low = self._ctx.dtype != "float32"
        autocast = torch.autocast(
            self.device.type, DTYPES[self._ctx.dtype] if low else None, enabled=low
        )
        try:
            with torch.inference_mode(), autocast:
                found = self._encoder.forward_layers(move(pixels, self._encoder), layers, _patches)
        except torch.OutOfMemoryError as error:
            raise TaskError(
                f"{len(pixels)} images of {self._steps.size} pixels do not fit into the memory of "
                f"{self.device}. Use --batch-size 1, fewer --layers or --dtype bfloat16."
            ) from error
        for layer, tokens in found.items():
            if not bool(torch.isfinite(tokens).all()):
                raise TaskError(
                    f"Features must be finite. Layer {layer} gives NaN or infinity. Try --dtype "
                    f"float32 (it was {self._ctx.dtype}); 'sdssl-bench doctor' checks the weights."
                )
        self.seconds["forward"] += time.perf_counter() - started
        return dict(found)


def _patches(features: LayerFeatures) -> Tensor:
    return features.patches.float()
