"""`sdssl-bench score`: the suite's metrics on features or masks that were made elsewhere.

A command for each task that scores files; made of what the task declares.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Annotated, Any, get_args, get_type_hints

import typer

from sdssl_bench.cli import options as opt
from sdssl_bench.cli.help import App, Group
from sdssl_bench.parameters import Argument, FileScores

PLACES = {1: ("the FILE",), 2: ("the first FILE", "the second FILE")}
"""How many files a command reads -> where each may stand."""


class ScoreGroup(Group):
    """`score`, whose commands the tasks declare; they are read when first needed."""

    commands: Any = cached_property(lambda self: _commands())

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        del self.commands  # made when it is next read


app = App(cls=ScoreGroup)


@app.callback()
def _score() -> None:
    pass


def _commands() -> dict[str, Any]:
    from sdssl_bench import tasks

    kinds = {name: tasks.task_class(name) for name in tasks.task_names()}
    made = App(add_completion=False)
    made.callback()(_score)  # so that one command alone is a command too
    for name, kind in sorted(kinds.items(), key=lambda item: not item[1].first):
        if kind.score_files:
            made.command(name)(_command(kind.score_files))
    group: Any = typer.main.get_command(made)
    return dict(group.commands)


def _command(score: Callable[..., FileScores]) -> Callable[..., None]:
    """The command of a function: its arguments by name, those without default by place too."""
    hints = get_type_hints(score, include_extras=True)
    arguments = inspect.signature(score).parameters
    said: dict[str, Argument] = {name: get_args(hints[name])[1] for name in arguments}
    files = [name for name, one in arguments.items() if one.default is inspect.Parameter.empty]

    def command(*, files_in_order: Any, wide: bool, json: bool, **values: Any) -> None:
        from json import dumps

        from sdssl_bench.system import show

        found = opt.placed(files_in_order, {_typed(name): values[name] for name in files})
        values |= zip(files, found, strict=True)
        _check(said, values)
        scores = score(**values)
        for warning in scores.warnings:
            typer.echo(f"warning: {warning}", err=True)
        if json:
            typer.echo(dumps(scores.values))
        else:
            for table in scores.tables:
                show(table, wide=wide)

    places = dict(zip(files, PLACES[len(files)], strict=True))
    made: dict[str, tuple[Any, Any]] = {"files_in_order": (opt.Files, None)}
    for name, one in arguments.items():
        kind = get_args(hints[name])[0]
        place = places.get(name, said[name].default)
        annotation: Any = Annotated[
            kind | None if name in files else kind, _option(name, said[name], place)
        ]
        made[name] = (annotation, None if name in files else one.default)
    made |= {"wide": (opt.Wide, False), "json": (opt.Json, False)}
    command.__doc__ = score.__doc__
    command.__annotations__ = {name: annotation for name, (annotation, _) in made.items()}
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
            )
            for name, (kind, default) in made.items()
        ]
    )
    return command


def _typed(name: str) -> str:
    return "--" + name.replace("_", "-")


def _option(name: str, said: Argument, default: str) -> Any:
    names = [_typed(name), *([f"-{said.short}"] if said.short else [])]
    more = {} if said.least is None else {"min": said.least}
    return opt.option(
        said.panel, said.help, *names, takes=said.takes or None, default=default, **more
    )


def _check(said: Mapping[str, Argument], values: Mapping[str, Any]) -> None:
    for name, one in said.items():
        if one.choices:
            opt.choice(_typed(name), values[name], one.choices)
