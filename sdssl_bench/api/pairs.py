"""Which task runs on which dataset, and at which points of the encoder."""

from collections.abc import Sequence
from dataclasses import replace

from sdssl_bench import datasets
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.task import RunContext, Task


def task_runs(
    chosen: Sequence[Task], names: Sequence[str], *, every: bool
) -> list[tuple[Task, str]]:
    """Which task runs on which dataset.

    A task runs on those of the datasets given that it accepts ("all": all of its own), and on its
    default ones if it accepts none of them.

    Args:
        chosen: the tasks.
        names: datasets as given; none means every task's default ones.
        every: whether the tasks were asked for as "all": those left without a dataset stay out.

    Raises:
        UsageError: if no task accepts a dataset, or a task is left without one.
    """
    alone = len({task.name for task in chosen}) == 1
    for name in names:
        if not any(_accepted(task, name, alone=alone) for task in chosen):
            raise UsageError(_unknown_dataset(name, chosen))
    pairs: list[tuple[Task, str]] = []
    for task in chosen:
        taken = [one for name in names for one in _accepted(task, name, alone=alone)]
        taken = taken or list(task.default_datasets)
        if not taken and not (names and every):
            folder = "".join(f", {form}" for form in datasets.own_forms(task.folder_has))
            raise UsageError(
                f"Task {task.name} needs --dataset: {', '.join(task.datasets)}{folder}, or all of "
                "them: all."
            )
        pairs += [(task, name) for name in dict.fromkeys(taken)]
    return pairs


def at_points(
    encoder: Encoder, ctx: RunContext, points: Sequence[str]
) -> list[tuple[Encoder, RunContext]]:
    """The encoder at each point, with what it needs: a second encoder at the same point.

    Raises:
        UsageError: for a point that is unknown, or that one of them does not have.
    """
    encoders = encoder.at_points(points)
    if ctx.against is None:
        return [(one, ctx) for one in encoders]
    others = ctx.against.at_points(points)
    return [(a, replace(ctx, against=b)) for a, b in zip(encoders, others, strict=True)]


def _accepted(task: Task, name: str, *, alone: bool) -> Sequence[str]:
    """The datasets of a task that a name stands for."""
    if name == "all":
        return task.datasets
    if datasets.own_source(name) and task.folder_has:
        # One task alone says itself, and better, what a folder lacks.
        return [name] if alone or datasets.own_has(name, task.folder_has) else []
    return [name] if name in task.datasets else []


def _unknown_dataset(name: str, chosen: Sequence[Task]) -> str:
    takers = [task for task in chosen if task.folder_has]
    if datasets.own_source(name) and takers:
        wanted = ", ".join(f"{task.folder_has}/ ({task.name})" for task in takers)
        return f"Expected one of {wanted} in {name.partition(':')[2]}, found none of them."
    known = dict.fromkeys(one for task in chosen for one in task.datasets)
    kind = f"dataset of {', '.join(task.name for task in chosen)}"
    return did_you_mean(kind, name, [*known, "all"])
