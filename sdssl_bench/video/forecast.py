"""What scoring videos will cost: of a typical one, a forward pass and steps at a size that is done soon."""

import time
from collections.abc import Sequence
from functools import cache, partial
from math import ceil, inf, prod
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sdssl_bench.datasets import Size, Video
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import UsageError
from sdssl_bench.metrics import score_frame
from sdssl_bench.system import ThreadTeam, Work, num_processes
from sdssl_bench.video.frames import frames_ahead
from sdssl_bench.video.propagation import Context
from sdssl_bench.video.scores import VideoScorer
from sdssl_bench.video.segmentation import Segmenter, Settings
from sdssl_bench.video.stored_scores import LayerResult, packed

SECONDS = 4.5
"""A forward pass that takes longer is told from those of smaller frames."""

PATCHES = 2048
"""Of the frame that is propagated on a CPU; a GPU takes frames of other sizes in other ways."""

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
            height, width = settings.working(video.size, encoder.stride)
            grid = height // encoder.stride, width // encoder.stride
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
        memory=4 * width * (settings.context + 2) * max((prod(p.grid) for p in todo), default=0),
    )


class _Part(NamedTuple):
    """A video, the layers it lacks, and rows and columns of patches of its frames."""

    video: Video
    layers: Sequence[int]
    grid: Size


@torch.inference_mode()
def _measure(scorer: VideoScorer, parts: Sequence[_Part]) -> float:
    segmenter, settings = scorer.segmenter, scorer.segmenter.settings
    typical = sorted(parts, key=lambda part: prod(part.grid) * (1 + part.video.num_objects))[
        len(parts) // 2
    ]
    video, stride = typical.video, scorer.encoder.stride
    segmenter.layers = list(typical.layers)
    forward, found = _pass(segmenter, video, settings.working(video.size, stride))
    truth = video.annotation(0)
    shrunk = 1.0
    if segmenter.device.startswith("cpu"):
        shrunk = min(1.0, (PATCHES / prod(typical.grid)) ** 0.5)
    grid, size = (
        (round(shrunk * height), round(shrunk * width))
        for height, width in (typical.grid, video.size)
    )
    working = grid[0] * stride, grid[1] * stride
    with ThreadTeam(segmenter.device) as crew:
        few = [
            typical.layers[place * len(typical.layers) // crew.size]
            for place in range(min(crew.size, len(typical.layers)))
        ]
        maps = {layer: _resized(found[layer], grid) for layer in few}

        def step(before: int) -> tuple[float, dict[int, NDArray[np.uint8]]]:
            """Seconds of a frame that looks at so many besides the first, and its masks."""
            contexts = segmenter.start(maps, truth, video)
            for layer, context in contexts.items():
                for _ in range(before):
                    context.remember(_noisy(maps[layer]), torch.cat(context.first.labels, 1))
            now = {layer: _noisy(one) for layer, one in maps.items()}
            started = time.perf_counter()
            masks = segmenter.masks(contexts, now, working, size, crew=crew)
            return time.perf_counter() - started, masks

        alone = min(step(0)[0] for _ in range(2))  # the first warms up
        whole, masks = min((step(settings.context) for _ in range(2)), key=itemgetter(0))
    score = 0.0
    for mask in masks.values():
        of_truth = np.asarray(
            Image.fromarray(mask).resize(truth.shape[::-1], Image.Resampling.NEAREST)
        )
        started = time.perf_counter()
        score_frame(of_truth, truth, video.num_objects)
        score += (time.perf_counter() - started) / len(few)
    cost = _Step.of(alone, whole, grid, settings, segmenter.device)
    total = 0.0
    for part in parts:
        length = len(part.video.frames)
        rounds = ceil(len(part.layers) / len(few))
        first, near = _similarities(part.grid, settings, segmenter.device)
        walked = sum(
            cost.seconds(prod(part.grid), first + near * min(t, settings.context))
            for t in range(length - 1)
        )
        objects = part.video.num_objects / video.num_objects
        total += prod(part.grid) / prod(typical.grid) * length * forward + rounds * walked
        total += len(part.layers) * (length - 2) * objects * score
    return total / num_processes()


class _Step(NamedTuple):
    """What a step takes: seconds a patch, and seconds a similarity to a patch of another frame."""

    patch: float
    similarity: float

    @classmethod
    def of(cls, alone: float, whole: float, grid: Size, settings: Settings, device: str) -> "_Step":
        """From steps that look at the first frame alone, and at as many more as count."""
        first, near = _similarities(grid, settings, device)
        if not settings.context:
            return cls(0.0, alone / first)
        similarity = max(0.0, whole - alone) / (settings.context * near)
        return cls(max(0.0, alone - similarity * first) / prod(grid), similarity)

    def seconds(self, patches: int, similarities: int) -> float:
        """Of a step."""
        return self.patch * patches + self.similarity * similarities


@cache
def _similarities(grid: Size, settings: Settings, device: str) -> tuple[int, int]:
    """`Context.similarities` of frames of this grid."""
    nothing = torch.empty(*grid, 0, device=device)
    return Context(nothing, nothing, rule=settings.rule, length=0).similarities


def _pass(segmenter: Segmenter, video: Video, working: Size) -> tuple[float, dict[int, Tensor]]:
    """Seconds that a frame's forward pass takes, and features [h, w, D] of a frame as large as was tried.

    Frames grow from an eighth of their sides to the whole. Where the next would take too long, it is
    told from those: attention grows with the square of the patches, all else with the patches.
    """
    encoder, paths = segmenter.encoder, video.frames[: segmenter.batch_size]
    sizes = {
        prod(size): size
        for part in (8, 4, 8**0.5, 2, 2**0.5, 1)
        if _is_seen(encoder, size := _floored(working, part, encoder.stride))
    }
    done: list[tuple[int, float]] = []
    for pixels, size in sizes.items():
        if len(done) > 1 and _grown(done, pixels) > SECONDS / len(paths):
            break
        frames = list(frames_ahead(paths, video.size, size, num_workers=0))
        seconds = inf
        for _ in range(2):
            started = time.perf_counter()
            features = segmenter.forward(frames, video.name)
            seconds = min(seconds, (time.perf_counter() - started) / len(frames))
            if seconds * len(frames) > SECONDS / 4:
                break  # long enough to be told from one
        done.append((pixels, seconds))
    small = {layer: found[-1] for layer, found in features.items()}
    return _grown(done, prod(working)), small


def _floored(working: Size, part: float, stride: int) -> Size:
    height, width = (max(int(side / part) // stride, 1) * stride for side in working)
    return height, width


def _is_seen(encoder: Encoder, size: Size) -> bool:
    try:
        encoder.check_size(*size)
    except UsageError:
        return False
    return True


def _grown(done: Sequence[tuple[int, float]], pixels: int) -> float:
    """Seconds at a number of pixels from those at smaller ones, as pixels (a + b pixels), b >= 0."""
    # The last and the one but one before it: of two that are close, b is mostly noise.
    (n, few), (m, many) = done[max(-3, -len(done))], done[-1]
    rate = many / m
    growth = max(0.0, rate - few / n) / (m - n) if m > n else 0.0
    return pixels * (rate + growth * (pixels - m))


def _resized(features: Tensor, grid: Size) -> Tensor:
    """[H, W, D] of [h, w, D]: the nearest patch's."""
    return F.interpolate(features.movedim(2, 0)[None], grid)[0].movedim(0, 2).contiguous()


def _noisy(features: Tensor) -> Tensor:
    return features + NOISE * features.std() * torch.randn_like(features)
