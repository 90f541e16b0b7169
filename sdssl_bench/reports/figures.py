"""The report's figures for a paper, each as PDF and SVG, in the style of the SDSSL paper's Figures 3 to 9.

layers-TASK       score of every layer, one panel per benchmark, bands are 95 % intervals  (Figs. 3 and 4)
tsne-DATA         t-SNE maps, encoders in rows, at quarters of the layers that have one     (Fig. 5)
cka               CKA between all layers, within and across encoders, one colour scale      (Fig. 6)
analysis-DATA     alignment, -uniformity, their ratio and R of every layer                  (Figs. 7 and 8)
alpha-TASK        score of the last layer by the final weight of L_isd,
beta-TASK         and by the weight of L_pred, where encoders differ in one of them alone   (Fig. 9)

A baseline and its self-distilled variant, NAME and sd_NAME, share a colour; the baseline is dashed. The
same data give the same bytes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdssl_bench.records import canonical_json, slug
from sdssl_bench.reports.drawing import (
    COLOURS,
    STYLE,
    TITLE,
    draw_curve,
    grid,
    lines,
    share_legend,
)
from sdssl_bench.reports.page_data import Data
from sdssl_bench.reports.representations import GRID
from sdssl_bench.system import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASSES = (
    "#0077bb", "#ee7733", "#009988", "#cc3311", "#33bbee",
    "#ee3377", "#999933", "#aa4499", "#888888", "#ddaa33",
)  # fmt: skip
DESCRIPTIONS = (
    ("alignment", 1, "alignment"),
    ("uniformity", -1, "−uniformity"),  # noqa: RUF001
    ("negative_alignment", 1, "negative alignment"),
    ("R", 1, "R"),
    ("uniformity_ratio", 1, "−uniformity / alignment"),  # noqa: RUF001
)

WEIGHTS = {
    "alpha": ("alpha_max", "final weight of the self-distillation loss, α"),  # noqa: RUF001
    "beta": ("beta", "weight of the prediction loss, β"),
}
"""Name of a figure -> setting of pretraining, label of its axis."""


def write_figures(data: Data, folder: Path) -> list[str]:
    """Write every figure that the data allow; returns their names.

    Args:
        data: from `page_data.collect`.
        folder: made if it is not there.
    """
    import matplotlib

    written = []
    with matplotlib.rc_context(STYLE):
        for name, figure in _figures(data):
            name = slug(name)
            for kind, date in (("pdf", "CreationDate"), ("svg", "Date")):
                with replacing(folder / f"{name}.{kind}") as temporary:
                    figure.savefig(temporary, format=kind, metadata={date: None})
            written.append(name)
    return written


def _figures(data: Data) -> Iterator[tuple[str, "Figure"]]:
    ranked = [r for r in data["results"] if data["benchmarks"][r["benchmark"]]["ranked"]]
    for task in sorted({_benchmark(data, r)["task"] for r in ranked}):
        yield f"layers-{task}", panels(data, [r for r in ranked if _task(data, r) == task])[0]
    names = {name for name, _, _ in DESCRIPTIONS}
    described = [
        r
        for r in data["results"]
        if not _benchmark(data, r)["ranked"] and names & set(r["metrics"])
    ]
    for label in sorted({_benchmark(data, r)["label"] for r in described}):
        one = [r for r in described if _benchmark(data, r)["label"] == label]
        yield label.replace(" ", "-"), _descriptions(data, one)
    if data["matrices"]:
        yield "cka", _matrices(data)
    for dataset in sorted({one["dataset"] for one in data["maps"]}):
        yield (
            f"tsne-{dataset.replace(' ', '-')}",
            _maps(data, [m for m in data["maps"] if m["dataset"] == dataset]),
        )
    for task in sorted({_task(data, r) for r in ranked}):
        for name in WEIGHTS:
            sweep = _sweep(data, [r for r in ranked if _task(data, r) == task], name)
            if sweep is not None:
                yield f"{name}-{task}", sweep


def _benchmark(data: Data, result: Data) -> Data:
    found: Data = data["benchmarks"][result["benchmark"]]
    return found


def _task(data: Data, result: Data) -> str:
    return str(_benchmark(data, result)["task"])


def panels(
    data: Data,
    results: Sequence[Data],
    *,
    figure: "Figure | None" = None,
    with_task: bool = False,
) -> "tuple[Figure, list[Axes]]":
    """A panel a benchmark: the headline of each encoder's layers.

    Args:
        data: from `page_data.collect`.
        results: those to show, all of them ranked.
        figure: to draw in; None makes one.
        with_task: whether titles name the task too.
    """
    benchmarks = list(dict.fromkeys(r["benchmark"] for r in results))
    figure, axes = grid(len(benchmarks), figure=figure)
    for one, benchmark in zip(axes, benchmarks, strict=True):
        info = data["benchmarks"][benchmark]
        for result in results:
            if result["benchmark"] == benchmark:
                draw_curve(one, data, result, metric=info["headline"])
        task = "" if with_task else f"{info['task']} "
        one.set_title(lines(info["label"].removeprefix(task), TITLE))
        one.set_ylabel(lines(f"{info['headline']}, %", 26))
    share_legend(figure, axes)
    return figure, axes


def _descriptions(data: Data, results: Sequence[Data]) -> "Figure":
    names = {name for result in results for name in result["metrics"]}
    shown = [one for one in DESCRIPTIONS if one[0] in names]
    figure, axes = grid(max(1, len(shown)))
    for one, (metric, sign, title) in zip(axes, shown, strict=False):
        for result in results:
            draw_curve(one, data, result, metric=metric, scale=sign)
        one.set_title(title)
    share_legend(figure, axes)
    return figure


def _matrices(data: Data) -> "Figure":
    import numpy as np

    matrices = data["matrices"]
    figure, axes = grid(len(matrices))
    known = [v for m in matrices for row in m["values"] for v in row if v is not None]
    low = min(0.95, max(0.0, np.floor(min(known, default=0.0) * 20) / 20))
    for one, matrix in zip(axes, matrices, strict=True):
        values = np.array(matrix["values"], float)
        image = one.imshow(values, vmin=low, vmax=1.0, cmap="viridis", origin="lower")
        one.grid(visible=False)
        for axis, layers in ((one.yaxis, matrix["rows"]), (one.xaxis, matrix["columns"])):
            step = max(1, -(-len(layers) // 6))
            ticks = range(step - 1, len(layers), step)
            axis.set_ticks(ticks, [str(layers[i]) for i in ticks])
        name = data["encoders"][matrix["encoder"]]["label"]
        one.set_ylabel(lines(name, 24), fontsize=7)
        one.set_xlabel(lines(matrix["against"] or name, 30), fontsize=7)
        one.set_title(lines(f"{matrix['dataset']}, {matrix['n']:,} images", TITLE))
    figure.colorbar(image, ax=axes, label="linear CKA", shrink=0.8)
    return figure


def _maps(data: Data, maps: Sequence[Data]) -> "Figure":
    import numpy as np

    rows = [_quarters(one["panels"]) for one in maps]
    columns = max(map(len, rows))
    figure, axes = grid(len(maps) * columns, columns=columns)
    for place, one in enumerate(axes):
        single, shown = maps[place // columns], rows[place // columns]
        if place % columns >= len(shown):
            one.set_axis_off()
            continue
        panel = shown[place % columns]
        one.set_aspect("equal")
        one.set(xticks=[], yticks=[], xlim=(-20, GRID + 20), ylim=(-GRID - 20, 20))
        one.spines[:].set_visible(True)
        for number, points in enumerate(panel["points"]):
            x, y = np.array(points, float).reshape(-1, 2).T
            colour = CLASSES[number % len(CLASSES)]
            one.scatter(x, -y, s=4, color=colour, label=single["classes"][number])
        score = panel["silhouette"]
        note = "" if score is None else f", silhouette {score:.2f}"
        one.set_title(f"layer {panel['layer']}{note}")
        if place % columns == 0:
            label = data["encoders"][single["encoder"]]["label"]
            one.set_ylabel(lines(label, 24), fontsize=7)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, markerscale=2)
    return figure


def _quarters(panels: Sequence[Data]) -> list[Data]:
    """Of the layers that an encoder has maps of, those at each quarter of the way; fewer if it has fewer."""
    places = {max(1, round(len(panels) * quarter / 4)) - 1 for quarter in (1, 2, 3, 4)}
    return [panels[place] for place in sorted(places)]


def _sweep(data: Data, results: Sequence[Data], name: str) -> "Figure | None":
    """Encoders that were pretrained alike but for a weight, on benchmarks with three values or more."""
    setting, label = WEIGHTS[name]
    groups: dict[tuple[int, str], list[tuple[float, Data]]] = {}
    for result in results:
        model = data["pool"][result["provenance"]["model"]]
        config = model["details"].get("config") or {}
        if config.get(setting) is None or result["layers"][-1] != result["depth"]:
            continue
        # The preset is a name for the rest of the configuration.
        rest = canonical_json({k: v for k, v in config.items() if k not in (setting, "preset")})
        groups.setdefault((result["benchmark"], rest), []).append((config[setting], result))
    kept = {key: found for key, found in groups.items() if len({w for w, _ in found}) >= 3}
    if not kept:
        return None
    figure, axes = grid(len(kept))
    for one, ((benchmark, _), found) in zip(axes, kept.items(), strict=True):
        info = data["benchmarks"][benchmark]
        found.sort(key=lambda pair: pair[0])
        curves = [result["metrics"][info["headline"]] for _, result in found]
        weights = [weight for weight, _ in found]
        one.plot(weights, [100 * c["value"][-1] for c in curves], color=COLOURS[0], marker="o")
        if all("low" in curve for curve in curves):
            low, high = ([100 * c[end][-1] for c in curves] for end in ("low", "high"))
            one.fill_between(weights, low, high, color=COLOURS[0], alpha=0.12, linewidth=0)
        one.set_title(lines(info["label"], TITLE))
        one.set_xlabel(label)
        one.set_ylabel(lines(f"{info['headline']}, last layer, %", 26))
    return figure
