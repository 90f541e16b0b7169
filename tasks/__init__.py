"""One protocol per file; the file name is the task's name on the command line.

Another package adds a task of its own by an entry point of the group `sdssl_bench.tasks` that names the
module of such a file; --include adds a single file. Built-in tasks come first; two of one name are an
error.
"""

import importlib
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_type_hints

from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.parameters import parse_value
from sdssl_bench.system import package_of, plugins
from sdssl_bench.task import Task

GROUP = "sdssl_bench.tasks"
NAME = "[a-z0-9_-]+"
"""As the schema of records has it."""


def task_names() -> list[str]:
    """All tasks: the files of this folder, then those of other packages.

    Raises:
        UsageError: if another package's task has a name that is taken.
    """
    return [*_built_in(), *_plugins()]


def first_task() -> str:
    """The task that is run where none is named: the built-in one that declares itself `first`."""
    return next(name for name in _built_in() if task_class(name).first)


def task_module(name: str) -> ModuleType:
    """The file of a task.

    Raises:
        UsageError: for an unknown name, or if another package's task cannot be imported.
    """
    if name in _built_in():
        return importlib.import_module(f"{__name__}.{name}")
    added = _plugins()
    if name not in added:
        raise UsageError(did_you_mean("task", name, task_names()))
    found = added[name]
    try:
        module = importlib.import_module(found.module)
    except ImportError as error:
        raise UsageError(
            f"The task '{name}' of another package ({found.module}) cannot be imported: {error}. "
            "Mend or uninstall that package."
        ) from error
    if not hasattr(module, "Task"):
        raise UsageError(f"Expected a class Task in {found.module} (task '{name}'), found none.")
    return module


def task_class(name: str) -> type[Task]:
    """The class of a task, with its declarations; nothing heavy is imported.

    Raises:
        UsageError: as `task_module`.
    """
    return cast(type[Task], task_module(name).Task)


def load(name: str, protocol: str | None = None, changes: Mapping[str, str] | None = None) -> Task:
    """The task `name` under a named protocol, with single parameters changed.

    Args:
        name: one of `task_names`.
        protocol: one of the task's presets; None is its first.
        changes: parameter -> text, parsed by the type of the task's field.

    Raises:
        UsageError: for an unknown task, protocol or parameter, or a text of the wrong type.
    """
    kind: Any = task_class(name)
    preset = next(iter(kind.presets)) if protocol is None else protocol
    if preset not in kind.presets:
        raise UsageError(did_you_mean(f"protocol of {name}", preset, kind.presets))
    types = parameter_types(kind)
    values = dict(kind.presets[preset])
    for key, text in (changes or {}).items():
        if key not in types:
            raise UsageError(did_you_mean(f"parameter of {name}", key, types))
        values[key] = parse_value(f"--set {key}", text, types[key])
    return cast(Task, replace(kind(**values), protocol=preset))


def parameter_types(kind: Any) -> dict[str, Any]:
    """Parameter -> type of its value, of a task's class."""
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind) if one.name != "protocol"}


@cache
def _built_in() -> tuple[str, ...]:
    files = Path(__file__).parent.glob("*.py")
    return tuple(sorted(path.stem for path in files if not path.stem.startswith("_")))


def _plugins() -> dict[str, EntryPoint]:
    found = plugins(GROUP, _built_in(), "task")
    for name, point in found.items():
        if not re.fullmatch(NAME, name):
            raise UsageError(
                f"A task's name has small letters, digits, - and _; {package_of(point)} has '{name}'."
            )
    return found
