"""Training what is missing, several runs at a time, each through `sdssl-bench pretrain` itself."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sdssl_bench.pretrain.study.runs import Run, is_finished
from sdssl_bench.system import Job, available_cpus, lifetime, run_jobs, shares

LEDGER = "ledger.jsonl"
"""A line for every start and end of a run, whatever became of it."""


def train(runs: Sequence[Run], data: Sequence[str], out: Path, *, jobs: int) -> list[str]:
    """Trains what is not finished, in order, and goes on where a stopped run saved itself.

    Args:
        runs: to be trained.
        data: options of `sdssl-bench pretrain` that name the images.
        out: a folder per run, beside it its output, and the ledger.
        jobs: runs at a time; they share the cores.

    Returns:
        Names of runs that failed; the others are finished.
    """
    waiting = {run.name: run for run in runs if not is_finished(run, out / run.name)}
    say(f"{len(runs) - len(waiting)} of {len(runs)} runs are finished, {len(waiting)} to train")
    share = shares(available_cpus(), jobs)

    def started(job: Job) -> None:
        run = waiting[job.name]
        details = {"preset": run.preset, "settings": run.settings}
        note(out, job.name, "started", **details, threads=int(share["OMP_NUM_THREADS"]))
        say(f"{job.name} started; its output is in {job.output}")

    def ended(job: Job, code: int) -> None:
        what = "stopped" if code else "finished"
        note(out, job.name, what, code=code)
        say(f"{job.name} {what}" + (f" with code {code}" if code else ""))

    try:
        return run_jobs(
            [_job(run, data, out) for run in waiting.values()],
            [share] * jobs,
            started=started,
            ended=ended,
        )
    except lifetime.Terminated:
        raise SystemExit(lifetime.TERMINATED) from None


def _job(run: Run, data: Sequence[str], out: Path) -> Job:
    """Starts or continues a run."""
    command = [sys.executable, "-m", "sdssl_bench", "pretrain", *run.arguments(), *data]
    command += ["--out", str(out / run.name), "--resume", "auto"]
    return Job(run.name, command, out / f"{run.name}.txt")


def note(out: Path, name: str, event: str, **details: Any) -> None:
    """Adds a line to the ledger."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"run": name, "event": event, "at": at, **details})
    with (out / LEDGER).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def say(text: str) -> None:
    """One line for people, at once."""
    at = datetime.now().strftime("%H:%M")
    sys.stdout.write(f"{at} {text}\n")
    sys.stdout.flush()
