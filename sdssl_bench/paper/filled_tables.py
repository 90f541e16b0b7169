"""Stored results in the shape of the paper's tables: a baseline's row over the row of its SD- variant.

A cell is bold only if its model is significantly better than the other of the pair: paired test on the
same items, adjusted by Holm over the table; at best layers with the choice of the layer inside the test.
Rows of the paper stand below, marked as reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sdssl_bench.errors import UsageError
from sdssl_bench.paper.layouts import FRAMEWORKS, HELD, Column, Layout, cell_record, number_at
from sdssl_bench.paper.pairs import Pair
from sdssl_bench.paper.references import CONTRADICTION, method_name, paper_cells
from sdssl_bench.records import Stored
from sdssl_bench.statistics import (
    Difference,
    ItemScores,
    best_layer_test,
    holm,
    layer_item_scores,
    paired_test,
)

ALPHA = 0.05


@dataclass(frozen=True)
class Cell:
    """One number of a table; value None is a hole.

    Attributes:
        value: a fraction.
        half: half the width of its 95 % interval.
        layer: where it was found, if chosen as the best.
        bold: significantly better than the other model of the pair.
        mark: "" or a sign that a note explains.
    """

    value: float | None = None
    half: float | None = None
    layer: int | None = None
    bold: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """One row: a model's numbers, or the paper's."""

    label: str
    reported: bool
    cells: tuple[Cell, ...]

    @property
    def coverage(self) -> str:
        """How many cells are filled."""
        return f"{sum(cell.value is not None for cell in self.cells)}/{len(self.cells)}"


@dataclass(frozen=True)
class Block:
    """Rows under one heading; `pairs` holds the baseline's and SD's row, or a single one."""

    heading: str
    columns: tuple[Column, ...]
    pairs: tuple[tuple[Row, ...], ...]


@dataclass(frozen=True)
class FilledTable:
    """One table with its notes."""

    number: int
    title: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]


def fill_table(records: Sequence[Stored], layout: Layout, pairs: Sequence[Pair]) -> FilledTable:
    """Fill a table.

    Args:
        records: stored results.
        layout: of the table.
        pairs: from `model_pairs`.

    Raises:
        UsageError: if several results fit a cell.
        DataError: if per-item scores are missing or do not give the stored numbers.
    """
    tests: list[tuple[int, int, int, Difference]] = []
    drawn: list[list[list[Row]]] = []
    for b, columns in enumerate(layout.blocks.values()):
        rows_of_block: list[list[Row]] = []
        for p, pair in enumerate(pairs):
            rows = [_row(records, columns, pair, which, layout.arch) for which in (0, 1)]
            kept = [row for row in rows if row is not None]
            if not any(cell.value is not None for row in kept for cell in row.cells):
                rows_of_block.append([])
                continue
            rows_of_block.append(kept)
            for c, column in enumerate(columns):
                difference = _difference(records, column, pair, layout.arch)
                if difference is not None:
                    tests.append((b, p, c, difference))
        drawn.append(rows_of_block)
    for (b, p, c, difference), adjusted in zip(
        tests, holm([one[3].p for one in tests]), strict=True
    ):
        if adjusted <= ALPHA and difference.difference != 0:
            better = int(difference.difference > 0)
            row = drawn[b][p][better]
            cells = list(row.cells)
            cells[c] = replace(cells[c], bold=True)
            drawn[b][p][better] = replace(row, cells=tuple(cells))
    blocks = tuple(
        Block(
            heading,
            columns,
            (*(tuple(rows) for rows in drawn[b] if rows), *_paper_rows(layout, columns)),
        )
        for b, (heading, columns) in enumerate(layout.blocks.items())
    )
    return FilledTable(layout.number, layout.title, blocks, _notes(layout, blocks))


def _row(
    records: Sequence[Stored], columns: Sequence[Column], pair: Pair, which: int, arch: str
) -> Row | None:
    names = [both[which] for both in pair.models]
    if names == [None]:
        return None
    label = f"SD-{pair.label}" if which else pair.label
    return Row(label, False, tuple(_cell(records, column, names, arch) for column in columns))


def _found(
    records: Sequence[Stored], column: Column, names: Sequence[str | None], arch: str
) -> tuple[Stored, str] | None:
    for name in names:
        found = None if name is None else cell_record(records, column, name, arch)
        if found is not None:
            return (found[0], found[1]), found[2]
    return None


def _cell(
    records: Sequence[Stored], column: Column, names: Sequence[str | None], arch: str
) -> Cell:
    found = _found(records, column, names, arch)
    if found is None:
        return Cell()
    (path, record), metric = found
    number = number_at(path, record, metric, column.layer)
    if number is None:
        return Cell()
    ends = number.interval
    return Cell(
        value=number.value,
        half=None if ends is None else (ends.high - ends.low) / 2,
        layer=number.layer if column.layer == "best" else None,
    )


def _difference(
    records: Sequence[Stored], column: Column, pair: Pair, arch: str
) -> Difference | None:
    both = [
        _found(records, column, [names[which] for names in pair.models], arch) for which in (0, 1)
    ]
    if both[0] is None or both[1] is None or column.reported in HELD:
        return None
    (a, metric_a), (b, metric_b) = both[0], both[1]
    if metric_a != metric_b or a[1]["protocol"]["digest"] != b[1]["protocol"]["digest"]:
        return None
    if a[1]["dataset"]["fingerprint"] != b[1]["dataset"]["fingerprint"]:
        return None
    units = [_units(stored, metric_a, column.layer) for stored in (a, b)]
    if not units[0] or not units[1]:
        return None
    try:
        if column.layer == "best" and max(map(len, units)) > 1:
            return best_layer_test(units[0], units[1])
        first, second = (next(iter(one.values())) for one in units)
        return paired_test(first, second, layers=(0, 0))
    except UsageError:  # not the same items: no test, so nothing is bold
        return None


def _units(stored: Stored, metric: str, layer: str) -> dict[int, ItemScores]:
    path, record = stored
    depth = record["model"]["depth"]
    layers = [int(name) for name in record["layers"] if layer == "best" or int(name) == depth]
    found = {number: layer_item_scores(record, path, number, metric) for number in layers}
    return {number: one for number, one in found.items() if one is not None}


def _paper_rows(layout: Layout, columns: Sequence[Column]) -> list[tuple[Row, ...]]:
    cells = {
        (one.framework, one.variant, one.arch, one.task, one.dataset, one.metric): one
        for one in paper_cells()
        if one.table == str(layout.number)
    }
    pairs = []
    for framework in FRAMEWORKS:
        rows = []
        for variant in ("baseline", "SD"):
            found = [
                cells.get(
                    (framework, variant, column.arch or layout.arch, column.task, column.dataset,
                     column.reported)
                )
                for column in columns
            ]  # fmt: skip
            rows.append(
                Row(
                    method_name(framework, variant),
                    True,
                    tuple(
                        Cell()
                        if one is None
                        else Cell(one.value, mark="‡" if one.contradicted else "")
                        for one in found
                    ),
                )
            )
        pairs.append(tuple(rows))
    return pairs


def _notes(layout: Layout, blocks: Sequence[Block]) -> tuple[str, ...]:
    rows = [row for block in blocks for pair in block.pairs for row in pair]
    notes = ["† Reported by the SDSSL paper, not measured here."]
    if any(cell.mark for row in rows for cell in row.cells):
        notes.append(f"‡ {CONTRADICTION}")
    measured = [row for row in rows if not row.reported]
    if measured:
        notes.insert(
            0,
            "± is half the 95 % interval over test items. Bold: better than the other of the pair by a "
            "paired test on the same items, p at most 0.05 after Holm over the table.",
        )
    if layout.number == 3:
        notes.append(
            "Best layers are selected on test, and the tests include this choice. J and F stand at the "
            "layer of J&F and are not tested by themselves."
        )
    if layout.number == 4 and measured:
        notes.append("Fine-tuning by the protocols paper and code reports the best epoch on test.")
    return tuple(notes)
