"""Pictures of t-SNE maps: one panel per layer, one colour per class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sdssl_bench.system import replacing

SIDE, MARGIN, TEXT, DOT, COLUMNS = 300, 12, 18, 3, 4
COLOURS = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
    (140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207),
)  # fmt: skip
"""Tableau's ten, in class order; more classes use them again."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One layer's map.

    Attributes:
        title: written above it.
        points: [m, 2] coordinates; only their relative positions mean anything.
    """

    title: str
    points: NDArray[Any]


def write_panels(
    path: Path,
    panels: Sequence[Panel],
    targets: NDArray[np.int64],
    *,
    names: Mapping[int, str],
    heading: str,
) -> Path:
    """Write the panels as one PNG, four to a row, with a legend; returns its path.

    Args:
        path: of the file.
        panels: one per layer.
        targets: [m] class of each point.
        names: class id -> name, for the legend.
        heading: model and data, written on top.
    """
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    cell = SIDE + MARGIN
    classes = np.unique(targets).tolist()
    colours = {one: COLOURS[i % len(COLOURS)] for i, one in enumerate(classes)}
    width = columns * cell + MARGIN
    top = TEXT + MARGIN
    legend = top + rows * (cell + TEXT)
    per_line = max(1, width // 160)
    height = legend + TEXT * -(-len(classes) // per_line) + MARGIN
    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN // 2), heading, fill="black")
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        corner = (MARGIN + column * cell, top + row * (cell + TEXT))
        _draw_panel(pen, corner, panel, [colours[one] for one in targets.tolist()])
    for number, one in enumerate(classes):
        row, column = divmod(number, per_line)
        x, y = MARGIN + column * 160, legend + row * TEXT
        pen.ellipse((x, y + 3, x + 2 * DOT + 2, y + 2 * DOT + 5), fill=colours[one])
        pen.text((x + 14, y), names[one][:22], fill="black")
    with replacing(path) as temporary:
        page.save(temporary, format="PNG")
    return path


def _draw_panel(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    panel: Panel,
    colours: Sequence[tuple[int, int, int]],
) -> None:
    left, top = corner
    pen.text((left, top), panel.title, fill="black")
    top += TEXT
    pen.rectangle((left, top, left + SIDE, top + SIDE), outline=(200, 200, 200))
    points = np.asarray(panel.points, np.float64)
    low, high = points.min(0), points.max(0)
    # One scale for both axes: distances along them are alike.
    scale = (SIDE - 4 * DOT) / max(float((high - low).max()), 1e-12)
    places = (points - (low + high) / 2) * scale + SIDE / 2
    for (x, y), colour in zip(places.tolist(), colours, strict=True):
        x, y = left + x, top + SIDE - y
        pen.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=colour)
