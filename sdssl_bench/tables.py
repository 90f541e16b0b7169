"""Tables on the terminal; numbers are stored as fractions and shown x100 here only."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sdssl_bench.rounding import percent

if TYPE_CHECKING:
    import pandas
    from rich.console import RenderableType

    from sdssl_bench.features.cache import CacheEntry
    from sdssl_bench.uncertainty import Interval

BAR_WIDTH = 24


def show(renderable: "RenderableType") -> None:
    """Print to stdout; no colour when NO_COLOR is set or stdout is no terminal.

    In a file or pipe the table is as wide as it needs to be instead of cut at 80 columns.
    """
    import sys

    from rich.console import Console

    width = None if sys.stdout.isatty() else 200
    # No markup: names of models hold brackets.
    Console(width=width, highlight=False, markup=False).print(renderable)


def bar(value: float, best: float) -> str:
    """A bar from 0 to `best`, both fractions; layers of one task are compared, so best fills it.

    >>> bar(0.5, 1.0)
    '████████████'
    """
    eighths = round(8 * BAR_WIDTH * max(value, 0.0) / best) if best > 0 else 0
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def layer_table(
    record: Mapping[str, Any],
    layers: Sequence[int],
    *,
    reused: Collection[int] = (),
    intervals: "Mapping[int, Interval] | None" = None,
) -> "RenderableType":
    """One row per layer: headline, its companions at the same setting, a bar.

    Args:
        record: see results/README.md.
        layers: which of its layers to show.
        reused: layers that were stored before this run, marked so.
        intervals: layer -> 95 % interval of the headline; none leaves the column out.
    """
    from rich.console import Group
    from rich.table import Table

    if not record.get("ranked", True):
        return _description_table(record, layers, reused=reused)
    headline = record["headline"]
    group = headline.rpartition("/")[0]
    rows = {
        layer: record["layers"][str(layer)] for layer in layers if str(layer) in record["layers"]
    }
    names = [headline]
    for entry in rows.values():
        same = [m for m in entry["metrics"] if m.rpartition("/")[0] == group and m not in names]
        names += same
    best = max((entry["metrics"][headline] for entry in rows.values()), default=0.0)
    table = Table(header_style="bold")
    table.add_column("layer", justify="right")
    for name in names:
        table.add_column(name, justify="right")
        if name == headline and intervals:
            table.add_column("95 %", justify="right")
    table.add_column("n", justify="right")
    table.add_column("", no_wrap=True, min_width=BAR_WIDTH)
    table.add_column("")
    for layer, entry in rows.items():
        value = entry["metrics"][headline]
        mark = "best" if value == best and len(rows) > 1 else ""
        if layer in reused:
            mark = f"{mark} (stored)".strip()
        cells = [percent(entry["metrics"][name]) for name in names]
        if intervals:
            own = intervals.get(layer)
            ends = "" if own is None else f"{percent(own.low)}-{percent(own.high)}"
            cells.insert(1, ends)
        table.add_row(str(layer), *cells, f"{entry['n']:,}", bar(value, best), mark)
    # Not the title of the table, which would be broken at its width.
    return Group(record_title(record), table)


def _description_table(
    record: Mapping[str, Any], layers: Sequence[int], *, reused: Collection[int]
) -> "RenderableType":
    """Numbers that are no scores, as they are: one row per layer, without metrics of groups."""
    from rich.console import Group
    from rich.table import Table

    rows = {n: record["layers"][str(n)] for n in layers if str(n) in record["layers"]}
    shown = dict.fromkeys(m for entry in rows.values() for m in entry["metrics"] if "/" not in m)
    table = Table(header_style="bold")
    for name in ("layer", *shown, "n"):
        table.add_column(name, justify="right")
    table.add_column("")
    for layer, entry in rows.items():
        found = entry["metrics"]
        cells = [f"{found[name]:.4g}" if name in found else "" for name in shown]
        mark = "(stored)" if layer in reused else ""
        table.add_row(str(layer), *cells, f"{entry['n']:,}", mark)
    return Group(record_title(record), table)


def similarity_table(record: Mapping[str, Any], *, title: str) -> "RenderableType":
    """The metrics cka/layerNN of all layers as a matrix, x100."""
    from rich.console import Group
    from rich.table import Table

    from sdssl_bench.analysis.cka import LAYER_METRIC

    rows = {int(layer): entry["metrics"] for layer, entry in record["layers"].items()}
    columns = sorted({m for found in rows.values() for m in found if m.startswith(LAYER_METRIC)})
    table = Table(header_style="bold")
    for name in ("layer", *(str(int(one.removeprefix(LAYER_METRIC))) for one in columns)):
        table.add_column(name, justify="right")
    for layer, found in rows.items():
        table.add_row(str(layer), *(percent(found[c]) if c in found else "" for c in columns))
    return Group(title, table)


def variant_mark(variant: str) -> str:
    """What stands behind the name of data that are not the whole official set.

    >>> variant_mark("official"), variant_mark("partial")
    ('', ' (partial)')
    """
    return "" if variant in ("official", "folder") else f" ({variant})"


def record_title(record: Mapping[str, Any]) -> str:
    """What a table's numbers are: protocol, data, model, and everything unusual about them."""
    model, data, protocol = record["model"], record["dataset"], record["protocol"]
    parts = [
        f"{protocol['id']}@{protocol['version']}",
        f"{data['name']}{variant_mark(data['variant'])}",
        f"{model['name']} [{model['network']}, norm {model['norm']}]",
    ]
    if not model["pretrained"]:
        parts.append("UNTRAINED")
    if record["limited"] is not None:
        parts.append(f"limited to {record['limited']} items per split")
    return " · ".join(parts)


def frame_table(frame: "pandas.DataFrame", *, title: str) -> "RenderableType":
    """A data frame of texts, its index as first columns.

    A frame that is wider than high is shown turned, since terminals are higher than wide.
    """
    from rich.table import Table

    if frame.index.nlevels == 1 and frame.shape[1] > max(4, len(frame)):
        frame = frame.T.rename_axis("benchmark")

    table = Table(title=title, title_justify="left", header_style="bold")
    flat = frame.reset_index()
    for name in flat.columns:
        table.add_column("model" if name == "row" else str(name), overflow="fold")
    for row in flat.itertuples(index=False):
        table.add_row(*(str(cell) for cell in row))
    return table


def score_table(scores: Mapping[str, Any]) -> "RenderableType":
    """The scores of `score knn`: one row per layer and k."""
    from rich.table import Table

    layers = scores.get("layers", [scores])
    table = Table(title="k-NN", title_justify="left", header_style="bold")
    names = ["layer", "k", "top1", "top5", "mean_per_class", "n"]
    for name in names if "layers" in scores else names[1:]:
        table.add_column(name, justify="right")
    for entry in layers:
        for k, values in entry["k"].items():
            cells = [k, *(percent(values[m]) for m in names[2:5]), f"{entry['n']:,}"]
            table.add_row(*([str(entry["layer"])] if "layer" in entry else []), *cells)
    return table


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


def cache_table(entries: "Sequence[CacheEntry]") -> "RenderableType":
    """The feature cache: one row per model and split."""
    from rich.table import Table

    table = Table(header_style="bold")
    names = ("key", "model", "data", "layers", "features", "rows", "size", "state", "last used")
    for name in names:
        table.add_column(name, justify="right" if name in ("rows", "size") else "left")
    for entry in entries:
        table.add_row(
            entry.key[:12],
            entry.model,
            f"{entry.dataset} {entry.split}",
            ranges(entry.layers),
            ", ".join(entry.poolings),
            f"{entry.rows:,}",
            size(entry.bytes),
            "complete" if entry.complete else "partial",
            f"{datetime.fromtimestamp(entry.last_used):%Y-%m-%d %H:%M}",
        )
    return table


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
