"""The tasks that --task asks for, each with its protocol and its parameters."""

from collections.abc import Mapping, Sequence

from sdssl_bench import tasks
from sdssl_bench.cli import options as opt
from sdssl_bench.cli import task_options
from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.task import Task


def chosen_tasks(texts: Sequence[str], values: task_options.Values) -> tuple[list[str], list[str]]:
    """The tasks asked for, and those that "all" leaves out because an option they need is not given.

    A task is asked for by its name, or with a protocol of its own, TASK/PROTOCOL.

    Raises:
        UsageError: for an unknown task, one that lacks an option it needs, or an option that has no
            effect on any of them.
    """
    named = opt.comma_list("--task", texts)
    lacking = {
        name: option.name
        for name in tasks.task_names()
        for option in tasks.task_class(name).options
        if option.required and option.name not in values
    }
    chosen, left_out = [name for name in named if name != "all"], []
    for name in map(name_of, chosen):
        tasks.task_class(name)
        if name in lacking:
            raise UsageError(f"Task {name} needs --{lacking[name]}.")
    if "all" in named:
        left_out = [f"{name} (needs --{option})" for name, option in lacking.items()]
        others = (name for name in tasks.task_names() if name not in lacking)
        chosen = list(dict.fromkeys([*chosen, *others]))
    declared = task_options.declared()
    for name in values:
        owners = declared.get(name) or declared[name.removesuffix(task_options.SET)]
        if not owners.keys() & set(map(name_of, chosen)):
            raise UsageError(
                f"--{name} has no effect on task {', '.join(chosen)}: it belongs to "
                f"{', '.join(owners)}. Leave it out."
            )
    return chosen, left_out


def name_of(asked: str) -> str:
    """The task of TASK or TASK/PROTOCOL."""
    return asked.partition("/")[0]


def loaded(
    chosen: Sequence[str],
    protocol: str | None,
    values: task_options.Values,
    *,
    assigned: Mapping[str, str],
) -> list[Task]:
    """The tasks, each with its protocol and with what was set for all or, as TASK.NAME, for it.

    Raises:
        UsageError: if --set names a task that was not asked for, or `tasks.load` refuses a value.
    """
    scopes = {one.replace("-", "_"): one for one in chosen}
    given: dict[str, dict[str, str]] = {one: {} for one in ("", *chosen)}
    for key, text in assigned.items():
        scope, _, name = key.rpartition(".")
        if scope and scope not in scopes:
            raise UsageError(did_you_mean("task of --set", scope, chosen))
        given[scopes.get(scope, "")][name] = text
    found = []
    for one in chosen:
        task, slash, preset = one.partition("/")
        if slash and protocol is not None:
            raise UsageError(f"--task {one} and --protocol {protocol} both name one. Give one.")
        for texts in changes(task, values, assigned=given[""] | given[one]):
            found.append(tasks.load(task, preset if slash else protocol, texts))
    return found


def changes(
    task: str, values: task_options.Values, assigned: Mapping[str, str]
) -> list[dict[str, str]]:
    """Parameter -> text for `tasks.load`, from a task's own options and from --set.

    Returns:
        One, or one for each value of the options that make a run each.

    Raises:
        UsageError: if a parameter is set by both.
    """
    found, runs = dict(assigned), list[dict[str, str]]()
    for option in tasks.task_class(task).options:
        if option.kind == "parameter" and option.name in values:
            for key in option.keys:
                if key in assigned:
                    raise UsageError(f"--{option.name} and --set {key} set the same. Give one.")
                if option.each:
                    given = opt.comma_list(f"--{key}", [values[option.name]])
                    runs += [{key: one} for one in given]
                else:
                    found[key] = str(values[option.name])
    return [{**found, **run} for run in runs or [{}]]
