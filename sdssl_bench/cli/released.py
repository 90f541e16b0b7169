"""`sdssl-bench reproduce --checkpoint`: a released checkpoint measured, beside what its authors published."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import typer

from sdssl_bench import checkpoints, tasks
from sdssl_bench.cli import damaged, options, running
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import DataError, UsageError, UserError
from sdssl_bench.paper import Benchmark, Compared, Release, released_numbers, releases
from sdssl_bench.records import ResultStore, Stored
from sdssl_bench.reports import csv_text, released_layers, released_notes, released_table
from sdssl_bench.runner import record_head
from sdssl_bench.statistics import read_results
from sdssl_bench.system import Progress, default_cache, is_main_process, join, show, write_atomic
from sdssl_bench.task import RunContext, Task

FAILED = 1
"""Exit code where several things failed, each of its own kind."""


def reproduce_released(
    name: str,
    *,
    ckpt: str | None,
    only: Sequence[str],
    names: Mapping[str, str],
    results: list[Path] | None,
    out: Path,
    csv: Path | None,
    data_root: Path | None,
    cache_dir: Path | None,
    device: str,
    batch_size: str,
    quiet: bool,
    wide: bool,
    json: bool,
    **settings: Any,
) -> None:
    """Measure a release, or "all" of them, and show it; the other arguments are options of `reproduce`."""
    chosen = releases.RELEASES if name == "all" else (releases.release(name),)
    if ckpt is not None and len(chosen) > 1:
        raise UsageError("--ckpt is the weights of one checkpoint; name it, or leave --ckpt out.")
    for one in only:
        tasks.task_class(one)
    for run in names:
        releases.release(run)
    join()
    progress = Progress(quiet=quiet or json or not is_main_process())
    context = RunContext(
        data_root=data_root.expanduser() if data_root else None,
        cache_dir=cache_dir.expanduser() if cache_dir else default_cache(),
        device=running.check_device(device),
        batch_size=options.batch_size(batch_size),
        progress=progress,
        **settings,
    )
    out = out.expanduser()
    folders = dict.fromkeys([*(results or ()), out])
    records, broken = read_results([one for one in folders if (one / "runs").is_dir()])
    damaged.name(broken)
    codes: set[int] = set()
    missing: set[str] = set()
    found: list[tuple[Release, list[Compared]]] = []
    for release in chosen:
        wanted = released_numbers.benchmarks(release, only)
        stored: dict[Benchmark, Stored] = {}
        if ckpt is None and context.limit is None:
            known = names.get(release.name, release.record_name)
            stored = released_numbers.stored_records(records, release, dict(wanted), name=known)
        if context.data_root is not None:
            with redirect_stdout(StringIO()) if json else nullcontext(), progress:
                codes |= _measure(
                    release, dict(wanted), stored, missing=missing, ckpt=ckpt, ctx=context, out=out
                )
        if mixed := released_numbers.of_several_weights(stored.values()):
            codes.add(_tell(release.name, mixed))
            stored.clear()
        found.append(
            (
                release,
                [released_numbers.compare(what, row, stored.get(what)) for what, row in wanted],
            )
        )
        if is_main_process() and not json:
            _show(
                *found[-1], ckpt=ckpt, only=only, measured=context.data_root is not None, wide=wide
            )
    if is_main_process() and (json or csv is not None):
        frame = released_layers([(one.name, c) for one, compared in found for c in compared])
        if json:
            typer.echo(frame.to_json(orient="records", indent=1, double_precision=15))
        if csv is not None:
            write_atomic(csv.expanduser(), csv_text(frame).encode())
            typer.echo(f"wrote {csv}: {len(frame):,} rows", err=json)
    for dataset in sorted(missing) if is_main_process() else ():
        typer.echo(
            f"error: no complete {dataset} below {context.data_root}: sdssl-bench data check {dataset} "
            f"--data-root {context.data_root} says what is missing.",
            err=True,
        )
    if codes:
        raise typer.Exit(codes.pop() if len(codes) == 1 else FAILED)
    damaged.leave(broken)


def _measure(
    release: Release,
    wanted: Mapping[Benchmark, Any],
    stored: dict[Benchmark, Stored],
    *,
    missing: set[str],
    ckpt: str | None,
    ctx: RunContext,
    out: Path,
) -> set[int]:
    """Run what is not stored, on the sets that are there, into `stored`; returns codes of what failed.

    Sets that are not there get into `missing`.
    """
    codes: set[int] = set()
    ready: dict[tuple[str, str, str], tuple[Task, Any]] = {}
    todo = [what for what in wanted if what not in stored]
    for what in todo:
        if what.run in ready:
            continue
        task = tasks.load(what.task, what.protocol)
        try:
            ready[what.run] = task, task.load_data(what.dataset, ctx)
        except DataError as error:
            missing.add(what.dataset)
            codes.add(error.exit_code)
    if not ready:
        return codes
    try:
        encoder = _load(release, ckpt, ctx)
    except DataError as error:
        return codes | {_tell(release.name, error)}
    every = list(range(1, encoder.depth + 1))
    for trained, layers in ((False, every), (True, every[-1:])):
        runs = dict.fromkeys(what.run for what in todo if what.trained is trained)
        pairs = [(ready[run][0], run[-1]) for run in runs if run in ready]
        try:
            if pairs:
                codes.add(
                    running.run_all(encoder, pairs, layers, ctx=ctx, out=out, overwrite="missing")
                )
        except UserError as error:  # of a pair alone
            codes.add(_tell(release.name, error))
    store = ResultStore(out)
    for what in todo:
        if what.run in ready:
            head = record_head(encoder, *ready[what.run], ctx=ctx)
            record = store.find(head)
            if record is not None:
                stored[what] = (store.path(head), record)
    return codes - {0}


def _tell(where: str, error: UserError) -> int:
    if is_main_process():
        typer.echo(f"error: {where}: {error}", err=True)
    return error.exit_code


def _load(release: Release, ckpt: str | None, ctx: RunContext) -> Encoder:
    """The release's encoder; of another architecture it is an error."""
    assert ctx.progress is not None
    try:
        if ckpt is None and not release.weights.startswith("hf:"):
            folder = ctx.cache_dir / "released"
            ckpt = str(
                checkpoints.fetch_weights(
                    release.name, release.weights, folder, md5=release.md5, progress=ctx.progress
                )
            )
        encoder = checkpoints.load(ckpt or release.weights)
    except DataError as error:
        if ckpt is not None:
            raise
        raise DataError(f"{error} With weights at hand: --ckpt FILE.") from error
    assert encoder.info is not None
    if not release.fits(encoder.info.arch):
        raise DataError(
            f"Expected the {release.arch} of {release.model}, found {encoder.info.arch} in "
            f"{encoder.info.uri}. Give the release's own file, or the name of the release that it is."
        )
    return encoder


def _show(
    release: Release,
    compared: Sequence[Compared],
    *,
    ckpt: str | None,
    only: Sequence[str],
    measured: bool,
    wide: bool,
) -> None:
    typer.echo("")
    show(released_table(release, compared), wide=wide)
    notes = released_notes(compared)
    for reason, rows in released_numbers.left(release, only).items():
        notes.append(f"Not measured here, {reason}: {', '.join(rows)}.")
    there = [one for one in compared if one.published and one.number]
    published = sum(one.published is not None for one in compared)
    if published:
        notes.append(
            f"Ours, of the last layer, stand beside {len(there)} of {published} published numbers; the "
            "interval is about the test items."
        )
    notes.append(f"Weights: {ckpt or release.published_at}")
    for one in compared:
        if one.stored is not None:
            model = one.stored[1]["model"]
            notes.append(
                f"Ours is of {model['name']}, weights_sha256 {model['weights_sha256'][:16]}."
            )
            break
    if not measured and len(there) < published:
        notes.append("--data-root DIR measures what is missing, on the sets below DIR.")
    show("\n".join(notes), wide=wide)
