"""The options of `run` that tasks declare: made for the command line, read, and proven to have an effect."""

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdssl_bench import tasks
from sdssl_bench.cli import options as opt
from sdssl_bench.errors import DataError, UsageError, did_you_mean
from sdssl_bench.parameters import parse_value
from sdssl_bench.system import check_folder
from sdssl_bench.task import Option, Task

if TYPE_CHECKING:
    from sdssl_bench.encoders import Encoder

Values = Mapping[str, Any]
"""Name of an option -> what was typed; only options that were given."""
Owners = Mapping[str, Option]
"""Task -> its declaration of one option."""

SET = "-set"
"""Ending of the option that sets options of a second checkpoint."""


def declared() -> dict[str, Owners]:
    """Name of an option -> the tasks that declare it; options of one task before shared ones.

    Raises:
        UsageError: if tasks mean different things by one name.
    """
    return _declared(tuple(tasks.task_names()))


@cache
def _declared(names: tuple[str, ...]) -> dict[str, Owners]:
    found: dict[str, dict[str, Option]] = {}
    for name in names:
        for option in tasks.task_class(name).options:
            found.setdefault(option.name, {})[name] = option
    for option_name, owners in found.items():
        meant = {
            (one.kind, _flag(owner, one), "" if one.kind == "parameter" else one.key)
            for owner, one in owners.items()
        }
        if len(meant) > 1:
            raise UsageError(
                f"The tasks {' and '.join(owners)} mean different things by --{option_name}. One of "
                "them must rename its option."
            )
    return dict(sorted(found.items(), key=lambda item: (len(item[1]), *item[1])))


def parameters() -> list[Any]:
    """The options as typer makes them, each in the panel of its tasks."""
    made: dict[str, Any] = {}
    for name, owners in declared().items():
        panel = f"Only for task{'s' if len(owners) > 1 else ''} {' and '.join(owners)}"
        one = next(iter(owners.values()))
        flag = _flag(next(iter(owners)), one)
        typed = f"--{name}/--no-{name}" if flag else f"--{name}"
        takes = None if flag else _metavar(next(iter(owners)), one)
        kind: Any = bool | None if flag else str | None
        made[name] = Annotated[
            kind, opt.option(panel, _help(owners), typed, takes=takes, default=_default(owners))
        ]
        if one.kind == "encoder":
            text = "An option of it, as network=teacher."
            more = opt.option(panel, text, f"--{name}{SET}", takes="K=V", default="none")
            made[name + SET] = Annotated[list[str] | None, more]

    def collect(**values: Any) -> None:
        pass

    names = [name.replace("-", "_") for name in made]
    annotations = dict(zip(names, made.values(), strict=True))
    collect.__annotations__ = annotations
    collect.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
            for name, kind in annotations.items()
        ]
    )
    app = typer.Typer(add_completion=False)
    app.command()(collect)
    command: Any = typer.main.get_command(app)
    return [param for param in command.params if param.name in annotations]


def _flag(task: str, option: Option) -> bool:
    types = tasks.parameter_types(tasks.task_class(task))
    return option.kind == "parameter" and all(types[key] is bool for key in option.keys)


def _metavar(task: str, option: Option) -> str:
    if option.kind != "parameter":
        return "CKPT" if option.kind == "encoder" else "DIR"
    kind = tasks.parameter_types(tasks.task_class(task))[option.key]
    if option.each:
        return "LIST"
    return {int: "INT", float: "FLOAT", str: "NAME"}.get(kind, "LIST")


def _help(owners: Owners) -> str:
    texts = dict.fromkeys(option.help for option in owners.values())
    if len(texts) == 1:
        return next(iter(texts))
    return " ".join(f"{task}: {option.help}" for task, option in owners.items())


def _default(owners: Owners) -> str:
    """What an option is when it is not given: of a parameter, the value of the first protocol."""
    texts = {}
    for task, option in owners.items():
        if option.kind != "parameter":
            return "none"
        kind: Any = tasks.task_class(task)
        values = {f.name: f.default for f in kind.__dataclass_fields__.values()}
        values |= next(iter(kind.presets.values()))
        texts[task] = " and ".join(dict.fromkeys(_value(values[key]) for key in option.keys))
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{task} {text}" for task, text in texts.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def given(raw: Mapping[str, Any]) -> Values:
    """What was typed, by the names of the options.

    Args:
        raw: parameter of the command line -> its value; None or an empty list was not given.
    """
    names = {name.replace("-", "_"): name for one in declared() for name in (one, one + SET)}
    return {names[key]: value for key, value in raw.items() if value not in (None, [], ())}


def artifact_folders(
    values: Values, pairs: Sequence[tuple[Task, str]], *, overwrite: str
) -> dict[str, Path]:
    """The folders to write to, by key, each made and proven to be writable.

    Raises:
        UsageError: if several runs would share a folder, stored layers may not be run again, or a
            folder cannot be written to.
    """
    folders: dict[str, Path] = {}
    for name, option in _asked(values, "artifact"):
        writing = [
            f"{task.name} on {on}"
            for task, on in pairs
            if any(one.name == name for one in task.options)
        ]
        if len(writing) != 1:
            raise UsageError(
                f"--{name} goes with one task that writes {option.key}, on one dataset; asked for: "
                f"{', '.join(writing)}."
            )
        if overwrite == "never":
            raise UsageError(f"--{name} runs the layers again; --overwrite never forbids that.")
        folders[option.key] = Path(values[name]).expanduser()
        check_folder(folders[option.key])
    return folders


def input_folders(values: Values) -> dict[str, Path]:
    """The folders of further images, by key.

    Raises:
        DataError: if one is no folder.
    """
    folders: dict[str, Path] = {}
    for name, option in _asked(values, "input"):
        folders[option.key] = Path(values[name]).expanduser()
        if not folders[option.key].is_dir():
            raise DataError(f"--{name} takes a folder of images, found none at {values[name]}.")
    return folders


def second_encoder(values: Values, *, norm: str | None) -> "Encoder | None":
    """The encoder to compare with; None if none was given.

    Args:
        values: of the options.
        norm: of --norm, unless the second checkpoint has its own: layers are compared alike.

    Raises:
        UsageError: if options are given without a checkpoint, or do not exist.
    """
    for name, owners in declared().items():
        if next(iter(owners.values())).kind != "encoder":
            continue
        assigned = opt.assignments(f"--{name}{SET}", values.get(name + SET, []))
        if name not in values:
            if assigned:
                raise UsageError(f"--{name}{SET} has no effect without --{name}.")
            continue
        from sdssl_bench import checkpoints

        kinds = {name: kind for name, (kind, *_) in opt.ENCODER_OPTIONS.items()}
        settings: dict[str, Any] = {"norm": norm}
        for key, text in assigned.items():
            if key not in kinds:
                raise UsageError(did_you_mean(f"option of --{name}{SET}", key, kinds))
            settings[key] = parse_value(f"--{name}{SET} {key}", text, kinds[key])
        return checkpoints.load(values[name], **settings)
    return None


def _asked(values: Values, kind: str) -> list[tuple[str, Option]]:
    found = []
    for name, owners in declared().items():
        option = next(iter(owners.values()))
        if name in values and option.kind == kind:
            found.append((name, option))
    return found
