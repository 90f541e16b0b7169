"""Text for a terminal: tables that fit its width, bars, curves in a line.

A table that is too wide drops its least important columns and says which (`--wide` shows all), then
shortens names in their middle, then goes on below. No number is ever cut.
"""

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table
    from rich.text import Text

WIDE = 1_000
"""Columns of a terminal that is never too narrow."""
LONGEST_BAR, SHORTEST_BAR = 24, 6
SHORTEST_NAME = 16
GAP = "  "
"""Between columns."""


def show(renderable: "RenderableType", *, wide: bool = False) -> None:
    """Print to stdout, as wide as the terminal, 80 columns where there is none, or without limit.

    Text wraps between words; a word that is too long, such as a path, stays whole. No colour when
    NO_COLOR is set or stdout is no terminal.
    """
    from rich.console import Console

    width = WIDE if wide else shutil.get_terminal_size((80, 24)).columns
    # No markup: names of models hold brackets.
    console = Console(width=width, highlight=False, markup=False, file=sys.stdout)
    if isinstance(renderable, str):
        console.print(wrapped(renderable, width), no_wrap=True, overflow="ignore", crop=False)
    else:
        console.print(renderable)


def wrapped(text: str, width: int) -> "Text":
    """Every line of a text wrapped between words."""
    from rich.text import Text

    lines = [
        textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    ]
    return Text("\n".join(lines), no_wrap=True, overflow="ignore")


@dataclass(frozen=True)
class Column:
    """A column of a `FittedTable`.

    Attributes:
        name: heading.
        drop: where there is no room, columns go in descending order of this; 0 stays.
        left: aligned to the left, as words are.
        shorten: cells are names whose middle may be left out.
        bar: cells are shares in [0, 1], drawn as bars in the room that is left.
    """

    name: str
    drop: int = 0
    left: bool = False
    shorten: bool = False
    bar: bool = False


class FittedTable:
    """A table that fits the width it is printed at.

    Args:
        columns: headings and what may become of them.
        rows: texts, or shares in columns of bars.
        title: line or lines above.
        repeat: leading columns that are repeated where a table goes on below.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[Any]],
        *,
        title: str = "",
        repeat: int = 1,
    ) -> None:
        self.columns = list(columns)
        self.rows = [list(row) for row in rows]
        self.title = title
        self.repeat = repeat

    def __rich_console__(
        self, console: "Console", options: "ConsoleOptions"
    ) -> "Iterator[RenderableType]":
        """Title, table or tables, and what is left out."""
        width = options.max_width
        if self.title:
            yield wrapped(self.title, width)
        kept = list(range(len(self.columns)))
        while self._width(kept, bar=SHORTEST_BAR) > width:
            most = max(self.columns[i].drop for i in kept)
            if not most:
                break
            kept.remove([i for i in kept if self.columns[i].drop == most][-1])
        for block in self._blocks(kept, width):
            spare = width - self._width(block, bar=SHORTEST_BAR)
            longest = max((self._widths[i] for i in block if self.columns[i].shorten), default=0)
            name = max(SHORTEST_NAME, longest + min(spare, 0))
            room = width - self._width(block, bar=0, name=name)
            yield self._table(block, bar=min(LONGEST_BAR, max(room, 0)), name=name)
        hidden = [c.name for i, c in enumerate(self.columns) if i not in kept and not c.bar]
        if hidden:
            yield wrapped(f"--wide shows also: {', '.join(hidden)}", width)

    def _blocks(self, kept: list[int], width: int) -> Iterator[list[int]]:
        first, rest = kept[: self.repeat], kept[self.repeat :]
        block: list[int] = []
        for column in rest:
            tried = [*first, *block, column]
            if block and self._width(tried, bar=SHORTEST_BAR, name=SHORTEST_NAME) > width:
                yield [*first, *block]
                block = []
            block.append(column)
        yield [*first, *block]

    @cached_property
    def _widths(self) -> list[int]:
        """Of each column's longest text; of a column of bars, its heading's."""
        from rich.cells import cell_len

        return [
            max(map(cell_len, (c.name, *(str(row[i]) for row in self.rows if not c.bar))))
            for i, c in enumerate(self.columns)
        ]

    def _width(self, kept: Sequence[int], *, bar: int, name: int = WIDE) -> int:
        """Characters that a table of these columns takes."""
        from rich.cells import cell_len

        total = len(GAP) * (len(kept) - 1)
        for i in kept:
            column, text = self.columns[i], self._widths[i]
            if column.bar:
                text = max(text, bar)
            elif column.shorten:
                text = max(cell_len(column.name), min(text, name))
            total += text
        return total

    def _table(self, kept: Sequence[int], *, bar: int, name: int = WIDE) -> "Table":
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=box.SIMPLE_HEAD,
            padding=(0, len(GAP) - 1, 0, 0),  # the box has one character itself
            pad_edge=False,
            header_style="bold",
            show_edge=False,
        )
        for i in kept:
            column = self.columns[i]
            left = column.left or column.bar or column.shorten
            # No text: another's console would take brackets in it for markup.
            justify: Literal["left", "right"] = "left" if left else "right"
            table.add_column(Text(column.name), justify=justify, no_wrap=True)
        # One row of many lines: rich takes five times as long for as many rows of one.
        lines = [
            [self._cell(i, row[i], bar=bar, name=name).split("\n") for i in kept]
            for row in self.rows
        ]
        for row in lines:
            for cell in row:
                cell += [""] * (max(map(len, row)) - len(cell))
        if lines:
            table.add_row(*(Text("\n".join(chain(*cells))) for cells in zip(*lines)))
        return table

    def _cell(self, i: int, value: Any, *, bar: int, name: int) -> str:
        if self.columns[i].bar:
            return bar_of(float(value), bar)
        text = str(value)
        return shortened(text, name) if self.columns[i].shorten else text


def bar_of(share: float, width: int) -> str:
    """A bar that is full at 1.

    >>> bar_of(0.5, 8)
    '████'
    """
    whole, rest = divmod(round(8 * width * min(max(share, 0.0), 1.0)), 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def curve_of(values: Sequence[float]) -> str:
    """Values as a curve of one line, from the lowest to the highest.

    >>> curve_of([0.1, 0.5, 0.9, 0.7])
    '▁▅█▆'
    """
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (value - low) / span)] for value in values)


def shortened(text: str, most: int) -> str:
    """A name of at most `most` characters; what goes is its middle.

    >>> shortened("vit_small_patch14_focus", 12)
    'vit_sm…focus'
    """
    if len(text) <= most:
        return text
    head = (most + 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}" if most > 1 else "…"
