"""The tables of `sdssl-bench reproduce`: reported | ours | difference | within the interval?"""

from collections.abc import Sequence

from sdssl_bench.paper import Compared, Outcome, Release, method_name, reproduction
from sdssl_bench.records import limit_mark, variant_mark
from sdssl_bench.rounding import percent, points
from sdssl_bench.statistics import Interval
from sdssl_bench.system import Column, FittedTable


def reproduction_table(number: int, found: Sequence[Outcome]) -> FittedTable:
    """All numbers of a table of the paper beside ours.

    Args:
        number: of the table.
        found: from `reproduction.outcome`.
    """
    chosen = any(one.wanted.column.layer == "best" for one in found)
    title = f"Table {number} of the SDSSL paper" + (
        ", best layers, selected on test" if chosen else ""
    )
    cells = [one.wanted.cell for one in found]
    same = {name: len({getattr(cell, name) for cell in cells}) == 1 for name in ("arch", "metric")}
    columns = [
        Column("method", left=True),
        # What is the same in all rows goes first.
        Column("arch", left=True, drop=5 if same["arch"] else 0),
        Column("benchmark", left=True),
        Column("metric", left=True, drop=6 if same["metric"] else 0),
        Column("at", left=True, drop=4),
        *map(Column, ("paper", "ours", "difference")),
        Column("95 % interval", drop=2),
        Column("within?", drop=1),
        Column("layer", drop=3),
    ]
    rows = []
    for one, cell in zip(found, cells, strict=True):
        mark = "‡" if cell.contradicted else ""
        rows.append(
            [
                method_name(cell.framework, cell.variant),
                cell.arch,
                cell.dataset if cell.dataset == cell.task else f"{cell.task} {cell.dataset}",
                *(cell.metric, cell.layer, percent(cell.value) + mark),
                *_ours(one.value, cell.value, one.interval),
                "" if one.layer is None else str(one.layer),
            ]
        )
    return FittedTable(columns, rows, title=title)


def _ours(
    value: float | None, reported: float | None, interval: Interval | None, *, to: str = " to "
) -> list[str]:
    """Ours, the difference, its interval, and whether the reported number lies in it."""
    if value is None:
        return ["", "", "", ""]
    ends = "" if interval is None else f"{percent(interval.low)}{to}{percent(interval.high)}"
    if reported is None:
        return [percent(value), "", ends, ""]
    inside = "unknown"
    if interval is not None:
        inside = "yes" if reproduction.within(reported, interval) else "no"
    return [percent(value), points(value - reported), ends, inside]


def released_table(release: Release, found: Sequence[Compared]) -> FittedTable:
    """All numbers of a released checkpoint beside ours, at its last layer.

    Args:
        release: the checkpoint.
        found: from `releases.compare`.
    """
    columns = [
        Column("benchmark", left=True),
        Column("metric", left=True),
        *map(Column, ("published", "ours", "difference", "95 %", "inside")),
        Column("setting", left=True, drop=1),
    ]
    rows = []
    for one in found:
        what, row, number = one.benchmark, one.published, one.number
        reported = None if row is None else row.value
        ours = ["", "", "", ""]
        if number is not None:
            ours = _ours(number.value, reported, number.interval, to="-")
        rows.append(
            [
                (what.task if what.dataset == what.task else f"{what.task} {what.dataset}")
                + ("‡" if what.differs and row else ""),
                one.metric or (row.metric if row else what.metrics[0]),
                "" if reported is None else percent(reported),
                ours[0] + ("*" if _trial(one) else ""),
                *ours[1:],
                row.setting if row else "",
            ]
        )
    return FittedTable(columns, rows, title=f"{release.name}: {release.model}, {release.arch}")


def released_notes(found: Sequence[Compared]) -> list[str]:
    """What the marks of `released_table` mean."""
    trials = dict.fromkeys(_trial(one) for one in found if _trial(one))
    protocols = dict.fromkeys(f"{one.benchmark.task}/{one.benchmark.protocol}" for one in found)
    notes = [f"By {', '.join(protocols)}."] if protocols else []
    notes += [f"* A trial{', '.join(trials)}: not the published benchmark."] if trials else []
    differing = dict.fromkeys(
        f"‡ {one.benchmark.task}/{one.benchmark.protocol}: {one.benchmark.differs}."
        for one in found
        if one.benchmark.differs and one.published
    )
    return [*notes, *differing]


def _trial(one: Compared) -> str:
    """In words, if the data are not the whole official set."""
    if one.stored is None or one.number is None:
        return ""
    record = one.stored[1]
    return variant_mark(record["dataset"]["variant"]) + limit_mark(record["limited"])
