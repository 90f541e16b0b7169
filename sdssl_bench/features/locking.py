"""One job at a time per folder of feature banks; others wait and then find the banks complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sdssl_bench.system import Progress


def lock_of(folder: Path) -> FileLock:
    """The lock of a bank folder; beside the folders, so that removing one keeps its lock valid."""
    locks = folder.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{folder.name}.lock")


@contextmanager
def alone(folder: Path, *, progress: Progress | None, what: str) -> Iterator[None]:
    """Keep other jobs off a folder, after waiting for the one that may hold it.

    The operating system frees the lock of a process that dies, however it dies.
    """
    lock = lock_of(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress is not None:
            progress.message(f"waiting for another job that computes features of {what}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
