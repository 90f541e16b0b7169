"""`sdssl-bench quickstart`: the whole suite in two minutes, on data it makes itself."""

import json
import os
import shutil
import sys
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sdssl_bench.records import Stored
    from sdssl_bench.system import Progress
    from sdssl_bench.task import Task

PRESETS = ("mocov3_vit_tiny_p8", "sd_mocov3_vit_tiny_p8")
"""Pretrained here, both at once: weights cannot be assumed to be downloadable."""
STEPS_PER_EPOCH, EPOCHS, BATCH = 4, 20, 50
"""200 images."""
SETTINGS = (
    ("--data", "cifar10"),
    ("--dim", "96", "--depth", "6", "--heads", "4"),
    ("--hidden", "256", "--inner-hidden", "256", "--out-dim", "64"),
    ("--batch-size", str(BATCH), "--base-lr", "2e-3", "--epochs", str(EPOCHS)),
    ("--warmup-epochs", "3", "--num-workers", "0", "--save-every", "20", "--log-every", "5"),
)


def quickstart(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for data and results.")] = Path(
        "sdssl-bench-quickstart"
    ),
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="All tables, and what pretraining says.")
    ] = False,
) -> None:
    """Make miniature datasets, pretrain two small encoders, score all their layers, compare them.

    Needs no network and no GPU. Pretraining for half a minute on 200 images shows that the suite works, not
    what MoCo v3 and SD-MoCo v3 can do. Interrupted, it goes on where it stopped.
    """
    from sdssl_bench.cli.leaderboard import leaderboard
    from sdssl_bench.cli.report import report
    from sdssl_bench.datasets import make_mini, miniatures
    from sdssl_bench.system import Progress
    from sdssl_bench.tasks import first_task

    out = out.expanduser()
    data, results = out / "data", out / "results"
    typer.echo(f"1/4 miniatures of {len(miniatures())} datasets from bundled photographs -> {data}")
    make_mini(data)  # leaves an intact copy alone, mends a damaged one
    typer.echo(f"2/4 pretraining {' and '.join(PRESETS)}, half a minute")
    with Progress(quiet=not sys.stderr.isatty(), transient=True) as progress:
        _pretrain(data, out, progress=progress, verbose=verbose)
        typer.echo(
            f"3/4 scoring all 6 layers of both: last layer (best at) and its curve, first {PRESETS[0]}"
        )
        sides = _score(data, out, progress=progress, verbose=verbose)
    typer.echo("4/4 comparing them, image by image")
    _compare(sides)
    with nullcontext() if verbose else redirect_stdout(StringIO()):
        leaderboard(results=[results], csv=out / "leaderboard.csv", view="best")
        report(results=[results], out=out / "report")
    typer.echo(
        f"\nreport       {out / 'report' / 'index.html'}  (open it in a browser)\n"
        f"leaderboard  {out / 'leaderboard.csv'}\nrecords      {results / 'runs'}\n"
        f"encoders     {out / PRESETS[0]}\n             {out / PRESETS[1]}\n"
        "\nNext, with a checkpoint of yours:\n"
        f"{_activation()}"
        "  sdssl-bench doctor CHECKPOINT\n"
        f"  sdssl-bench run --task {first_task()} --dataset all --all-layers \\\n"
        f"      --data-root {data} --ckpt CHECKPOINT"
    )


def _activation() -> str:
    """How a shell finds the command, where this one was started by its path."""
    script = Path(sys.executable).with_name("activate")
    if shutil.which("sdssl-bench") or not script.is_file():
        return ""
    return f"  source {script}\n"


def benchmarks() -> "list[tuple[Task, str]]":
    """What is scored: the trial of every task on its miniatures, what does not rank last."""
    from sdssl_bench import tasks
    from sdssl_bench.datasets import miniatures

    kinds = [tasks.task_class(name) for name in tasks.task_names()]
    return [
        (tasks.load(kind.name, trial.protocol, trial.changes), name)
        for kind in sorted(kinds, key=lambda kind: (not kind.first, not kind.ranked))
        if (trial := kind.trial)
        for name in miniatures()
        if name in (kind.datasets if trial.datasets is None else trial.datasets)
    ]


def _score(data: Path, out: Path, *, progress: "Progress", verbose: bool) -> "list[list[Stored]]":
    """The records of each encoder, with their paths."""
    from sdssl_bench import checkpoints
    from sdssl_bench.cli.running import show_result
    from sdssl_bench.records import ResultStore
    from sdssl_bench.reports import result_line
    from sdssl_bench.runner import run
    from sdssl_bench.statistics import record_intervals
    from sdssl_bench.task import RunContext

    ctx = RunContext(data_root=data, cache_dir=out / "cache", progress=progress)
    store = ResultStore(out / "results")
    encoders = [checkpoints.load(str(out / one / "encoder.safetensors")) for one in PRESETS]
    found: list[list[Stored]] = [[] for _ in encoders]
    for task, name in benchmarks():
        for encoder, records in zip(encoders, found, strict=True):
            layers = range(1, encoder.depth + 1)
            outcome = run(encoder, task, name, layers=layers, ctx=ctx, store=store)
            records.append((store.path(outcome.record), outcome.record))
            if verbose:
                path, record = records[-1]
                intervals = record_intervals(record, path)
                show_result(task, outcome, layers, path, intervals=intervals)
        if not verbose:
            typer.echo("  " + result_line(found[0][-1][1], others=[found[1][-1][1]]))
    return found


def _compare(sides: "list[list[Stored]]") -> None:
    from sdssl_bench.reports import overall, summary_table
    from sdssl_bench.statistics import compare, pair
    from sdssl_bench.system import show

    ranked = [[one for one in side if one[1].get("ranked", True)] for side in sides]
    tested, _ = compare(pair(ranked[0], ranked[1])[0])
    show(summary_table(tested, names=("MoCo v3", "SD-MoCo v3")))
    show(overall(tested, names=("MoCo v3", "SD-MoCo v3")))


def _pretrain(data: Path, out: Path, *, progress: "Progress", verbose: bool) -> None:
    """Both in processes of their own, as a user would; each goes on where it was interrupted."""
    from sdssl_bench.system import Job, available_cpus, run_jobs, shares

    jobs = []
    for preset in PRESETS:
        if (out / preset / "encoder.safetensors").exists():
            continue
        arguments = [
            *("--preset", preset, *chain(*SETTINGS)),
            *("--data-root", str(data), "--out", str(out / preset), "--resume", "auto"),
        ]
        command = [sys.executable, "-m", "sdssl_bench.pretrain.main", *arguments]
        jobs.append(Job(preset, command, out / f"{preset}.log"))
        jobs[-1].output.unlink(missing_ok=True)
    if not jobs:
        return
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    place = {**shares(available_cpus(), len(jobs)), "PYTHONPATH": path}
    done = 0

    def look() -> None:
        nonlocal done
        now = sum(_steps(out / job.name / "log.jsonl") for job in jobs)
        progress.advance(now - done)
        done = now

    progress.start("pretraining", STEPS_PER_EPOCH * EPOCHS * len(jobs), "steps")
    failed = run_jobs(jobs, [place] * len(jobs), look=look)
    progress.finish()
    for job in jobs:
        said = job.output.read_text(errors="replace")
        if verbose:
            typer.echo(said)
        if job.name in failed:
            end = "\n".join(said.splitlines()[-15:])
            typer.echo(f"error: pretraining {job.name} failed; its last lines:\n{end}", err=True)
            raise typer.Exit(1)


def _steps(log: Path) -> int:
    """The last step that a run has logged."""
    try:
        return int(json.loads(log.read_text().splitlines()[-1])["step"])
    except (OSError, IndexError, ValueError, KeyError):  # not begun, or a line half written
        return 0
