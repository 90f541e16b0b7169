"""The table of `sdssl-bench reproduce`: paper | ours | difference | within the interval?"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sdssl_bench.reproduction import Outcome
from sdssl_bench.rounding import percent, points

if TYPE_CHECKING:
    from rich.table import Table


def difference_table(number: int, found: Sequence[Outcome]) -> "Table":
    """All numbers of a table of the paper beside ours.

    Args:
        number: of the table.
        found: from `reproduction.outcome`.
    """
    from rich.table import Table

    chosen = any(one.wanted.column.layer == "best" for one in found)
    title = f"Table {number} of the SDSSL paper" + (
        ", best layers, selected on test" if chosen else ""
    )
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in ("method", "variant", "arch", "task", "dataset", "metric", "at"):
        table.add_column(name)
    for name in ("paper", "ours", "difference", "95 % interval", "within?", "layer"):
        table.add_column(name, justify="right")
    for one in found:
        cell, interval = one.wanted.cell, one.interval
        mark = "‡" if cell.contradicted else ""
        ours = ["", "", "", "", ""]
        if one.value is not None:
            ours = [
                percent(one.value),
                points(one.value - cell.value),
                "" if interval is None else f"{percent(interval.low)} to {percent(interval.high)}",
                {True: "yes", False: "no", None: "unknown"}[one.within],
                str(one.layer),
            ]
        table.add_row(
            cell.framework,
            cell.variant,
            cell.arch,
            cell.task,
            cell.dataset,
            cell.metric,
            cell.layer,
            percent(cell.value) + mark,
            *ours,
        )
    return table
