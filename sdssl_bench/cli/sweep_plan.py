"""The plan of a sweep: a TOML file of models, datasets and tasks, proven before anything runs."""

import glob
import inspect
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import typer

from sdssl_bench import tasks
from sdssl_bench.api import task_runs
from sdssl_bench.cli import asked_tasks, running
from sdssl_bench.cli import options as opt
from sdssl_bench.cli.plan_file import PlanFile
from sdssl_bench.cli.run import RunCommand, run
from sdssl_bench.errors import DataError, UsageError, did_you_mean
from sdssl_bench.parameters import parse_value
from sdssl_bench.task import RunContext, Task

PLACES = {"data_root": "--data-root", "results": "--out", "cache": "--cache-dir"}
KEYS = ("models", "datasets", "tasks", "layers", *PLACES, "run", "slurm")
_OF_THE_PLAN = {
    "task", "ckpt", "dataset", "layers", "all_layers", "dry_run", "protocol", "changes", "data_root", "out",
    "cache_dir", "overwrite", "help", *opt.ENCODER_OPTIONS,
}  # fmt: skip
"""Parameters of `run` that are made from the rest of the plan."""
_SCHEME = re.compile(r"[A-Za-z][\w+-]+:")


@dataclass(frozen=True)
class Model:
    """A checkpoint and what is said of it, both as typed."""

    ckpt: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Part:
    """A task of the plan.

    Attributes:
        word: as --task takes it, with its protocol.
        task: with its parameters.
        layers: as `Plan.layers`.
        parameters: what --set sets.
        options: further options and their values.
    """

    word: str
    task: Task
    layers: str
    parameters: Mapping[str, str]
    options: Sequence[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class Plan:
    """What a file asks for.

    Attributes:
        path: of the file.
        models: each once.
        pairs: which task on which dataset.
        arguments: for every `run`: folders, and what stands in [run].
        slurm: directives, and `setup` and `at_once`.
    """

    path: Path
    models: Sequence[Model]
    pairs: Sequence[tuple[Part, str]]
    arguments: Sequence[str]
    slurm: Mapping[str, Any] = field(default_factory=dict)


@cache
def run_command() -> Any:
    """`sdssl-bench run`, by which every job is read before it is written."""
    app = typer.Typer(add_completion=False)
    app.command("run", cls=RunCommand)(run)
    return typer.main.get_command(app)


def read_plan(path: Path) -> Plan:
    """The plan of a file.

    Raises:
        UsageError: naming the line, for what is no plan.
        DataError: for a checkpoint that is not there.
    """
    try:
        file = PlanFile(path, path.read_text("utf-8"))
        data = tomllib.loads(file.text)
    except OSError as error:
        raise UsageError(f"Expected a plan in {path}, found: {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(f"{path} is no TOML file: {error}.") from None
    file.known((), data, KEYS)
    for key in ("models", "datasets", "tasks"):
        if not data.get(key):
            raise UsageError(f"{path} has no {key}: a plan names models, datasets and tasks.")
    with file.at("datasets"):
        names = opt.comma_list("datasets", _texts(data["datasets"]))
    parts = list(_parts(file, data))
    with file.at("datasets"):
        found = task_runs([part.task for part in parts], names, every=False)
    by_task = {id(part.task): part for part in parts}
    arguments = []
    for key, option in PLACES.items():
        if key in data:
            with file.at(key):
                arguments += [option, _text(data[key])]
    return Plan(
        path,
        list(dict.fromkeys(_models(file, data["models"]))),
        [(by_task[id(task)], name) for task, name in found],
        [*arguments, *_run_options(file, data.get("run", {}))],
        _slurm(file, data.get("slurm", {})),
    )


def _texts(value: Any) -> list[str]:
    return [_text(one) for one in (value if isinstance(value, list) else [value])]


def _text(value: Any) -> str:
    """A value as it is typed after an option."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(_text, value))
    if not isinstance(value, str | int | float) or value == "":
        raise UsageError(f"expected a text, a number or a list of them, found {value!r}.")
    return str(value)


def _models(file: PlanFile, given: Any) -> Iterator[Model]:
    with file.at("models"):
        for one in given if isinstance(given, list) else [given]:
            options = dict(one) if isinstance(one, dict) else {"ckpt": one}
            for key in options:
                if key not in ("ckpt", *opt.ENCODER_OPTIONS):
                    raise UsageError(did_you_mean("key of a model", key, opt.ENCODER_OPTIONS))
            if "ckpt" not in options:
                raise UsageError(f"a model needs ckpt, found {one!r}.")
            ckpt = _text(options.pop("ckpt"))
            said = tuple((key, _text(value)) for key, value in options.items())
            yield from (Model(path, said) for path in _matches(ckpt))


def _matches(ckpt: str) -> list[str]:
    """The paths that a pattern stands for, itself for any other."""
    path = Path(ckpt).expanduser()
    if path.exists() or _SCHEME.match(ckpt):
        return [ckpt]
    found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  of any root
    if not found:
        raise DataError(f"no checkpoint is found at {ckpt}, seen from {Path.cwd()}.")
    return found


def _layers(value: Any) -> str:
    text = _text(value)
    if text in ("all", "last") or re.fullmatch(r"[\d,-]+", text):
        return text
    raise UsageError(f'layers takes "all", "last" or a list such as "1,6-12", found {text!r}.')


def _parts(file: PlanFile, data: Mapping[str, Any]) -> Iterator[Part]:
    given = data["tasks"]
    tables = given if isinstance(given, dict) else {word: {} for word in _texts(given)}
    with file.at("layers"):
        layers = _layers(data.get("layers", "last"))
    for word, table in tables.items():
        for one in table if isinstance(table, list) else [table]:
            with file.at("tasks", word):
                if not isinstance(one, dict):
                    raise UsageError(f"tasks.{word} is a table, found {one!r}.")
                yield _part(file, word, dict(one), layers)


def _part(file: PlanFile, asked: str, table: dict[str, Any], layers: str) -> Part:
    word, (name, slash, _) = asked, asked.partition("/")
    kind = tasks.task_class(name)
    if "protocol" in table:
        with file.at("tasks", asked, "protocol"):
            if slash:
                raise UsageError(f"{asked} and its protocol both name one. Give one.")
            word = f"{name}/{_text(table.pop('protocol'))}"
            asked_tasks.loaded([word], None, {}, assigned={})
    options = {one.name.replace("-", "_"): one for one in kind.options}
    types = tasks.parameter_types(kind)
    known = {*options, *types, "protocol", "layers"}
    known |= {f"{key}_set" for key, one in options.items() if one.kind == "encoder"}
    parameters: dict[str, str] = {}
    others: list[tuple[str, str]] = []
    for typed, value in table.items():
        with file.at("tasks", asked, typed):
            key = typed.replace("-", "_")
            option = options.get(key)
            if key not in known:
                raise UsageError(did_you_mean(f"key of tasks.{asked}", key, known))
            if key == "layers":
                layers = _layers(value)
            elif option is not None and option.kind == "artifact":
                raise UsageError(
                    f"{key} is a folder that one run writes to; give it to that run by itself."
                )
            elif option is None and key not in types:
                others += [(f"--{key.replace('_', '-')}", text) for text in _texts(value)]
            elif option is not None and option.kind != "parameter":
                others.append((f"--{option.name}", _text(value)))
            else:
                for name in option.keys if option else (key,):
                    parameters[name] = _text(value)
                    parse_value(key, parameters[name], types[name])
    given = {name.removeprefix("--"): text for name, text in others}
    asked_tasks.chosen_tasks([word], given)
    (task,) = asked_tasks.loaded([word], None, {}, assigned=parameters)
    return Part(word, task, layers, parameters, others)


def _run_options(file: PlanFile, given: Any) -> list[str]:
    params = {one.name: one for one in run_command().params if one.name not in _OF_THE_PLAN}
    file.known(("run",), given, list(params))
    found: list[str] = []
    for key, value in given.items():
        with file.at("run", key):
            if not params[key].is_flag:
                found += [max(params[key].opts, key=len), _text(value)]
            elif not isinstance(value, bool):
                raise UsageError(f"{key} is true or false, found {value!r}.")
            elif value:
                found.append(max(params[key].opts, key=len))
            context_of(read_run(["-t", "all", "-c", "control:pixels", *found]).params)
    return found


def read_run(arguments: Sequence[str]) -> Any:
    """What `run` understands by these arguments: their values, and those of tasks' options.

    Raises:
        UsageError: if it would refuse them.
    """
    try:
        return run_command().make_context("run", list(arguments))
    except typer.BadParameter as error:
        raise UsageError(error.format_message()) from None


def context_of(params: Mapping[str, Any], **more: Any) -> RunContext:
    """What `run` would give its tasks; errors as `running.run_context`."""
    names = inspect.signature(running.run_context).parameters
    return running.run_context(**{one: params[one] for one in names if one in params}, **more)


def _slurm(file: PlanFile, given: Any) -> Mapping[str, Any]:
    with file.at("slurm"):
        if not isinstance(given, dict):
            raise UsageError(f"slurm is a table of options of sbatch, found {given!r}.")
    for key, value in given.items():
        with file.at("slurm", key):
            if key.replace("_", "-") in ("array", "requeue", "signal", "open-mode"):
                raise UsageError(f"{key} is set by the sweep; leave it out.")
            if not isinstance(value, bool) and "\n" in _text(value) and key != "setup":
                raise UsageError(f"{key} has several lines.")
    return dict(given)
