"""Writing files so that a reader, now or after a crash, sees the old or the new content whole.

Every file of the suite is written here, so whatever a disk refuses is told in one sentence.
"""

import errno
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sdssl_bench.errors import DataError, TaskError, UsageError, UserError

FULL = ("ENOSPC", "EDQUOT", "EFBIG")
MISPLACED = ("ENOTDIR", "EEXIST", "EISDIR")
FORBIDDEN = ("EROFS", "EACCES", "EPERM", "ENOENT")
LONGEST = 200
"""Characters of a path that an error shows."""
SAFE = "what was stored before is whole, and the same command goes on from there"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, in the folder of `path`, which takes its place once all of it is on disk.

    The folder is made if it is missing. An error inside leaves `path` as it was, and nothing beside it.

    Raises:
        UsageError: if no file can be written there.
        TaskError: if the disk is full or fails.
    """
    # Nodes that share the folder may write it at once, and process ids of containers repeat.
    temporary = path.parent / f".{path.name[:200]}.{uuid.uuid4().hex}.tmp"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; errors as `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def check_folder(path: Path) -> Path:
    """A folder, made if it is missing, in which a file can be written now.

    Raises:
        UsageError, TaskError: as `replacing`.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path, prefix=".", suffix=".tmp") as probe:
            probe.write(b"0")
    return path


@contextmanager
def writing(path: Path, *, advice: str = "") -> Iterator[None]:
    """Inside, what the system refuses about writing `path` becomes one sentence.

    Args:
        path: file or folder.
        advice: what to do about it, besides making room or choosing another place.

    Raises:
        UsageError: if the place is wrong: no folder, read-only, too long a name.
        TaskError: if the disk is full or fails.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = _of_system(error)
        if reason is None:
            raise
        raise unwritable(reason, path, advice=advice) from error


def _of_system(error: Exception) -> OSError | None:
    """The system's own error; libraries written in Rust, such as safetensors', only quote it."""
    if isinstance(error, OSError):
        return error
    quoted = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(quoted[1]), os.strerror(int(quoted[1]))) if quoted else None


def unwritable(error: OSError, path: Path, *, advice: str = "") -> UserError:
    """What to tell of a file or folder that cannot be written."""
    said = error.strerror or str(error)
    if _name(error) in FULL:
        text = f"{path} cannot be written, its disk is full ({said}). Make room or choose another"
        return TaskError(f"{text} place; {SAFE}.{advice and ' '}{advice}")
    if _name(error) in MISPLACED:
        text = f"{path} cannot be written: a file stands where a folder is needed, or the other way"
        return UsageError(f"{text} round ({said}). Choose another place.")
    if _name(error) in FORBIDDEN:
        return UsageError(f"{path} cannot be written ({said}). Choose a place that can be.")
    if _name(error) == "ENAMETOOLONG":
        return UsageError(f"{_short(path)} cannot be written ({said}). Choose a shorter path.")
    text = (
        f"{path} cannot be written ({said}). Is its disk still there? {SAFE[0].upper()}{SAFE[1:]}"
    )
    return TaskError(f"{text}.{advice and ' '}{advice}")


def refused(error: OSError) -> UserError:
    """What to tell of a file that could not be read or written, where nobody knew more about it."""
    if _name(error) in FULL:
        return unwritable(error, Path(error.filename or "A file"))
    place = f"{_short(error.filename)}: " if error.filename else ""
    safe = f"{SAFE[0].upper()}{SAFE[1:]}"
    return DataError(f"{place}{error.strerror or error}. Is it still there? {safe}.")


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "")


def _short(path: object) -> str:
    text = str(path)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text):,} characters)"
