"""One job at a time per folder of feature banks; others wait and then find the banks complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sdssl_bench.system import Progress, locked


def lock_of(folder: Path) -> Path:
    """The lock's file of a bank folder; beside the folders, so that removing one keeps it valid."""
    return folder.parent / ".locks" / f"{folder.name}.lock"


@contextmanager
def alone(folder: Path, *, progress: Progress | None, what: str) -> Iterator[None]:
    """Keep other jobs off a folder, after waiting for the one that may hold it."""

    def waits() -> None:
        if progress is not None:
            progress.message(f"waiting for another job that computes features of {what}")

    with locked(lock_of(folder), waits=waits):
        yield
