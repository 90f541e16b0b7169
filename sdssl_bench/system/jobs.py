"""Commands in processes of their own, several at a time: started in order, watched, ended with this one.

Only the standard library is imported here.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sdssl_bench.system.lifetime import CHILD_OF, Terminated

LOOK_SECONDS = 0.3


@dataclass(frozen=True)
class Job:
    """A command.

    Attributes:
        name: what it is called where its start and end are told.
        command: program and arguments.
        output: a file to which all that it says is added.
    """

    name: str
    command: Sequence[str]
    output: Path


def nothing(*_: object) -> None:
    """Tells nobody."""


def run_jobs(
    jobs: Sequence[Job],
    places: Sequence[Mapping[str, str]],
    *,
    started: Callable[[Job], None] = nothing,
    ended: Callable[[Job, int], None] = nothing,
    look: Callable[[], None] = nothing,
) -> list[str]:
    """Runs all of them, as many at a time as there are places; one that fails stops no other.

    However this ends, by an error, Ctrl-C or SIGTERM, the jobs get SIGTERM and are waited for: they save
    themselves first. If this process is killed, they end by themselves.

    Args:
        jobs: in the order in which they are started.
        places: variables of the environment of whatever runs there: its threads, its device.
        started: called with a job.
        ended: called with a job and its exit code.
        look: called every `LOOK_SECONDS`.

    Returns:
        Names of those that failed.
    """
    waiting, failed = list(jobs), []
    running: dict[int, tuple[Job, subprocess.Popen[bytes]]] = {}

    def left(place: int) -> None:
        job, process = running.pop(place)
        ended(job, process.returncode)
        failed.extend([job.name] if process.returncode else [])

    with told_to_stop():
        try:
            while waiting or running:
                for place in range(len(places)):
                    if waiting and place not in running:
                        running[place] = waiting[0], _start(waiting[0], places[place])
                        started(waiting.pop(0))
                time.sleep(LOOK_SECONDS)
                look()
                for place, (_, process) in list(running.items()):
                    if process.poll() is not None:
                        left(place)
        finally:
            for _, process in running.values():
                process.terminate()
            for place, (_, process) in list(running.items()):
                process.wait()
                left(place)
    return failed


def shares(cores: int, count: int) -> dict[str, str]:
    """Variables for one of `count` processes that share the cores: its threads."""
    threads = str(max(1, cores // count))
    return {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}


def _start(job: Job, place: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    job.output.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **place, CHILD_OF: str(os.getpid())}
    with job.output.open("ab") as file:
        return subprocess.Popen(list(job.command), env=environment, stdout=file, stderr=file)


@contextmanager
def told_to_stop() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated`, and leaves time to end what was started."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
