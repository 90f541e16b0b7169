"""The encoder's forward pass over uint8 batches: all layers and poolings, in pieces that fit memory."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.encoders import POOLINGS, Encoder, LayerFeatures, device_of, move
from sdssl_bench.errors import TaskError
from sdssl_bench.features.store import BankKey

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

PIXELS_CPU, PIXELS_DEVICE = 2**21, 2**24
"""Pixels per automatic batch: 41 images of 224 px keep a CPU busy, 334 a GPU."""
MAX_CPU, MAX_DEVICE = 128, 512


def automatic_batch_size(input_size: int, device: torch.device) -> int:
    """Images per forward pass before any back-off: a power of two.

    >>> automatic_batch_size(224, torch.device("cpu")), automatic_batch_size(32, torch.device("cpu"))
    (32, 128)
    """
    pixels, most = (PIXELS_CPU, MAX_CPU) if device.type == "cpu" else (PIXELS_DEVICE, MAX_DEVICE)
    fitting = max(1, min(most, pixels // input_size**2))
    return 1 << (fitting.bit_length() - 1)


class Forward:
    """Features of batches, by bank name.

    Args:
        names: of each bank.
        pools: pooling -> the reduction of a layer's tokens to [B, D].
        views: normalised images -> the tensors that pass through the encoder, whose features are
            averaged; None is the images themselves.

    Attributes:
        seconds: time spent: "transfer" (to the device, normalising) and "forward".
        piece: images per pass; halved when memory runs out, if that was left to us.
    """

    def __init__(
        self,
        encoder: Encoder,
        names: Sequence[BankKey],
        *,
        device: torch.device,
        dtype: str,
        batch_size: int | None,
        pools: Mapping[str, Callable[[LayerFeatures], Tensor]] = POOLINGS,
        views: Callable[[Tensor], Sequence[Tensor]] | None = None,
    ) -> None:
        self.piece = batch_size or automatic_batch_size(encoder.input_size, device)
        self.seconds = {"transfer": 0.0, "forward": 0.0}
        self._encoder = encoder
        self._names = names
        self._layers = sorted({one.layer for one in names})
        self._at = list(dict.fromkeys(one.point for one in names))
        self._device = device
        self._dtype = DTYPES[dtype]
        self._fixed = batch_size is not None
        self._pools = {pooling: pools[pooling] for _, pooling, _ in names}
        self._views = views or (lambda images: [images])

    def __call__(self, pixels: Tensor) -> dict[str, NDArray[np.float32]]:
        """{bank name: [B, D]} of uint8 images [B, 3, S, S].

        Raises:
            TaskError: if memory runs out at the batch size asked for, or even for one image.
        """
        parts: list[dict[str, NDArray[np.float32]]] = []
        at = 0
        while at < len(pixels):
            piece = pixels[at : at + self.piece]
            try:
                parts.append(self._run(piece))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                failure = str(error).splitlines()[0]
            else:
                at += len(piece)
                continue
            # Out of the except clause: the error's traceback would keep the failed pass in memory.
            self._back_off(len(piece), failure)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _back_off(self, tried: int, failure: str) -> None:
        if self._fixed or tried == 1:
            raise TaskError(
                f"Memory of {self._device} is too short for {tried} images at once ({failure}). "
                + ("Use --batch-size auto or a smaller one." if self._fixed else "")
            )
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self.piece = max(1, tried // 2)

    def _run(self, pixels: Tensor) -> dict[str, NDArray[np.float32]]:
        started = time.perf_counter()
        with torch.inference_mode(), self._precision():
            images = move(pixels, self._encoder)
            moved = time.perf_counter()
            views = self._views(images)
            sums: dict[BankKey, Tensor] = {}
            for view in views:
                reduced = self._encoder.forward_points(view, self._layers, self._at, self._pool)
                for one in self._names:
                    vectors = reduced[one.layer, one.point][one.pooling].float()
                    sums[one] = vectors + sums.get(one, 0)
            features = {one.name: (total / len(views)).cpu().numpy() for one, total in sums.items()}
        self.seconds["transfer"] += moved - started
        self.seconds["forward"] += time.perf_counter() - moved
        return features

    def _pool(self, features: LayerFeatures) -> dict[str, Tensor]:
        return {pooling: pool(features) for pooling, pool in self._pools.items()}

    def _precision(self) -> AbstractContextManager[Any]:
        # Also for float32: a caller's own autocast must not reach into the features.
        reduced = self._dtype is not torch.float32
        return torch.autocast(
            self._device.type, dtype=self._dtype if reduced else None, enabled=reduced
        )


def _is_out_of_memory(error: Exception) -> bool:
    """The CPU allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextmanager
def placed(encoder: Encoder, device: torch.device) -> Iterator[None]:
    """The encoder in eval mode on a device, and afterwards as and where it was."""
    training = [(module, module.training) for module in encoder.modules()]
    before = device_of(encoder)
    encoder.to(device).eval()
    try:
        yield
    finally:
        encoder.to(before)
        for module, mode in training:
            module.training = mode
