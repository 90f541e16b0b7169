"""What scoring videos will cost: frames of a typical one, from its first to one with a whole context."""

import time
from collections.abc import Sequence
from functools import partial
from math import ceil, prod
from typing import NamedTuple

import numpy as np
import torch

from sdssl_bench.datasets import Video
from sdssl_bench.metrics import score_frame
from sdssl_bench.system import ThreadTeam, Work, num_processes
from sdssl_bench.video.frames import frames_ahead
from sdssl_bench.video.scores import VideoScorer
from sdssl_bench.video.stored_scores import LayerResult, packed

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
    video, batch = typical.video, segmenter.batch_size
    working = settings.working(video.size, scorer.encoder.stride)
    frames = list(frames_ahead(video.frames[: max(2, batch)], video.size, working, num_workers=0))
    segmenter.layers = list(typical.layers)
    first = segmenter.forward(frames[:batch], video.name)
    started = time.perf_counter()
    last = segmenter.forward(frames[-batch:], video.name)
    forward = (time.perf_counter() - started) / min(batch, len(frames))
    truth = video.annotation(0)
    steps: list[float] = []
    with ThreadTeam(segmenter.device) as crew:
        few = [
            typical.layers[place * len(typical.layers) // crew.size]
            for place in range(min(crew.size, len(typical.layers)))
        ]
        contexts = segmenter.start({layer: first[layer][0] for layer in few}, truth, video)
        # As many as fill the context, and one more: the frames before have fewer to look at.
        for _ in range(settings.context + 2):
            now = {layer: last[layer][-1] for layer in few}
            now = {n: f + NOISE * f.std() * torch.randn_like(f) for n, f in now.items()}
            started = time.perf_counter()
            masks = segmenter.masks(contexts, now, working, video.size, crew=crew)
            steps.append(time.perf_counter() - started)
    started = time.perf_counter()
    for mask in masks.values():
        score_frame(mask, truth, video.num_objects)
    score = (time.perf_counter() - started) / len(few)
    total = 0.0
    for part in parts:
        length = len(part.video.frames)
        rounds = ceil(len(part.layers) / len(few))
        walked = sum(steps[: length - 1]) + max(0, length - 1 - len(steps)) * sum(steps[-2:]) / 2
        objects = part.video.num_objects / video.num_objects
        total += part.grid / typical.grid * (length * forward + rounds * walked)
        total += len(part.layers) * (length - 2) * objects * score
    return total / num_processes()
