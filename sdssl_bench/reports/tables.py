"""Tables on the terminal; numbers are stored as fractions and shown x100 here only."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from statistics import stdev
from typing import TYPE_CHECKING, Any

from sdssl_bench.records import best_layer, limit_mark, part_mark, plain, record_title
from sdssl_bench.rounding import percent
from sdssl_bench.system import Column, FittedTable, curve_of, shortened

if TYPE_CHECKING:
    import pandas

    from sdssl_bench.features import CacheEntry
    from sdssl_bench.statistics import Interval


def layer_table(
    record: Mapping[str, Any],
    layers: Sequence[int],
    *,
    reused: Collection[int] = (),
    intervals: "Mapping[int, Interval] | None" = None,
) -> FittedTable:
    """One row per layer: headline, its interval, its companions at the same setting, a bar.

    In the mean over draws of few labels the standard deviation over the draws stands behind the interval.

    Args:
        record: see results/README.md.
        layers: which of its layers to show.
        reused: layers that were stored before this run, marked so.
        intervals: layer -> 95 % interval of the headline; none leaves the column out.
    """
    rows = {n: record["layers"][str(n)] for n in layers if str(n) in record["layers"]}
    if not record.get("ranked", True):
        return _description_table(record, rows, reused=reused)
    headline = record["headline"]
    group = headline.rpartition("/")[0]
    found = dict.fromkeys(m for entry in rows.values() for m in entry["metrics"])
    others = [m for m in found if m.rpartition("/")[0] == group and m != headline]
    best = max((entry["metrics"][headline] for entry in rows.values()), default=0.0)
    tries = {n: entry["notes"].get("tries", {}).get(headline, []) for n, entry in rows.items()}
    most = max(map(len, tries.values()), default=0)
    columns = [
        Column("layer"),
        Column(headline),
        *([Column("95 %")] if intervals else []),
        *([Column(f"sd of {most}")] if most else []),
        *(Column(name, drop=3) for name in others),
        Column("n", drop=2),
        Column("", bar=True, drop=1),
        Column("", left=True),
    ]
    cells = []
    for layer, entry in rows.items():
        value = entry["metrics"][headline]
        interval = intervals.get(layer) if intervals else None
        ends = "" if interval is None else f"{percent(interval.low)}-{percent(interval.high)}"
        mark = "best" if value == best and len(rows) > 1 else ""
        stored = "(stored)" if layer in reused else ""
        cells.append(
            [
                layer,
                percent(value),
                *([ends] if intervals else []),
                *([percent(stdev(tries[layer]))] if most else []),
                *(percent(entry["metrics"][name]) for name in others),
                f"{entry['n']:,}",
                value / best if best > 0 else 0.0,
                f"{mark} {stored}".strip(),
            ]
        )
    return FittedTable(columns, cells, title=record_title(record))


def points_table(
    found: "Sequence[tuple[Mapping[str, Any], Mapping[int, Interval]]]", layers: Sequence[int]
) -> FittedTable:
    """One row per layer, the headline at each point of the blocks with its interval.

    Args:
        found: records of one encoder on one benchmark at several points, with their intervals.
        layers: which of their layers to show.
    """
    records = [record for record, _ in found]
    points = [record["model"].get("point", "block") for record in records]
    headline = records[0]["headline"]
    curves = [
        {n: record["layers"][str(n)]["metrics"][headline] for n in layers} for record in records
    ]
    cells: list[list[Any]] = []
    for layer in layers:
        row: list[Any] = [layer]
        for curve, (_, intervals) in zip(curves, found, strict=True):
            ends = intervals.get(layer)
            row += [
                percent(curve[layer]),
                "" if ends is None else f"{percent(ends.low)}-{percent(ends.high)}",
            ]
        best = [p for p, c in zip(points, curves, strict=True) if c[layer] == max(c.values())]
        cells.append([*row, ", ".join(best) if len(layers) > 1 else ""])
    columns = [
        Column(name, drop=drop) for point in points for name, drop in ((point, 0), ("95 %", 1))
    ]
    name = records[0]["model"]["name"].removesuffix(f" {points[0]}")
    title = record_title({**records[0], "model": {**records[0]["model"], "name": name}})
    return FittedTable(
        [Column("layer"), *columns, Column("best", left=True, drop=2)],
        cells,
        title=f"{title} · {headline}",
    )


def result_line(record: Mapping[str, Any], *, others: Sequence[Mapping[str, Any]] = ()) -> str:
    """A record in one line: benchmark, last layer, best layer, the curve over its layers.

    Args:
        record: with at least one layer.
        others: records of further encoders on the same benchmark; their curves stand beside it.
    """
    name = plain(record["dataset"]["name"])
    whole = name if name.startswith(record["task"]) else f"{record['task']} {name}"
    mark = part_mark(record["protocol"]["id"])
    point = record["model"].get("point")
    mark += f" {point}" if point else ""
    benchmark = shortened(whole, 24 - len(mark)) + mark
    if not record.get("ranked", True):
        return f"{benchmark:<24} {len(record['layers'])} layers described"
    return f"{benchmark:<24} " + "   ".join(_curve_text(one) for one in (record, *others))


def results_table(records: Sequence[Mapping[str, Any]]) -> FittedTable:
    """One row a record: encoder, benchmark, its last and its best layer x100, the curve over its layers."""
    from sdssl_bench.statistics import benchmark_name

    columns = [
        Column("model", shorten=True),
        Column("benchmark", left=True),
        *map(Column, ("last", "best", "at")),
        Column("curve", left=True, drop=1),
    ]
    rows = []
    for record in records:
        headline = record["headline"]
        benchmark = benchmark_name(record) + limit_mark(record["limited"])
        scores: list[str] = ["", "", "", f"{len(record['layers'])} layers described"]
        layers = {int(n): entry["metrics"] for n, entry in record["layers"].items()}
        if layers and record.get("ranked", True):
            last, best = max(layers), best_layer(record, headline)
            values = [layers[n][headline] for n in sorted(layers)]
            scores = [percent(values[-1]), percent(max(values)), str(best), curve_of(values)]
            scores[0] += "" if last == record["model"]["depth"] else f" ({last})"
        rows.append([plain(record["model"]["name"]), benchmark, *scores])
    return FittedTable(columns, rows, repeat=2)


def _curve_text(record: Mapping[str, Any]) -> str:
    layers = {int(n): entry["metrics"][record["headline"]] for n, entry in record["layers"].items()}
    last, best = max(layers), max(layers, key=lambda layer: layers[layer])
    at = "" if layers[best] <= layers[last] else f" ({percent(layers[best])} at {best})"
    return f"{percent(layers[last]):>5}{at:<13} {curve_of([layers[n] for n in sorted(layers)])}"


def _description_table(
    record: Mapping[str, Any], rows: Mapping[int, Mapping[str, Any]], *, reused: Collection[int]
) -> FittedTable:
    """Numbers that are no scores, as they are: one row per layer, without metrics of groups."""
    shown = dict.fromkeys(m for entry in rows.values() for m in entry["metrics"] if "/" not in m)
    columns = [Column("layer"), *map(Column, shown), Column("n", drop=1), Column("", left=True)]
    cells = [
        [
            layer,
            *(f"{entry['metrics'][m]:.4g}" if m in entry["metrics"] else "" for m in shown),
            f"{entry['n']:,}",
            "(stored)" if layer in reused else "",
        ]
        for layer, entry in rows.items()
    ]
    return FittedTable(columns, cells, title=record_title(record))


def similarity_table(record: Mapping[str, Any], *, title: str) -> FittedTable:
    """The metrics cka/layerNN of all layers as a matrix, x100."""
    from sdssl_bench.analysis import LAYER_METRIC

    rows = {int(layer): entry["metrics"] for layer, entry in record["layers"].items()}
    names = sorted({m for found in rows.values() for m in found if m.startswith(LAYER_METRIC)})
    columns = [
        Column("layer"), *(Column(str(int(name.removeprefix(LAYER_METRIC)))) for name in names)
    ]  # fmt: skip
    cells = [
        [layer, *(percent(found[name]) if name in found else "" for name in names)]
        for layer, found in rows.items()
    ]
    return FittedTable(columns, cells, title=title)


def frame_table(frame: "pandas.DataFrame", *, title: str) -> FittedTable:
    """A data frame of texts, its index as first columns.

    A frame that is wider than high is shown turned, since terminals are higher than wide.
    """
    if frame.index.nlevels == 1 and frame.shape[1] > max(4, len(frame)):
        frame = frame.T.rename_axis("benchmark")
    flat = frame.reset_index()
    names = ["model" if name == "row" else str(name) for name in flat.columns]
    columns = [
        Column(name, left=at < frame.index.nlevels, shorten=at == 0)
        for at, name in enumerate(names)
    ]
    rows = [[str(cell) for cell in row] for row in flat.itertuples(index=False)]
    return FittedTable(columns, rows, title=title, repeat=frame.index.nlevels)


def score_table(scores: Mapping[str, Any]) -> FittedTable:
    """The scores of `score knn`: one row per layer and k."""
    names = ["k", "top1", "top5", "mean_per_class", "n"]
    several = "layers" in scores
    rows = [
        [
            *([entry["layer"]] if several else []),
            k,
            *(percent(values[metric]) for metric in names[1:4]),
            f"{entry['n']:,}",
        ]
        for entry in scores.get("layers", [scores])
        for k, values in entry["k"].items()
    ]
    headings = [*(["layer"] if several else []), *names]
    return FittedTable([Column(name) for name in headings], rows, title="k-NN")


def size(num_bytes: int) -> str:
    """Bytes for a person.

    >>> size(1536), size(12_000_000_000)
    ('1.5 KiB', '11.2 GiB')
    """
    value = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def cache_table(entries: "Sequence[CacheEntry]") -> FittedTable:
    """The feature cache: one row per model and split."""
    columns = [
        Column("key", left=True),
        Column("model", shorten=True),
        Column("data", left=True),
        Column("layers", left=True),
        Column("features", left=True, drop=3),
        Column("rows", drop=2),
        Column("size"),
        Column("state", left=True, drop=1),
        Column("last used", left=True, drop=4),
    ]
    rows = [
        [
            entry.key[:12],
            entry.model,
            f"{shortened(entry.dataset, 20)} {entry.split}",
            ranges(entry.layers),
            ", ".join(entry.poolings),
            f"{entry.rows:,}",
            size(entry.bytes),
            "complete" if entry.complete else "partial",
            f"{datetime.fromtimestamp(entry.last_used):%Y-%m-%d %H:%M}",
        ]
        for entry in entries
    ]
    return FittedTable(columns, rows)


def ranges(numbers: Sequence[int]) -> str:
    """Numbers as ranges.

    >>> ranges([1, 2, 3, 7, 9, 10])
    '1-3,7,9-10'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)
