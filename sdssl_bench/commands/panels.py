"""Help of a command with many options: one panel per group, names and values whole at any width.

Typer's own panels give names, their opposites and values a column each, and cut what then has no room.
"""

from typing import Any

from typer.core import TyperCommand

NAMES = 28
"""Columns for names and values, in all panels; longer ones have a line of their own."""


class PanelCommand(TyperCommand):
    """A command whose options are shown in their `rich_help_panel`, in the order of declaration."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "rich_markup_mode": None})

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the panels."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None:
                title = getattr(parameter, "rich_help_panel", None) or "Options"
                panels.setdefault(title, []).append((row[0].ljust(NAMES), row[1]))
        formatter.write_paragraph()
        for title, rows in panels.items():
            inner = type(formatter)(width=formatter.width - 4)
            inner.write_dl(rows, col_max=NAMES)
            formatter.write(f"╭─ {title} {'─' * (formatter.width - 5 - len(title))}╮\n")
            for line in inner.getvalue().splitlines():
                formatter.write(f"│ {line:<{formatter.width - 4}} │\n")
            formatter.write(f"╰{'─' * (formatter.width - 2)}╯\n")
