"""What `run` does once its options are read: plan, run every pair, show the layers, sum up."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from sdssl_bench.api import at_points
from sdssl_bench.cli import options as opt
from sdssl_bench.encoders import BLOCK, Encoder, check_layers, parse_layers
from sdssl_bench.errors import DataError, UsageError, UserError
from sdssl_bench.records import ResultStore
from sdssl_bench.reports import layer_table, points_table, result_line
from sdssl_bench.runner import Outcome, run
from sdssl_bench.statistics import Interval, record_intervals
from sdssl_bench.system import default_cache, is_main_process, refused, show
from sdssl_bench.task import RunContext, Task


def check_device(device: str) -> str:
    """The device string, proven to name a device that is there.

    Raises:
        UsageError: if torch does not know it or the machine lacks it.
    """
    import torch

    if device == "auto":
        return device
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise UsageError(f"--device takes auto, cpu, cuda or cuda:N; found '{device}'.") from None
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UsageError(f"--device {device} was asked for, this machine has {found} CUDA devices.")
    return device


def run_context(
    *,
    data_root: Path | None,
    cache_dir: Path | None,
    device: str,
    dtype: str,
    bank_dtype: str,
    batch_size: str,
    num_workers: int | None,
    seed: int,
    limit: int | None,
    allow_partial: bool,
    on_bad_image: str,
    image_range: str | None,
    backend: str,
    **more: Any,
) -> RunContext:
    """What tasks get from the options of `run`, which have these names; `more` is of `RunContext`.

    Raises:
        UsageError: if a text is none of those that its option takes.
    """
    return RunContext(
        data_root=data_root.expanduser() if data_root else None,
        cache_dir=cache_dir.expanduser() if cache_dir else default_cache(),
        device=device,
        dtype=opt.choice("--dtype", dtype, ("float32", "bfloat16", "float16")),
        bank_dtype=opt.choice("--bank-dtype", bank_dtype, ("float32", "float16")),
        batch_size=opt.batch_size(batch_size),
        num_workers=num_workers,
        seed=seed,
        limit=limit,
        allow_partial=allow_partial,
        on_bad_image=opt.choice("--on-bad-image", on_bad_image, ("error", "skip")),
        image_range=opt.limits("--image-range", image_range),
        backend=opt.choice("--backend", backend, ("auto", "torch", "faiss")),
        **more,
    )


def wanted_layers(encoder: Encoder, text: str | None, *, all_layers: bool) -> list[int]:
    """Layers from --layers or --all-layers; the last one if neither is given.

    Raises:
        UsageError: if both are given or a layer does not exist.
    """
    if all_layers and text is not None:
        raise UsageError("--all-layers and --layers exclude each other.")
    if all_layers:
        return list(range(1, encoder.depth + 1))
    if text is not None:
        return parse_layers(text, encoder.depth)
    return check_layers([encoder.depth], encoder.depth)


def with_points(
    pairs: Sequence[tuple[Task, str]], points: Sequence[str], *, every: bool
) -> tuple[list[tuple[Task, str]], list[str]]:
    """The runs that can be made at points in a block, and why the tasks of others are left out.

    Args:
        pairs: from `task_runs`.
        points: asked for.
        every: whether the tasks were asked for as "all": those that cut the encoder stay out.

    Raises:
        UsageError: for another task that cuts it.
    """
    cutting = {task.name for task, _ in pairs if not task.points and list(points) != [BLOCK]}
    if cutting and not every:
        raise UsageError(
            f"--points has no effect on task {', '.join(sorted(cutting))}, which cuts the encoder after a "
            "block. Leave it out."
        )
    kept = [one for one in pairs if one[0].name not in cutting]
    return kept, [f"{name} (cuts the encoder after a block)" for name in sorted(cutting)]


def run_all(
    encoder: Encoder,
    pairs: Sequence[tuple[Task, str]],
    layers: Sequence[int],
    *,
    ctx: RunContext,
    out: Path,
    overwrite: str,
    wide: bool = False,
    points: Sequence[str] = (BLOCK,),
) -> int:
    """Run every (task, dataset); one that fails does not stop the others.

    One pair shows its tables; of several each is a line as it arrives, unless `wide`.

    Args:
        encoder: loaded.
        pairs: from `task_runs`.
        layers: any of 1..L.
        ctx: everything else.
        out: folder of the results.
        overwrite: see `runner.run`.
        wide: tables for several pairs too, with all columns.
        points: in a block; what is extracted for the first is extracted for all, in one pass.

    Returns:
        0, or 1 if a task failed, or 3 if only data were missing. A single pair raises its error.
    """
    store, views = ResultStore(out), at_points(encoder, ctx, points)

    def score(task: Task, name: str) -> None:
        found: list[tuple[Outcome, Mapping[int, Interval]]] = []
        for view, needs in views:
            outcome = run(
                view, task, name, layers=layers, ctx=needs, store=store, overwrite=overwrite
            )
            if is_main_process():
                # Drawn from the stored items, so they also prove the numbers that are shown.
                path = store.path(outcome.record)
                found.append((outcome, record_intervals(outcome.record, path)))
        if not wide and len(pairs) > 1:
            for outcome, _ in found:
                typer.echo(result_line(outcome.record))
            return
        together = len(found) > 1 and task.ranked
        if together:
            show(points_table([(one.record, ends) for one, ends in found], layers), wide=wide)
            for one, _ in found:
                typer.echo(result_line(one.record))
        for outcome, intervals in found:
            path = store.path(outcome.record)
            rows = wide or not together
            show_result(task, outcome, layers, path, intervals=intervals, rows=rows, wide=wide)

    code = each_pair(pairs, score)
    if is_main_process() and len(pairs) > 1:
        typer.echo(
            f"last layer (best at), curve over layers; records: {store.root}; --wide: tables"
        )
    return code


def each_pair(pairs: Sequence[tuple[Task, str]], action: Callable[[Task, str], None]) -> int:
    """Do something for every (task, dataset); one that fails does not stop the others.

    Returns:
        An exit code, as `run_all`.
    """
    failures: list[UserError] = []
    for task, name in pairs:
        try:
            action(task, name)
        except (UserError, OSError) as problem:
            error = refused(problem) if isinstance(problem, OSError) else problem
            if len(pairs) == 1:
                raise error from problem
            failures.append(error)
            if is_main_process():
                typer.echo(f"error: {task.name} on {name}: {error}", err=True)
    if not failures:
        return 0
    if is_main_process():
        others = ", the others are done" if len(failures) < len(pairs) else ""
        typer.echo(f"{len(failures)} of {len(pairs)} failed{others}.", err=True)
    return DataError.exit_code if all(isinstance(e, DataError) for e in failures) else 1


def show_result(
    task: Task,
    outcome: Outcome,
    layers: Sequence[int],
    path: Path,
    *,
    intervals: Mapping[int, Interval],
    rows: bool = True,
    wide: bool = False,
) -> None:
    """Print a result: the layers with their intervals (if `rows`), what else the task shows, its file."""
    if rows:
        table = layer_table(outcome.record, layers, reused=outcome.reused, intervals=intervals)
        show(table, wide=wide)
    for one in task.tables(outcome.record, path):
        show(one, wide=wide)
    typer.echo(f"record: {path}")
