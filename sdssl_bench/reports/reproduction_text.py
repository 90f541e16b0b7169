"""The table of `sdssl-bench reproduce`: paper | ours | difference | within the interval?"""

from collections.abc import Sequence

from sdssl_bench.paper import Outcome
from sdssl_bench.rounding import percent, points
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
        ours = ["", "", "", "", ""]
        if one.value is not None:
            interval = one.interval
            ours = [
                percent(one.value),
                points(one.value - cell.value),
                "" if interval is None else f"{percent(interval.low)} to {percent(interval.high)}",
                {True: "yes", False: "no", None: "unknown"}[one.within],
                str(one.layer),
            ]
        mark = "‡" if cell.contradicted else ""
        rows.append(
            [
                ("SD-" if cell.variant == "SD" else "") + cell.framework,
                cell.arch,
                cell.dataset if cell.dataset == cell.task else f"{cell.task} {cell.dataset}",
                *(cell.metric, cell.layer, percent(cell.value) + mark, *ours),
            ]
        )
    return FittedTable(columns, rows, title=title)
