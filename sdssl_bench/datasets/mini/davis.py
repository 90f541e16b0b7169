"""A miniature DAVIS-2017: photographs cut into shapes that move over other photographs, exact masks.

Landscape, portrait and square, two or three objects each, one of which may pass in front of another.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdssl_bench.datasets.mini import photographs
from sdssl_bench.datasets.mini.studio import Studio
from sdssl_bench.datasets.readers.palette import write_mask

JPEG_QUALITY = 95
PAN = 2
"""Pixels that the background moves per frame."""


@dataclass(frozen=True)
class MiniVideo:
    """One sequence: (H, W) in pixels, frames, objects."""

    size: tuple[int, int]
    frames: int
    objects: int


VIDEOS = {
    "mini-landscape": MiniVideo((144, 256), 8, 2),
    "mini-portrait": MiniVideo((216, 144), 7, 2),
    "mini-square": MiniVideo((160, 160), 6, 3),
}
"""What a complete miniature has."""


@dataclass(frozen=True, eq=False)
class _Actor:
    """An object: its picture [s, s, 3], its shape [s, s], and where it is in each frame (y, x)."""

    pixels: NDArray[np.uint8]
    shape: NDArray[np.bool_]
    path: list[tuple[int, int]]


def write_davis(root: Path, studio: Studio) -> None:
    """Write root/DAVIS: ImageSets, JPEGImages/480p and Annotations/480p (the official names)."""
    folder = root / "DAVIS"
    lists = folder / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(VIDEOS) + "\n", encoding="utf-8")
    for number, (name, video) in enumerate(VIDEOS.items()):
        frames = folder / "JPEGImages" / "480p" / name
        masks = folder / "Annotations" / "480p" / name
        frames.mkdir(parents=True)
        masks.mkdir(parents=True)
        for t, (pixels, ids) in enumerate(_scene(studio, video, first=4 * number)):
            Image.fromarray(pixels).save(frames / f"{t:05d}.jpg", quality=JPEG_QUALITY)
            write_mask(masks / f"{t:05d}.png", ids)


def _scene(
    studio: Studio, video: MiniVideo, *, first: int
) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """(RGB [H, W, 3], ids [H, W]) of each frame; regions from `first` on."""
    height, width = video.size
    reach = PAN * (video.frames - 1)
    regions = [studio.regions[(first + i) % len(studio.regions)] for i in range(video.objects + 1)]
    wide = (width + reach, height)
    backdrop = np.asarray(photographs.crop(regions[0], "train", size=wide, rng=studio.rng))
    actors = [_actor(studio, region, video) for region in regions[1:]]
    scene = []
    for t in range(video.frames):
        pixels = backdrop[:, PAN * t : PAN * t + width].copy()
        ids = np.zeros((height, width), np.uint8)
        for number, actor in enumerate(actors, 1):
            (y, x), side = actor.path[t], len(actor.shape)
            window = np.s_[y : y + side, x : x + side]
            pixels[window][actor.shape] = actor.pixels[actor.shape]
            ids[window][actor.shape] = number
        scene.append((pixels, ids))
    return scene


def _actor(studio: Studio, region: photographs.Region, video: MiniVideo) -> _Actor:
    """A blob of a photograph on a straight way that stays inside the image."""
    rng, (height, width) = studio.rng, video.size
    side = int(min(height, width) * rng.uniform(0.3, 0.42))
    image = photographs.crop(region, "test", size=(side, side), rng=rng)
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    waves, phase = rng.integers(2, 6), rng.uniform(0, 2 * np.pi)
    outline = 0.42 * (1 + 0.15 * np.sin(waves * np.arctan2(y, x) + phase))
    span = np.array([height - side, width - side])
    start = rng.uniform(0.1, 0.9, 2) * span
    step = rng.uniform(-0.02, 0.02, 2) * span
    places = [np.clip(np.rint(start + t * step), 0, span) for t in range(video.frames)]
    path = [(int(top), int(left)) for top, left in places]
    return _Actor(np.asarray(image), y * y + x * x < outline * outline, path)
