"""What scoring videos will cost: of a typical one, a forward pass and the steps of two frames."""

import time
from collections.abc import Sequence
from functools import partial
from math import ceil, inf, prod
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.datasets import Size, Video
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import UsageError
from sdssl_bench.metrics import score_frame
from sdssl_bench.system import ThreadTeam, Work, num_processes
from sdssl_bench.video.frames import frames_ahead
from sdssl_bench.video.scores import VideoScorer
from sdssl_bench.video.segmentation import Segmenter
from sdssl_bench.video.stored_scores import LayerResult, packed

SECONDS = 2.0
"""A forward pass that takes longer is told from those of smaller frames."""

NOISE = 0.1
"""Share of a frame's spread by which frames made of it differ: equal ones would be nothing but ties."""


def videos_work(scorer: VideoScorer, videos: Sequence[Video]) -> Work:
    """What `VideoScorer.score_all` would do with videos."""
    encoder, layers, ctx = scorer.encoder, scorer.layers, scorer.ctx
    settings = scorer.segmenter.settings
    todo: list[_Part] = []
    writes: dict[str, int] = {}
    for video in videos:
        stored, done = scorer.finished(video)
        # Masks and pictures are made of all layers.
        missing = [layer for layer in layers if layer not in done or ctx.artifacts]
        if missing:
            grid = prod(settings.working(video.size, encoder.stride)) // encoder.stride**2
            todo.append(_Part(video, missing, grid))
        empty = np.zeros((2, video.num_objects, len(video.frames) - 2))
        size = len(packed(LayerResult(empty, ())))
        writes |= {str(stored.path(video.name, layer)): size for layer in missing}
    frames = sum(len(part.video.frames) for part in todo)
    width = sum(encoder.dims[layer - 1] for layer in layers)
    return Work(
        what="label propagation",
        items=frames,
        unit="frames",
        stored=sum(len(video.frames) for video in videos) - frames,
        measure=partial(_measure, scorer, todo),
        writes=writes,
        memory=4 * width * (settings.context + 2) * max((p.grid for p in todo), default=0),
    )


class _Part(NamedTuple):
    """A video, the layers it lacks, and patches of its frames."""

    video: Video
    layers: Sequence[int]
    grid: int


@torch.inference_mode()
def _measure(scorer: VideoScorer, parts: Sequence[_Part]) -> float:
    segmenter, settings = scorer.segmenter, scorer.segmenter.settings
    typical = sorted(parts, key=lambda part: part.grid * (1 + part.video.num_objects))[
        len(parts) // 2
    ]
    video = typical.video
    working = settings.working(video.size, scorer.encoder.stride)
    segmenter.layers = list(typical.layers)
    forward, small = _pass(segmenter, video, working)
    truth = video.annotation(0)
    with ThreadTeam(segmenter.device) as crew:
        few = [
            typical.layers[place * len(typical.layers) // crew.size]
            for place in range(min(crew.size, len(typical.layers)))
        ]
        grid = tuple(side // scorer.encoder.stride for side in working)
        maps = {layer: _enlarged(small[layer], grid) for layer in few}

        def step(before: int) -> tuple[float, dict[int, NDArray[np.uint8]]]:
            """Seconds of a frame that looks at so many besides the first, and its masks."""
            contexts = segmenter.start(maps, truth, video)
            for layer, context in contexts.items():
                for _ in range(before):
                    context.remember(_noisy(maps[layer]), torch.cat(context.first.labels, 1))
            now = {layer: _noisy(found) for layer, found in maps.items()}
            started = time.perf_counter()
            masks = segmenter.masks(contexts, now, working, video.size, crew=crew)
            return time.perf_counter() - started, masks

        step(0)  # warms up
        alone, (whole, masks) = step(0)[0], step(settings.context)
    started = time.perf_counter()
    for mask in masks.values():
        score_frame(mask, truth, video.num_objects)
    score = (time.perf_counter() - started) / len(few)
    # Each frame before makes a step longer, until as many are there as count.
    more = (whole - alone) / max(1, settings.context)
    total = 0.0
    for part in parts:
        length = len(part.video.frames)
        rounds = ceil(len(part.layers) / len(few))
        walked = sum(alone + more * min(t, settings.context) for t in range(length - 1))
        objects = part.video.num_objects / video.num_objects
        total += part.grid / typical.grid * (length * forward + rounds * walked)
        total += len(part.layers) * (length - 2) * objects * score
    return total / num_processes()


def _pass(segmenter: Segmenter, video: Video, working: Size) -> tuple[float, dict[int, Tensor]]:
    """Seconds that a frame's forward pass takes, and features [h, w, D] of a frame as large as was tried.

    Frames grow from an eighth of their sides to the whole. Where the next would take too long, it is
    told from the last two: attention grows with the square of the patches, all else with the patches.
    """
    encoder, paths = segmenter.encoder, video.frames[: segmenter.batch_size]
    sizes = {
        prod(size): size
        for part in (8, 4, 2, 1)
        if _is_seen(encoder, size := _floored(working, part, encoder.stride))
    }
    last = before = (0, 0.0)
    for pixels, size in sizes.items():
        if before[0] and _grown(before, last, pixels) > SECONDS / len(paths):
            break
        frames = list(frames_ahead(paths, video.size, size, num_workers=0))
        seconds = inf
        for _ in range(2):
            started = time.perf_counter()
            features = segmenter.forward(frames, video.name)
            seconds = min(seconds, (time.perf_counter() - started) / len(frames))
        before, last = last, (pixels, seconds)
    small = {layer: found[-1] for layer, found in features.items()}
    return _grown(before, last, prod(working)), small


def _floored(working: Size, part: int, stride: int) -> Size:
    height, width = (max(side // part // stride, 1) * stride for side in working)
    return height, width


def _is_seen(encoder: Encoder, size: Size) -> bool:
    try:
        encoder.check_size(*size)
    except UsageError:
        return False
    return True


def _grown(before: tuple[int, float], last: tuple[int, float], pixels: int) -> float:
    """Seconds at a number of pixels from those at two smaller ones, as pixels (a + b pixels), b >= 0."""
    (n, few), (m, many) = before, last
    rate = many / m
    growth = max(0.0, rate - few / n) / (m - n) if n else 0.0
    return pixels * (rate + growth * (pixels - m))


def _enlarged(features: Tensor, grid: tuple[int, ...]) -> Tensor:
    """[H, W, D] of [h, w, D]: the nearest patch's."""
    return F.interpolate(features.movedim(2, 0)[None], grid)[0].movedim(0, 2).contiguous()


def _noisy(features: Tensor) -> Tensor:
    return features + NOISE * features.std() * torch.randn_like(features)
