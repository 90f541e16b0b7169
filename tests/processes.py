"""Processes of one launch, started as a launcher does it, without the launcher and its own imports."""

import os
import subprocess
from pathlib import Path

from fakes import free_port


def together(count: int, *command: object, cwd: Path | list[Path]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of every rank of a command that `count` processes share.

    With a folder for each rank they are nodes of one process each.
    """
    port = str(free_port())
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    started = []
    for rank in range(count):
        folder, local = (cwd[rank], 0) if isinstance(cwd, list) else (cwd, rank)
        place = {"RANK": str(rank), "LOCAL_RANK": str(local), "WORLD_SIZE": str(count)}
        meeting = {**place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} if count > 1 else {}
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, text=True, env=settings | meeting,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
    said = [process.communicate(timeout=300) for process in started]
    return [(one.returncode, *both) for one, both in zip(started, said, strict=True)]
