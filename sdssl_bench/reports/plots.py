"""Figures of results in Python: the report's style, in pyplot's hands, so that notebooks show them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sdssl_bench.errors import UsageError
from sdssl_bench.records import Stored
from sdssl_bench.reports.drawing import COLOURS, MARKERS, STYLE, draw_curve, lines
from sdssl_bench.reports.figures import panels
from sdssl_bench.reports.page_data import collect

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (4.2, 2.8)
"""Inches of a figure of one panel."""
LARGER = 1.35
"""Than on paper, where panels stand side by side."""


def plot_curve(
    stored: Stored, metric: str, *, axes: "Axes | None" = None, style: Mapping[str, Any]
) -> "Axes":
    """One metric over the layers with its 95 % interval as a band; scores in percent, others as they are.

    Args:
        stored: a record with its path.
        metric: that some layer has.
        axes: to draw in, beside what is there; None makes a figure.
        style: of the line, over the one that is next.

    Raises:
        UsageError: if the metric is no curve over the layers.
        DataError: as `page_data.collect`.
    """
    import matplotlib
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    data = collect([stored], include_limited=True)
    (result,), (benchmark,) = data["results"], data["benchmarks"]
    if metric not in result["metrics"]:
        known = ", ".join(result["metrics"]) or "none"
        raise UsageError(
            f"{metric} is a row of a matrix, no curve. Curves of this record: {known}."
        )
    scores = benchmark["ranked"]
    with matplotlib.rc_context(STYLE):
        if axes is None:
            axes = pyplot.subplots(figsize=SIZE, layout="constrained")[1]
        place = len(axes.lines)
        label = data["encoders"][0]["label"]
        unit = ", %" if scores else ""
        title, height = lines(benchmark["label"], 48), lines(f"{metric}{unit}", 36)
        if not place:
            axes.set_title(title)
            axes.set_ylabel(height)
        else:  # what the axes do not say of this curve, its label does
            label += "" if axes.get_title() == title else f", {benchmark['label']}"
            label += "" if axes.get_ylabel() == height else f", {metric}"
        colour = COLOURS[place % len(COLOURS)]
        following = {
            "color": colour,
            "markerfacecolor": style.get("color", colour),
            "marker": MARKERS[place % len(MARKERS)],
            "label": label,
        }
        draw_curve(
            axes,
            data,
            result,
            metric=metric,
            scale=100.0 if scores else 1.0,
            style={**following, **style},
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=2, nbins=12))
        axes.set_xlabel("layer")
        # Below, where neither curve nor band is; where nothing makes room there, matplotlib seeks a place.
        makes_room = axes.figure.get_layout_engine() is not None
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)} if makes_room else {}
        axes.legend(**below)
    return axes


def plot_panels(records: Sequence[Stored]) -> "list[Axes]":
    """The headline of every record: a panel a benchmark, a curve an encoder.

    Raises:
        UsageError: if there is none.
        DataError: as `page_data.collect`.
    """
    import matplotlib
    from matplotlib import pyplot

    if not records:
        raise UsageError("Expected results that rank, to plot them; found none.")
    data = collect(records, include_limited=True)
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(data, data["results"], figure=pyplot.figure(), with_task=True)
        width, height = figure.get_size_inches()
        figure.set_size_inches(LARGER * width, LARGER * height)
    return axes
