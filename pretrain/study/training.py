"""Training what is missing, several runs at a time, each through `sdssl-bench pretrain` itself."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sdssl_bench.pretrain.study.runs import Run, is_finished
from sdssl_bench.system import available_cpus, lifetime

LEDGER = "ledger.jsonl"
"""A line for every start and end of a run, whatever became of it."""
LOOK_SECONDS = 0.5
TERMINATED = 128 + signal.SIGTERM


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
    waiting = [run for run in runs if not is_finished(run, out / run.name)]
    say(f"{len(runs) - len(waiting)} of {len(runs)} runs are finished, {len(waiting)} to train")
    out.mkdir(parents=True, exist_ok=True)
    running: dict[str, subprocess.Popen[bytes]] = {}
    failed = []
    with told_to_stop():
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    run = waiting.pop(0)
                    running[run.name] = start(run, data, out, threads=available_cpus() // jobs)
                time.sleep(LOOK_SECONDS)
                for name, process in list(running.items()):
                    if process.poll() is not None:
                        ended(name, running.pop(name), out)
                        failed += [name] if process.returncode else []
        finally:
            # They save themselves first.
            for process in running.values():
                process.terminate()
            for name, process in running.items():
                process.wait()
                ended(name, process, out)
    return failed


def start(run: Run, data: Sequence[str], out: Path, *, threads: int) -> "subprocess.Popen[bytes]":
    """Starts or continues a run; its output goes to a file."""
    command = [sys.executable, "-m", "sdssl_bench", "pretrain", *run.arguments(), *data]
    command += ["--out", str(out / run.name), "--resume", "auto"]
    count = str(max(1, threads))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        lifetime.CHILD_OF: str(os.getpid()),
    }
    output = out / f"{run.name}.txt"
    with output.open("ab") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    details = {"preset": run.preset, "settings": run.settings, "threads": int(count)}
    note(out, run.name, "started", **details)
    say(f"{run.name} started; its output is in {output}")
    return process


def ended(name: str, process: "subprocess.Popen[bytes]", out: Path) -> None:
    """Writes down what became of a run."""
    what = "finished" if process.returncode == 0 else "stopped"
    note(out, name, what, code=process.returncode)
    say(f"{name} {what}" + (f" with code {process.returncode}" if process.returncode else ""))


def note(out: Path, name: str, event: str, **details: Any) -> None:
    """Adds a line to the ledger."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"run": name, "event": event, "at": at, **details})
    with (out / LEDGER).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


@contextmanager
def told_to_stop() -> Iterator[None]:
    """Inside, SIGTERM ends the work as Ctrl-C does."""

    def stop(_number: int, _frame: object) -> None:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def say(text: str) -> None:
    """One line for people, at once."""
    at = datetime.now().strftime("%H:%M")
    sys.stdout.write(f"{at} {text}\n")
    sys.stdout.flush()
