"""The help of every command: plain panels that fit the terminal, names whole, every default stated.

Typer's own help draws boxes with rich, which costs 60 ms to import and cuts names at 80 columns.
"""

import inspect
import shutil
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from sdssl_bench.errors import UsageError

WIDEST = 100
"""Columns; longer lines are hard to read."""
NAMES = 24
"""Columns for names; a longer one has a line of its own."""

Rows = list[tuple[str, str]]
_F = TypeVar("_F", bound=Callable[..., Any])


class Command(TyperCommand):
    """A command whose help is made here, and which takes no empty text for a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments.

        Raises:
            UsageError: if one is an empty text, as an unset variable of a shell script leaves it.
        """
        for before, text in zip(["", *args], args, strict=False):
            if not text or (text.startswith("--") and text.endswith("=")):
                name = text[:-1] or before or self.name
                raise UsageError(f"{name} takes a value, found an empty text.")
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole help."""
        formatter.write(_page(self, ctx, self.panels(ctx)))

    def panels(self, ctx: Any) -> dict[str, Rows]:
        """Heading -> (name, text) of each line below it."""
        return option_panels(self.get_params(ctx))


class Group(TyperGroup):
    """Commands whose help is made here."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options before a command."""
        found = super().get_params(ctx)
        for param in found:
            # A flag left out is False. For None typer imports pydantic: 70 ms of every --help.
            if getattr(param, "is_flag", False):
                param.default = param.default or False
        return found

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole help."""
        panels: dict[str, Rows] = {}
        for name in self.list_commands(ctx):
            one: Any = self.commands[name]
            rows = panels.setdefault(getattr(one, "rich_help_panel", None) or "Commands", [])
            rows.append((name, _first_paragraph(one.help or "")))
        formatter.write(_page(self, ctx, {**panels, **option_panels(self.get_params(ctx))}))

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which they were added."""
        return list(self.commands)


class App(typer.Typer):
    """A typer application whose commands are made here."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            **{
                "cls": Group,
                "no_args_is_help": True,
                "rich_markup_mode": None,
                "pretty_exceptions_enable": False,
                **settings,
            }
        )

    def command(self, name: str | None = None, **settings: Any) -> Callable[[_F], _F]:
        """Add a command, as typer's."""
        return super().command(name, **{"cls": Command, **settings})


def option_panels(params: list[Any]) -> dict[str, Rows]:
    """The arguments, and the options by panel."""
    found: dict[str, Rows] = {}
    for param in params:
        if getattr(param, "hidden", False):
            continue
        argument = param.param_type_name == "argument"
        heading = getattr(param, "rich_help_panel", None) or (
            "Arguments" if argument else "Options"
        )
        if param.name == "help" and (panels := [one for one in found if one != "Arguments"]):
            heading = "Output" if "Output" in panels else panels[-1]
        found.setdefault(heading, []).append((_names(param), _text(param)))
    return found


def _names(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"{param.metavar or param.name.upper()}{'...' if param.nargs != 1 else ''}"
    names = sorted(param.opts, key=len)
    text = ", ".join(names) if len(names[0]) == 2 else f"    {', '.join(names)}"
    if param.is_flag:
        return text + (f" / {param.secondary_opts[0]}" if param.secondary_opts else "")
    kinds = {int: "INT", float: "FLOAT", str: "NAME"}
    return f"{text} {param.metavar or kinds.get(type(param.default), 'PATH')}"


def _text(param: Any) -> str:
    parts = [param.help or ""]
    if param.required:
        parts.append("[required]")
    elif default := _default(param):
        parts.append(f"[default: {default}]")
    if param.envvar and param.show_envvar:
        parts.append(f"[env: {param.envvar}]")
    return " ".join(parts)


def _default(param: Any) -> str:
    if isinstance(param.show_default, str):
        return param.show_default
    value = param.default() if callable(param.default) else param.default
    if value is None or not param.show_default:
        return ""
    if getattr(param, "is_flag", False):
        names = param.opts if value else param.secondary_opts
        return names[0].lstrip("-") if param.secondary_opts else ""
    return str(value)


def _page(command: Any, ctx: Any, panels: dict[str, Rows]) -> str:
    width = columns()
    paragraphs = [
        "\n".join(_wrap(" ".join(paragraph.split()), width))
        for paragraph in inspect.cleandoc(command.help or "").split("\n\n")
    ]
    blocks = [*command.get_usage(ctx).splitlines(), "", "\n\n".join(paragraphs)]
    for heading, rows in panels.items():
        blocks += ["", typer.style(heading, bold=True), *definitions(rows, width)]
    if command.epilog:
        blocks += ["", *_wrap(command.epilog, width)]
    return "\n".join(blocks) + "\n"


def columns() -> int:
    """How wide text may be here."""
    return min(shutil.get_terminal_size().columns, WIDEST)


def definitions(rows: Rows, width: int) -> Iterator[str]:
    """Lines with names on the left, whole, and their texts beside them, wrapped."""
    column = min(NAMES, max(len(name) for name, _ in rows)) + 4
    for name, text in rows:
        first = f"  {name}"
        lines = _wrap(text, width - column)
        if len(first) > column - 2:
            yield first
            first = ""
        for line in lines or [""]:
            yield f"{first:<{column}}{line}".rstrip()
            first = ""


def _wrap(text: str, width: int) -> list[str]:
    """Names of options stay whole."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _first_paragraph(text: str) -> str:
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].split())
