"""What the processes of a run agree about before its first step, on nodes with a shared disk or without."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sdssl_bench.errors import DataError, UserError
from sdssl_bench.pretrain.run import snapshots
from sdssl_bench.system import distributed

T = TypeVar("T")


def everywhere(action: Callable[[], T]) -> T:
    """Runs an action that waits for nobody; an error in one process is raised in all.

    Without it the others would wait for a process that has stopped.
    """
    result: list[T] = []
    failure: UserError | None = None
    try:
        result.append(action())
    except UserError as error:
        failure = error
    failures = [error for error in distributed.gather_objects(failure) if error is not None]
    if failures:
        raise failures[0]
    return result[0]


def newest_common(out: Path) -> Path | None:
    """The last snapshot that every process sees in `out`; None if nobody sees any.

    Nodes with disks of their own may have been stopped between writing theirs.

    Raises:
        DataError: if there are snapshots, but none that all nodes have.
    """
    found = distributed.gather_objects([path.name for path in snapshots.all_in(out)])
    common = set(found[0]).intersection(*found[1:])
    if common:
        return out / snapshots.FOLDER / max(common)
    if not any(found):
        return None
    newest = max(name for names in found for name in names)
    raise DataError(
        f"The nodes of this run have no snapshot in common in --out {out}; the newest is {newest}. "
        "Copy it to that folder on every node, and go on with --resume auto."
    )


def shares_disk(out: Path) -> bool:
    """Whether all processes see the same files in `out`."""
    probe = out / distributed.broadcast(f".{uuid.uuid4().hex}.shared")
    if distributed.is_main_process():
        probe.touch()
    distributed.wait_for_everyone()
    seen = all(distributed.gather_objects(probe.exists()))
    if distributed.is_main_process():
        probe.unlink()
    return seen
