"""The "strong" attacks of a made copy-detection set: print-scan, blur, insertion, paint, ...

Each takes an RGB image and a random generator, and returns the copy with the values it drew. They
follow the kinds named for INRIA Copydays (Douze et al. 2009), where people made them by hand.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

Drawn = tuple[Image.Image, dict[str, Any]]
Random = np.random.Generator


def print_scan(image: Image.Image, rng: Random) -> Drawn:
    """Printed in weak ink on tinted paper, laid askew on a scanner under uneven light."""
    angle = float(rng.uniform(-6, 6))
    ink, noise = float(rng.uniform(0.55, 0.8)), float(rng.uniform(6, 14))
    paper = rng.uniform(205, 245, 3)
    light = _smooth(image.size, rng)[..., None] * 0.3 + 0.85
    pixels = np.asarray(image, np.float64)
    pixels = paper - ink * (1 - pixels / 255) * paper
    pixels = pixels * light + rng.normal(0, noise, pixels.shape[:2])[..., None]
    scanned = _image(pixels).filter(ImageFilter.GaussianBlur(max(image.size) / 600))
    turned = scanned.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=_colour(paper))
    return turned, {"degrees": round(angle, 2), "ink": round(ink, 2), "noise": round(noise, 1)}


def blur(image: Image.Image, rng: Random) -> Drawn:
    """Out of focus."""
    radius = float(rng.uniform(0.008, 0.02)) * max(image.size)
    return image.filter(ImageFilter.GaussianBlur(radius)), {"radius_px": round(radius, 2)}


def insertion(image: Image.Image, rng: Random) -> Drawn:
    """Shrunk and placed somewhere on a larger cloudy background."""
    share = float(rng.uniform(0.25, 0.5))
    side = share**0.5
    width, height = (max(1, round(s * side)) for s in image.size)
    background = np.stack([_smooth(image.size, rng) for _ in range(3)], -1) * 255
    page = _image(background)
    at = (
        int(rng.integers(0, image.width - width + 1)),
        int(rng.integers(0, image.height - height + 1)),
    )
    page.paste(image.resize((width, height), Image.Resampling.LANCZOS), at)
    return page, {"area_share": round(share, 3)}


def paint(image: Image.Image, rng: Random) -> Drawn:
    """Broad brush strokes over a part of it."""
    strokes = int(rng.integers(5, 11))
    canvas = image.copy()
    draw = ImageDraw.Draw(canvas)
    size = np.array(image.size)
    for _ in range(strokes):
        points = [tuple(map(float, rng.uniform(0, 1, 2) * size)) for _ in range(3)]
        width = int(max(image.size) * rng.uniform(0.02, 0.06)) + 1
        draw.line(points, fill=_colour(rng.uniform(0, 256, 3)), width=width, joint="curve")
    return canvas, {"strokes": strokes}


def perspective(image: Image.Image, rng: Random) -> Drawn:
    """Seen at an angle: every corner is drawn inwards by up to a quarter of a side."""
    width, height = image.size
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    inwards = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * (width, height)
    seen = corners + inwards * rng.uniform(0, 0.25, (4, 2))
    view = image.transform(
        image.size,
        Image.Transform.PERSPECTIVE,
        homography(seen, corners),
        Image.Resampling.BICUBIC,
        fillcolor=_colour(rng.uniform(0, 256, 3)),
    )
    return view, {"corners": np.round(seen / (width, height), 3).tolist()}


def contrast(image: Image.Image, rng: Random) -> Drawn:
    """Contrast, brightness and gamma far off; half of them without colour."""
    weak = bool(rng.integers(2))
    factor = float(rng.uniform(0.25, 0.45) if weak else rng.uniform(1.8, 2.8))
    gamma = float(np.exp(rng.uniform(-0.6, 0.6)))
    grey = bool(rng.integers(2))
    changed = ImageEnhance.Contrast(image).enhance(factor)
    changed = changed.point([round(255 * (v / 255) ** gamma) for v in range(256)] * 3)
    if grey:
        changed = ImageOps.grayscale(changed).convert("RGB")
    return changed, {"contrast": round(factor, 2), "gamma": round(gamma, 2), "grey": grey}


ATTACKS: dict[str, Callable[[Image.Image, Random], Drawn]] = {
    "print-scan": print_scan,
    "blur": blur,
    "insertion": insertion,
    "paint": paint,
    "perspective": perspective,
    "contrast": contrast,
}


def homography(source: NDArray[np.float64], target: NDArray[np.float64]) -> list[float]:
    """The eight coefficients that map `source` [4, 2] to `target` [4, 2], as Pillow takes them."""
    rows, right = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [
            [x, y, 1, 0, 0, 0, -u * x, -u * y],
            [0, 0, 0, x, y, 1, -v * x, -v * y],
        ]
        right += [u, v]
    return [float(value) for value in np.linalg.solve(np.array(rows), np.array(right))]


def _smooth(size: tuple[int, int], rng: Random) -> NDArray[np.float64]:
    """[H, W] clouds in 0..1."""
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5), dtype=np.uint8))
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float64) / 255


def _image(pixels: NDArray[Any]) -> Image.Image:
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


def _colour(values: NDArray[Any]) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in np.clip(values, 0, 255))
    return red, green, blue
