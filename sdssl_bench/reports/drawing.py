"""Panels, colours and curves that the report's figures share."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sdssl_bench.reports.page_data import Data

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008), without the yellow that white paper swallows.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "lines.linewidth": 1.3,
    "lines.markersize": 3.2,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "sdssl-bench",
    "text.parse_math": False,  # a name may hold dollar signs
}
PANEL = (2.3, 1.75)
"""Width and height of a panel in inches: three stand side by side on a page."""
COLUMNS = 3
TITLE = 30
"""Characters: wider ones leave the last panel of a row, whose axes are not in its middle."""


def lines(text: str, width: int) -> str:
    """Text broken at spaces into lines of at most `width` characters, three lines at most."""
    broken = textwrap.wrap(text, width, max_lines=3, placeholder=" ...", break_on_hyphens=False)
    return "\n".join(broken)


LEGEND_ROW = 0.18
"""Inches."""


def grid(
    count: int, *, columns: int = COLUMNS, figure: "Figure | None" = None
) -> "tuple[Figure, list[Axes]]":
    """A figure, or the one given, and `count` axes in it; room for a legend is below them."""
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = figure or Figure()
    figure.set_size_inches(PANEL[0] * columns, PANEL[1] * rows + 0.35)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    flat: list[Axes] = list(axes.flat)
    for unused in flat[count:]:
        unused.remove()
    return figure, flat[:count]


def look(data: Data, encoder: int) -> dict[str, Any]:
    """Colour, marker and dash: those of its partner, but dashed, if it is the baseline of a pair."""
    labels = [one["label"] for one in data["encoders"]]
    families = [label.removeprefix("sd_").removeprefix("sd-") for label in labels]
    place = list(dict.fromkeys(families)).index(families[encoder])
    baseline = families[encoder] == labels[encoder] and families.count(labels[encoder]) > 1
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": "--" if baseline else "-",
        "markerfacecolor": "white" if baseline else COLOURS[place % len(COLOURS)],
        "label": labels[encoder],
    }


def draw_curve(
    axes: "Axes",
    data: Data,
    result: Data,
    *,
    metric: str,
    scale: float = 100.0,
    style: Mapping[str, Any] | None = None,
) -> None:
    """One encoder's values over the layers; a missing layer breaks the line.

    Args:
        axes: to draw in.
        data: from `page_data.collect`.
        result: one of its results.
        metric: of these values; nothing is drawn where the result has none.
        scale: factor of the values.
        style: of the line, instead of the encoder's `look`.
    """
    curve = result["metrics"].get(metric)
    if curve is None:
        return
    style = {**look(data, result["encoder"]), **(style or {})}
    place = {layer: i for i, layer in enumerate(result["layers"])}
    layers = list(range(result["layers"][0], result["layers"][-1] + 1))

    def values(name: str) -> list[float]:
        found = [curve[name][place[x]] if x in place else None for x in layers]
        return [float("nan") if v is None else scale * v for v in found]

    (line,) = axes.plot(layers, values("value"), **style)
    if "low" not in curve:
        return
    ends: Any = values("low"), values("high")
    if len(layers) == 1:  # of which there is no band to see
        axes.vlines(layers, *ends, color=line.get_color(), alpha=0.5)
    else:
        axes.fill_between(layers, *ends, color=line.get_color(), alpha=0.12, linewidth=0)


def share_legend(figure: "Figure", axes: "Sequence[Axes]") -> None:
    """Whole layers on the axis and one legend for all panels."""
    from matplotlib.ticker import MaxNLocator

    handles: dict[str, Any] = {}
    for one in axes:
        one.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=2, nbins=12))
        one.set_xlabel("layer")
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    columns = max(1, min(len(handles), len(axes) if len(axes) < COLUMNS else COLUMNS))
    # `grid` leaves room for one row; more must not squash the panels.
    rows = -(-len(handles) // columns)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + LEGEND_ROW * (rows - 1))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)
