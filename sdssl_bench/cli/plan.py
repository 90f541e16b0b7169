"""`run --dry-run`: what would run, what is stored already, and what the rest will cost."""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sdssl_bench.cli.running import each_pair
from sdssl_bench.encoders import Encoder
from sdssl_bench.records import ResultStore
from sdssl_bench.reports import size
from sdssl_bench.runner import layers_to_score, record_head
from sdssl_bench.system import (
    Column,
    FittedTable,
    Work,
    duration,
    held_bytes,
    is_main_process,
    show,
)
from sdssl_bench.task import RunContext, Task


@dataclass(frozen=True)
class Part:
    """A part of the plan.

    Attributes:
        task: its name.
        work: what is done.
        seconds: that it will take.
        writes: bytes.
        shared: whether a part before it does the same.
    """

    task: str
    work: Work
    seconds: float
    writes: int
    shared: bool


@dataclass
class Plan:
    """What a command would do and cost.

    Attributes:
        parts: in the order of the run.
        untold: works, or all of a run, whose time cannot be told.
        setup: seconds that reading the command, the checkpoint and the datasets took.
        calibration: seconds that measuring took.
        done: bytes that the parts write, by what they hold.
    """

    parts: list[Part] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    setup: float = field(default_factory=time.process_time)
    calibration: float = 0.0
    done: dict[str, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Of the whole command."""
        return self.setup + sum(part.seconds for part in self.parts)

    @property
    def writes(self) -> int:
        """Bytes of disk."""
        return sum(part.writes for part in self.parts)

    def memory(self) -> int | None:
        """Bytes of the process at most: what measuring took, or what the largest part holds beside it."""
        held = held_bytes()
        if held is None:
            return None
        # What measuring took at most holds the encoder's own pass at its own size.
        return max(held[1], held[0] + max((part.work.memory for part in self.parts), default=0))

    def add(self, task: Task, name: str, works: Sequence[Work]) -> None:
        """Measure works, those that are done before excepted."""
        if not works:
            self.untold.append(f"{task.name} on {name}")
        for work in works:
            fresh = {
                key: count - self.done.get(key, 0)
                for key, count in work.writes.items()
                if count > self.done.get(key, 0)
            }
            shared = bool(work.writes) and not fresh
            seconds, started = 0.0, time.perf_counter()
            if work.items and not shared and work.measure is not None:
                # Of what is written in part before, the rest is done for all that is written.
                share = max((fresh[key] / work.writes[key] for key in fresh), default=1.0)
                seconds = share * work.measure()
            elif work.measure is None:
                self.untold.append(f"{work.what} of {task.name} on {name}")
            self.calibration += time.perf_counter() - started
            self.done |= {key: work.writes[key] for key in fresh}
            self.parts.append(Part(task.name, work, seconds, sum(fresh.values()), shared))


def print_plan(
    views: Sequence[tuple[Encoder, RunContext]],
    pairs: Sequence[tuple[Task, str]],
    layers: Sequence[int],
    *,
    out: Path,
    overwrite: str = "missing",
) -> int:
    """Print what every task would do on every dataset, where its record lies, and what all will cost.

    Args:
        views: from `running.at_points`.
        pairs: from `running.task_runs`.
        layers: any of 1..L.
        out: folder of the results.
        overwrite: see `runner.run`.

    Returns:
        An exit code, as `running.run_all`.
    """
    plan, store = Plan(), ResultStore(out)

    def add(task: Task, name: str) -> None:
        started = time.perf_counter()
        data = task.load_data(name, views[0][1])
        plan.setup += time.perf_counter() - started
        for view, ctx in views:
            started = time.perf_counter()
            head = record_head(view, task, data, ctx=ctx)
            todo = layers_to_score(
                list(layers), store.find(head), task=task, ctx=ctx, overwrite=overwrite
            )
            plan.setup += time.perf_counter() - started
            if is_main_process():
                images = sum(head["dataset"]["splits"].values())
                point = "".join(f", {one} of each block" for one in view.place.values())
                show(
                    f"{head['protocol']['id']}@{head['protocol']['version']} on {name} "
                    f"({head['dataset']['variant']}, {images:,} images{point}):\n"
                    f"  {len(todo)} layers to score, {len(layers) - len(todo)} stored -> "
                    f"{store.path(head)}"
                )
            if todo:
                plan.add(task, name, list(task.work(view, data, todo, ctx)))

    code = each_pair(pairs, add)
    if plan.parts and is_main_process():
        show(_table(plan))
    if is_main_process():
        show("\n".join(_sums(plan, cache=views[0][1].cache_dir, out=out)))
    return code


def _table(plan: Plan) -> FittedTable:
    some = any(part.work.stored for part in plan.parts)
    columns = [
        Column("task", left=True),
        Column("work", shorten=True),
        Column("to do"),
        *([Column("stored")] if some else []),
        Column("time"),
        Column("disk"),
    ]
    rows = [
        [
            part.task,
            part.work.what,
            f"{part.work.items:,} {part.work.unit}",
            *([f"{part.work.stored:,}" if part.work.stored else ""] if some else []),
            _time(part),
            size(part.writes) if part.writes else "",
        ]
        for part in plan.parts
    ]
    return FittedTable(columns, rows)


def _time(part: Part) -> str:
    if part.shared:
        return "as above"
    if not part.work.items:
        return "none"
    if part.work.measure is None:
        return "?"
    return ("~" if part.work.rough else "") + duration(part.seconds)


def _sums(plan: Plan, *, cache: Path, out: Path) -> Iterator[str]:
    if not plan.parts and not plan.untold:
        yield "Nothing is left to do."
        return
    if plan.parts:
        memory = plan.memory()
        yield (
            f"In all {'at least ' if plan.untold else ''}{duration(plan.seconds)}, "
            f"{size(plan.writes)} of disk"
            + (f", {size(memory)} of memory" if memory else "")
            + f": from {duration(plan.calibration)} of measuring, with {duration(plan.setup)} for "
            "setting up. Records take a few kilobytes more for every layer."
        )
        free = shutil.disk_usage(_existing(cache)).free
        if plan.writes > free:
            yield f"warning: {_existing(cache)} has {size(free)} free, which is too little."
        yield from dict.fromkeys(f"~ {p.work.rough}." for p in plan.parts if p.work.rough)
    if plan.untold:
        yield f"Not estimated: {', '.join(plan.untold)}."


def _existing(folder: Path) -> Path:
    return next(one for one in (folder, *folder.absolute().parents) if one.exists())
