"""Locks between jobs, on one machine and on all that share a folder, and a word where there are none."""

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sdssl_bench.system.files import unwritable

NO_LOCKS = ("ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP")

_warned: set[Path] = set()


@contextmanager
def locked(path: Path, *, waits: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock whose file is at `path`; its folder is made if it is missing.

    The operating system frees the lock of a process that dies, however it dies. Where the file system
    has no locks, or grants one twice, a line on stderr says that two jobs must not share the folder,
    and the work goes on.

    Args:
        path: of the lock's file.
        waits: called once if another job holds the lock, before waiting for it.

    Raises:
        UsageError, TaskError: if the lock's file cannot be written.
        Timeout: if `waits` raises it, so as not to wait.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waits is not None:
                waits()
            lock.acquire()
        held = _is_held(path)
    except Timeout:
        raise
    except NotImplementedError:
        held = False
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) not in NO_LOCKS:
            raise unwritable(error, path) from error
        held = False
    if not held:
        _tell(path.parent)
    try:
        yield
    finally:
        lock.release()


def _is_held(path: Path) -> bool:
    """Whether somebody else would be refused the lock that this process holds."""
    try:
        import fcntl
    except ImportError:  # Windows, where a lock is none of the file system's choice
        return True
    with path.open("rb") as second:
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _tell(folder: Path) -> None:
    if folder not in _warned:
        _warned.add(folder)
        sys.stderr.write(
            f"warning: files in {folder} cannot be locked (its file system grants a lock twice or has "
            "none): let one job at a time work on it, or choose a folder on another disk.\n"
        )
