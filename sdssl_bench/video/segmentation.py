"""Video object segmentation by label propagation: the masks of every layer from one pass per frame."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.datasets import Size, Video
from sdssl_bench.encoders import IMAGENET_MEAN, IMAGENET_STD, Encoder, LayerFeatures
from sdssl_bench.errors import TaskError
from sdssl_bench.system import ThreadTeam
from sdssl_bench.video.affinities import Rule
from sdssl_bench.video.frames import (
    first_labels,
    frames_ahead,
    to_input,
    to_mask,
    vanished_objects,
    working_size,
)
from sdssl_bench.video.propagation import Context

DAVIS_STD = (0.228, 0.224, 0.225)
"""DINO, videowalk and SDSSL all use 0.228 for red on DAVIS, where ImageNet has 0.229."""


@dataclass(frozen=True)
class Settings:
    """How videos are segmented; see the fields of tasks/davis.py."""

    rule: Rule
    context: int
    short_side: int
    long_multiple: int
    normalisation: str
    first_mask: str
    vanished: str
    minmax: bool

    def working(self, size: Size, stride: int) -> Size:
        """(H, W) that frames of a size are resized to."""
        return working_size(
            size, short_side=self.short_side, long_multiple=self.long_multiple, stride=stride
        )

    def constants(self, encoder: Encoder) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std of the input; an encoder that is not normalised as for ImageNet has its own."""
        imagenet = (encoder.mean, encoder.std) == (IMAGENET_MEAN, IMAGENET_STD)
        std = DAVIS_STD if imagenet and self.normalisation == "davis" else encoder.std
        return tuple(encoder.mean), tuple(std)


@dataclass(frozen=True, eq=False)
class FrameMasks:
    """One frame after the first.

    Attributes:
        index: t >= 1.
        pixels: [H, W, 3] RGB at the working size.
        masks: layer -> [H0, W0] object ids at the original size.
    """

    index: int
    pixels: NDArray[np.uint8]
    masks: dict[int, NDArray[np.uint8]]


class Segmenter:
    """An encoder that segments videos at several layers.

    Attributes:
        seconds: spent so far, by phase.
        vanished: layer -> ids of the last video's objects that got no patch of its first frame.

    Args:
        encoder: in eval mode.
        layers: any of 1..L.
        settings: of the protocol.
        device: of the encoder and the propagation.
        dtype: of the forward pass (autocast).
        batch_size: frames per forward pass.
        num_workers: threads that decode frames.
    """

    def __init__(
        self,
        encoder: Encoder,
        layers: Sequence[int],
        *,
        settings: Settings,
        device: str,
        dtype: str = "float32",
        batch_size: int = 1,
        num_workers: int = 0,
    ) -> None:
        self.encoder = encoder.to(device).eval()
        self.layers = list(layers)
        self.settings = settings
        self.device, self.dtype = device, dtype
        self.batch_size, self.num_workers = batch_size, num_workers
        self.seconds = {"forward": 0.0, "propagate": 0.0}
        self.vanished: dict[int, tuple[int, ...]] = {}

    def segment(self, video: Video) -> Iterator[FrameMasks]:
        """Masks of frames 1..T-1 in order, from the annotation of frame 0.

        Raises:
            DataError: naming a frame that cannot be read.
            TaskError: if features are not finite.
        """
        annotation = video.annotation(0)
        working = self.settings.working(video.size, self.encoder.stride)
        frames = frames_ahead(video.frames, video.size, working, num_workers=self.num_workers)
        contexts: dict[int, Context] = {}
        with torch.inference_mode(), ThreadTeam(self.device) as crew:
            numbered = enumerate(frames)
            while batch := list(islice(numbered, self.batch_size)):
                features = self.forward([pixels for _, pixels in batch], video.name)
                for position, (t, pixels) in enumerate(batch):
                    started = time.perf_counter()
                    now = {layer: maps[position] for layer, maps in features.items()}
                    if t == 0:
                        contexts = self.start(now, annotation, video)
                        continue
                    masks = self.masks(contexts, now, working, video.size, crew=crew)
                    self.seconds["propagate"] += time.perf_counter() - started
                    yield FrameMasks(t, pixels, masks)

    def masks(
        self,
        contexts: dict[int, Context],
        features: dict[int, Tensor],
        working: Size,
        original: Size,
        *,
        crew: ThreadTeam,
    ) -> dict[int, NDArray[np.uint8]]:
        """Masks of the next frame; workers take a layer each, or columns if there are few layers."""
        alone = len(features) >= crew.size

        def mask(layer: int) -> NDArray[np.uint8]:
            labels = contexts[layer].step(features[layer], None if alone else crew)
            return to_mask(labels, working, original, minmax=self.settings.minmax)

        masks = crew.map(mask, features) if alone else [mask(layer) for layer in features]
        return dict(zip(features, masks))

    def start(
        self, features: dict[int, Tensor], annotation: NDArray[np.uint8], video: Video
    ) -> dict[int, Context]:
        """The context of each layer, holding the annotated frame."""
        contexts = {}
        for layer, tokens in features.items():
            grid = (tokens.shape[0], tokens.shape[1])
            self.vanished[layer] = vanished_objects(annotation, grid, video.num_objects)
            labels = first_labels(
                annotation,
                grid,
                video.num_objects,
                resize=self.settings.first_mask,
                vanished=self.settings.vanished,
            )
            contexts[layer] = Context(
                tokens,
                labels.to(tokens.device),
                rule=self.settings.rule,
                length=self.settings.context,
            )
        return contexts

    def forward(self, frames: Sequence[NDArray[np.uint8]], name: str) -> dict[int, Tensor]:
        """{layer: [B, h, w, D]} of a few frames."""
        started = time.perf_counter()
        mean, std = self.settings.constants(self.encoder)
        images = to_input(frames, mean=mean, std=std, device=self.device)
        low = self.dtype != "float32"
        try:
            with torch.autocast(images.device.type, getattr(torch, self.dtype), enabled=low):
                features = self.encoder.forward_layers(images, self.layers, _tokens)
        except torch.OutOfMemoryError as error:
            size = f"{images.shape[-1]} x {images.shape[-2]}"
            raise TaskError(
                f"{len(frames)} frames of {size} pixels do not fit into the memory of {self.device}. "
                "Use --batch-size 1, fewer --layers, --dtype bfloat16, or --device cpu."
            ) from error
        for layer, tokens in features.items():
            # The extremes hold any NaN or infinity, and cost a tenth of a look at every value.
            if not bool(torch.isfinite(torch.stack(tokens.aminmax())).all()):
                raise TaskError(
                    f"{name}: expected finite features, found NaN or infinity at layer {layer}. "
                    "Try --dtype float32."
                )
        self.seconds["forward"] += time.perf_counter() - started
        return dict(features)


def _tokens(features: LayerFeatures) -> Tensor:
    return features.patches.float()
