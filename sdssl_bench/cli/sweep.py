"""`sdssl-bench sweep`: models x datasets x tasks of a file, on whatever runs commands."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdssl_bench.cli import options as opt
from sdssl_bench.errors import UsageError

if TYPE_CHECKING:
    from sdssl_bench.cli.sweep_jobs import Job

HOW = "How to run it"


def sweep(
    plan: Annotated[
        list[str],
        typer.Argument(
            metavar="[status] PLAN",
            help="A TOML file; after `status`, what the stored results have of it.",
        ),
    ],
    *,
    lines: Annotated[
        bool, opt.option(HOW, "One command a line, for xargs and any other engine.", "--print")
    ] = False,
    local: Annotated[
        int | None,
        opt.option(
            HOW,
            "So many at a time here, each with its GPU and its share of the cores.",
            takes="INT",
            default="none",
            min=1,
        ),
    ] = None,
    slurm: Annotated[
        Path | None,
        opt.option(HOW, "Write an array script for sbatch.", takes="FILE", default="none"),
    ] = None,
    wide: opt.Wide = False,
    json: opt.Json = False,
) -> None:
    """Run models on datasets and tasks: a `run` for what shares a forward pass, less what is stored.

    sdssl-bench sweep plan.toml --local 2

    The plan, in TOML:

    models = ["runs/*/encoder.safetensors", { ckpt = "x.pth", network = "teacher" }]

    datasets = ["cifar10", "flowers"] and tasks = ["knn", "linear/logreg"], as `run` takes them.

    layers = "all", "last" or "1,6-12"; data_root, results and cache: folders.

    [tasks.NAME] instead of the list: protocol, layers, any parameter or option of the task.

    [run]: any other option of `run`. [slurm]: options of sbatch, setup (lines of shell), at_once.
    """
    status, path = _what(plan)
    chosen = [
        name for name, on in (("--print", lines), ("--local", local), ("--slurm", slurm)) if on
    ]
    if len(chosen) > 1 or (status and chosen):
        raise UsageError(f"{' and '.join(['status'] * status + chosen)} exclude each other.")
    if json and not status:
        raise UsageError("--json goes with status.")
    if status:
        from sdssl_bench.cli.sweep_status import print_status

        print_status(path, wide=wide, as_json=json)
        return
    jobs, whole = _to_do(path, gather=bool(chosen))
    measurements = sum(len(job.parts) for job in jobs)
    summary = f"{whole} measurements, {whole - measurements} recorded"
    summary += f", {measurements} to do in {len(jobs)} jobs" if jobs else ": nothing is left to do"
    if lines:
        typer.echo(summary, err=True)
        for job in jobs:
            typer.echo(job.line)
    elif local:
        typer.echo(summary)
        _run_here(jobs, local)
    elif slurm is not None:
        typer.echo(summary)
        _write_script(jobs, path, slurm)
    else:
        for job in jobs:
            typer.echo(job.name)
        typer.echo(summary + (": --print, --local N or --slurm FILE runs them" if jobs else ""))


def _what(words: Sequence[str]) -> tuple[bool, Path]:
    status = len(words) > 1 and words[0] == "status"
    if len(words) != 1 + status:
        raise UsageError(f"Expected one plan, found {' '.join(words)}.")
    return status, Path(words[-1]).expanduser()


def _to_do(path: Path, *, gather: bool) -> "tuple[list[Job], int]":
    """The jobs that are left, and how many measurements the plan has in all."""
    from dataclasses import replace

    from sdssl_bench import checkpoints
    from sdssl_bench.cli.sweep_jobs import Recorded, cache_of, jobs_of
    from sdssl_bench.cli.sweep_plan import read_plan

    def say(text: str) -> None:
        typer.echo(text, err=True)

    jobs = jobs_of(read_plan(path))
    for model in dict.fromkeys(job.model for job in jobs):
        cache = cache_of(jobs[0])
        ckpt = checkpoints.whole(model.ckpt, cache)
        if ckpt == model.ckpt or not (gather or Path(ckpt).exists()):
            continue
        if not Path(ckpt).exists():
            say(f"{model.ckpt} is in pieces: put together once, in {ckpt}")
            checkpoints.gather(model.ckpt, cache)
        whole = replace(model, ckpt=ckpt)
        jobs = [replace(job, model=whole) if job.model == model else job for job in jobs]
    return list(Recorded(say).missing(jobs)), sum(len(job.parts) for job in jobs)


def _run_here(jobs: "Sequence[Job]", count: int) -> None:
    """Runs the jobs, `count` at a time.

    Raises:
        typer.Exit: 1 if any failed.
    """
    from sdssl_bench.records import slug
    from sdssl_bench.system import Job as Process
    from sdssl_bench.system import available_cpus, cuda_devices, run_jobs, shares

    names: Counter[str] = Counter()
    processes = []
    for job in jobs:
        name = slug(job.name)
        names[name] += 1
        name += f"-{names[name]}" if names[name] > 1 else ""
        output = Path(job.params["out"]).expanduser() / "jobs" / f"{name}.txt"
        processes.append(
            Process(job.name, [sys.executable, "-m", "sdssl_bench", *job.arguments], output)
        )
    outputs = {one.name: one.output for one in processes}
    devices = cuda_devices()
    places = [shares(available_cpus(), count) for _ in range(count)]
    for number, place in enumerate(places):
        if devices:
            place["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    done: Counter[bool] = Counter()

    def ended(process: Any, code: int) -> None:
        done[code == 0] += 1
        if code:
            last = process.output.read_text("utf-8", errors="replace").strip().splitlines()[-1:]
            typer.echo(f"failed ({code}): {process.name}: {' '.join(last)}", err=True)
        else:
            typer.echo(f"{done.total()}/{len(jobs)} {process.name}")

    if processes:
        typer.echo(f"what each says is in {processes[0].output.parent}")
    failed = run_jobs(processes, places, ended=ended)
    if failed:
        typer.echo(f"{len(failed)} of {len(jobs)} jobs failed, the others are stored:", err=True)
        for name in failed:
            typer.echo(f"  {outputs[name]}", err=True)
        raise typer.Exit(1)


def _write_script(jobs: "Sequence[Job]", path: Path, file: Path) -> None:
    from sdssl_bench.cli.sweep_slurm import script
    from sdssl_bench.system import write_atomic

    if not jobs:
        typer.echo("no script was written")
        return
    write_atomic(file.expanduser(), script(jobs, path, jobs[0].plan.slurm).encode())
    typer.echo(f"sbatch {file}")
