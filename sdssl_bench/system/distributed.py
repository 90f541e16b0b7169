"""One process or many: the few questions the suite asks accelerate, answered without a launcher too."""

import atexit
import os
import socket
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from sdssl_bench.errors import UsageError, UserError
from sdssl_bench.system.files import refused

T = TypeVar("T")

NOTICE_SECONDS = 0.5
"""After which the id of a process that was killed is free."""
_members: list[tuple[str, int]] = []

PATIENCE = timedelta(hours=24)
"""How long ranks wait for each other: rank 0 searches an ImageNet-sized bank while the others wait."""


@lru_cache(maxsize=1)
def _state() -> Any:
    """Accelerate's PartialState; joins the process group when a launcher made one."""
    from accelerate import PartialState

    cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    if not launched():
        return PartialState(cpu=cpu)
    # Without a GPU accelerate forms no group unless it is told to use CPUs, and torchrun does not say.
    state = PartialState(cpu=cpu or not torch.cuda.is_available(), timeout=PATIENCE)
    # Left to the interpreter's end, the group's threads would abort the process after its work.
    atexit.register(_leave)
    return state


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def launched() -> bool:
    """Whether several processes work on this run."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join() -> None:
    """Joins the other processes of the launch, where there are any. Must be called by all.

    Raises:
        UsageError: if they were started with different commands: each would compute its share of
            another run. Jobs that are independent are launched one by one.
    """
    members = gather_objects((sys.argv[1:], socket.gethostname(), os.getpid()))
    _members[:] = [(host, pid) for _, host, pid in members]
    commands = [command for command, _, _ in members]
    if any(command != commands[0] for command in commands):
        raise UsageError(
            f"The {len(commands)} processes of this launch have different arguments, so they cannot "
            "share one run. Start independent runs one by one (Slurm: srun --ntasks=1 for each)."
        )


def lost_process() -> str | None:
    """Names the processes of this run on this machine that have ended; None if none has.

    Called after an error of one that waited for them, which does not name them.
    """
    if not launched():
        return None
    time.sleep(NOTICE_SECONDS)
    gone = [
        f"process {rank} (pid {pid})"
        for rank, (host, pid) in enumerate(_members)
        if host == socket.gethostname() and _has_ended(pid)
    ]
    return " and ".join(gone) or None


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # Until whoever started it asks, a dead process keeps its id.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's, or a system without /proc
        return False


def is_main_process() -> bool:
    """Whether this process scores, stores and prints."""
    return not launched() or bool(_state().is_main_process)


def process_index() -> int:
    """0..num_processes()-1."""
    return int(_state().process_index) if launched() else 0


def num_processes() -> int:
    """Processes that share the work of a run."""
    return int(_state().num_processes) if launched() else 1


def wait_for_everyone() -> None:
    """A barrier; nothing in a single process."""
    if launched():
        _state().wait_for_everyone()


def broadcast(value: T) -> T:
    """The main process's value, in every process. Must be called by all."""
    if not launched():
        return value
    from accelerate.utils import broadcast_object_list

    _state()
    box = [value]
    broadcast_object_list(box, from_process=0)
    return box[0]


def agreed(work: Callable[[], T]) -> T:
    """The main process's result of `work`, or its error, in every process. Must be called by all."""
    answer: tuple[T | None, UserError | None] = (None, None)
    if is_main_process():
        try:
            answer = (work(), None)
        except UserError as error:
            answer = (None, error)
        except OSError as error:
            answer = (None, refused(error))
    result, failure = broadcast(answer)
    if failure is not None:
        raise failure
    return result  # type: ignore[return-value]


def gather_objects(value: T) -> list[T]:
    """Every process's value, by rank, in every process. Must be called by all."""
    if not launched():
        return [value]
    import torch.distributed as dist

    _state()
    boxes: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(boxes, value)
    return boxes


def resolve_device(device: str) -> str:
    """The torch device string that "auto" stands for; in a launched run, this rank's own GPU."""
    if device != "auto":
        return device
    if launched():
        return str(_state().device)
    return "cuda" if torch.cuda.is_available() else "cpu"


def cuda_devices() -> list[str]:
    """The GPUs this process may use, each as $CUDA_VISIBLE_DEVICES takes it."""
    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(one) for one in range(count)] if given is None else given.split(",")
    return [name.strip() for name in names][:count]
