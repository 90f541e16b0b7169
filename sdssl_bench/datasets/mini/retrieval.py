"""Miniature Oxford, Paris and Copydays, in official layout, from bundled photographs.

A landmark is a window of a photograph; queries and database images are views of the photograph. How
much of the landmark a view shows makes it easy, hard, junk, or none of them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sdssl_bench.datasets.mini import photographs
from sdssl_bench.datasets.mini.copy_attacks import make_attacks
from sdssl_bench.datasets.mini.studio import Studio, save_jpeg

EASY, HARD, JUNK = 0.6, 0.25, 0.02
"""Least share of the landmark that an easy, hard or junk view shows."""
VIEW_PIXELS = 112
"""Longest side of a view."""

Window = tuple[float, float, float, float]


def write_roxford5k(root: Path, studio: Studio) -> None:
    """root/roxford5k: gnd_roxford5k.json and jpg/."""
    _write(root / "roxford5k", "roxford5k", studio)


def write_rparis6k(root: Path, studio: Studio) -> None:
    """root/rparis6k: likewise."""
    _write(root / "rparis6k", "rparis6k", studio)


def write_copydays(root: Path, studio: Studio) -> None:
    """root/copydays: originals are photographs, copies are made by `data copydays`'s attacks."""
    originals = root / "copydays-originals"
    for region in studio.regions:
        picture = photographs.whole(region)
        picture.thumbnail((200, 200), Image.Resampling.LANCZOS)
        save_jpeg(picture, originals / f"{region.name.replace(' ', '_')}.jpg")
    seed = int(studio.rng.integers(2**31))
    make_attacks(originals, root / "copydays", seed=seed, num_originals=len(studio.regions))
    for file in originals.iterdir():
        file.unlink()
    originals.rmdir()


def _write(folder: Path, name: str, studio: Studio) -> None:
    database: list[tuple[str, int, Window]] = []
    queries: list[tuple[str, int, Window, list[float]]] = []
    for landmark, region in enumerate(studio.regions):
        picture = photographs.whole(region)
        label = region.name.replace(" ", "_")
        for view in range(studio.num_train):
            # Each reaches a bit further away from the landmark than the one before.
            window = _window(studio.rng, away=0.5 * view / (studio.num_train - 1))
            database.append((f"{label}_{view:06d}", landmark, window))
            _save(picture, window, folder / "jpg" / f"{label}_{view:06d}.jpg")
        for query in range(studio.num_test):
            window = _window(studio.rng, away=0.02)
            image = _save(picture, window, folder / "jpg" / f"{label}_q{query:05d}.jpg")
            box = _box(window, image.size)
            queries.append((f"{label}_q{query:05d}", landmark, window, box))
    order = studio.rng.permutation(len(database)).tolist()
    database = [database[i] for i in order]
    truth: dict[str, Any] = {
        "imlist": [image for image, _, _ in database],
        "qimlist": [query for query, _, _, _ in queries],
        "gnd": [{"bbx": box, **_labels(database, landmark)} for _, landmark, _, box in queries],
    }
    path = folder / f"gnd_{name}.json"
    path.write_text(json.dumps(truth, indent=1) + "\n", "utf-8")


def _labels(database: list[tuple[str, int, Window]], landmark: int) -> dict[str, list[int]]:
    labels: dict[str, list[int]] = {"easy": [], "hard": [], "junk": []}
    for index, (_, where, window) in enumerate(database):
        share = shown(window) if where == landmark else 0.0
        if share >= JUNK:
            kind = "easy" if share >= EASY else "hard" if share >= HARD else "junk"
            labels[kind].append(index)
    return labels


LANDMARK: Window = (0.25, 0.25, 0.6, 0.6)
"""Of every photograph, in fractions of its sides: left, top, right, bottom."""


def shown(window: Window) -> float:
    """Share of the landmark that a window shows.

    >>> shown((0.25, 0.25, 0.6, 0.6)), shown((0.6, 0.6, 1.0, 1.0))
    (1.0, 0.0)
    """
    sides = [
        max(0.0, min(window[i + 2], LANDMARK[i + 2]) - max(window[i], LANDMARK[i]))
        / (LANDMARK[i + 2] - LANDMARK[i])
        for i in (0, 1)
    ]
    return sides[0] * sides[1]


def _window(rng: np.random.Generator, *, away: float) -> Window:
    """A view of about half the photograph that lies `away` from the landmark."""
    width, height = rng.uniform(0.4, 0.55, 2)
    left, top = rng.uniform(0.1, 0.2, 2) + away * rng.uniform(0.6, 1.0, 2)
    left, top = min(left, 1 - width), min(top, 1 - height)
    return float(left), float(top), float(left + width), float(top + height)


def _save(picture: Image.Image, window: Window, path: Path) -> Image.Image:
    width, height = picture.size
    box = (window[0] * width, window[1] * height, window[2] * width, window[3] * height)
    scale = VIEW_PIXELS / max(box[2] - box[0], box[3] - box[1])
    size = (round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale))
    image = picture.resize(size, Image.Resampling.LANCZOS, box)
    save_jpeg(image, path)
    return image


def _box(window: Window, size: tuple[int, int]) -> list[float]:
    """The landmark in pixels of a query's view, as far as the view shows it."""
    spans = (window[2] - window[0], window[3] - window[1])
    return [
        round(min(max((LANDMARK[i] - window[i % 2]) / spans[i % 2], 0.0), 1.0) * size[i % 2], 1)
        for i in range(4)
    ]
