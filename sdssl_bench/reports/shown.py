"""What Python shows of a result: the suite's own tables, on a terminal and in a notebook."""

import shutil
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from sdssl_bench.records import plain
from sdssl_bench.system import FittedTable

if TYPE_CHECKING:
    from markupsafe import Markup
    from rich.console import Group

Part = FittedTable | str
COLUMNS = 120
"""Characters of a line where there is no terminal, as in a notebook."""
BAR = "background:#0072b2;height:.7em;width:{:.1f}em"
LONGEST_BAR = 10
"""In the width of a letter."""


class Shown:
    """Tables and sentences as text, for rich and as HTML; a subclass says which."""

    def shown(self) -> Sequence[Part]:
        """The tables and sentences, in order."""
        raise NotImplementedError

    def __rich__(self) -> "Group":
        """For rich's `print` and consoles."""
        return group(self.shown())

    def __repr__(self) -> str:
        """The tables as text, as wide as the terminal."""
        from rich.console import Console

        width = shutil.get_terminal_size((COLUMNS, 24)).columns
        text = StringIO()
        # No markup: names of models hold brackets.
        Console(width=width, file=text, highlight=False, markup=False).print(group(self.shown()))
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip("\n").split("\n"))

    def _repr_html_(self) -> str:
        """For notebooks: nothing in a name is markup."""
        return "\n".join(html(part) for part in self.shown())


def group(parts: Sequence[Part]) -> "Group":
    """The parts below each other, as rich prints them."""
    from rich.console import Group
    from rich.text import Text

    return Group(*(Text(part) if isinstance(part, str) else part for part in parts))


def html(part: Part) -> "Markup":
    """A sentence as a paragraph, or a table with all its columns; bars are drawn."""
    from markupsafe import Markup

    if isinstance(part, str):
        return _lines("p", part)
    head = Markup("").join(Markup("<th>{}</th>").format(c.name) for c in part.columns)
    rows = Markup("\n").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                _cell(cell, bar=column.bar, left=column.left or column.shorten)
                for column, cell in zip(part.columns, row, strict=True)
            )
        )
        for row in part.rows
    )
    return Markup(
        "{}\n<table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table>"
    ).format(_lines("p", part.title) if part.title else "", head, rows)


def html_link(path: Path) -> "Markup":
    """A link to a file on this machine, by its path from here if it is below."""
    from markupsafe import Markup

    here = Path.cwd()
    whole = path.resolve()
    target = whole.relative_to(here).as_posix() if whole.is_relative_to(here) else whole.as_uri()
    return Markup('<p><a href="{}">{}</a></p>').format(target, plain(str(path)))


def _lines(tag: str, text: str) -> "Markup":
    from markupsafe import Markup

    lines = Markup("<br>").join(plain(line) for line in text.splitlines())
    return Markup("<{0}>{1}</{0}>").format(Markup(tag), lines)


def _cell(value: object, *, bar: bool, left: bool) -> "Markup":
    from markupsafe import Markup

    if bar:
        width = LONGEST_BAR * min(max(float(str(value)), 0.0), 1.0)
        return Markup('<td><div style="{}"></div></td>').format(BAR.format(width))
    align = "left" if left else "right"
    return Markup('<td style="text-align:{}">{}</td>').format(align, plain(str(value)))
