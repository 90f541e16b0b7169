"""One protocol per file; the file name is the task's name on the command line."""

import importlib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.parameters import parse_value
from sdssl_bench.task import Task


def task_names() -> list[str]:
    """All tasks, from the files that are there."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))


def load(name: str, protocol: str | None = None, changes: Mapping[str, str] | None = None) -> Task:
    """The task `name` under a named protocol, with single parameters changed.

    Args:
        name: file name in this folder.
        protocol: one of the task's presets; None is its first.
        changes: parameter -> text, parsed by the type of the task's field.

    Raises:
        UsageError: for an unknown task, protocol or parameter, or a text of the wrong type.
    """
    if name not in task_names():
        raise UsageError(did_you_mean("task", name, task_names()))
    task_class: Any = importlib.import_module(f"sdssl_bench.tasks.{name}").Task
    preset = protocol or next(iter(task_class.presets))
    if preset not in task_class.presets:
        raise UsageError(did_you_mean(f"protocol of {name}", preset, task_class.presets))
    types = {f.name: f.type for f in fields(task_class) if f.name != "protocol"}
    values = dict(task_class.presets[preset])
    for key, text in (changes or {}).items():
        if key not in types:
            raise UsageError(did_you_mean(f"parameter of {name}", key, types))
        values[key] = parse_value(f"--set {key}", text, types[key])
    return cast(Task, replace(task_class(**values), protocol=preset))


def shorthand(name: str, flags: Mapping[str, str | None]) -> dict[str, str]:
    """What options such as --imsize stand for in a task: parameter -> text, for `load`.

    Args:
        name: of the task.
        flags: option name without dashes -> text as typed; None was not given.

    Raises:
        UsageError: for an option that the task does not have: it would have no effect.
    """
    if name not in task_names():
        raise UsageError(did_you_mean("task", name, task_names()))
    task_class: Any = importlib.import_module(f"sdssl_bench.tasks.{name}").Task
    known: Mapping[str, tuple[str, ...]] = getattr(task_class, "shorthands", {})
    changes: dict[str, str] = {}
    for flag, text in flags.items():
        if text is None:
            continue
        if flag not in known:
            takes = ", ".join(f"--{one}" for one in known) or "none of these"
            raise UsageError(
                f"--{flag} has no effect on task {name}, which takes {takes}. "
                f"'sdssl-bench show {name}' lists its parameters for --set."
            )
        changes |= dict.fromkeys(known[flag], text)
    return changes
