"""When a process ends: once it is told to stop, and with the process that started it.

Only the standard library is imported here: every worker calls this before anything else. A watched
pipe and the parent's id serve on all systems; Linux' own signal of a parent's death also comes when
merely the thread ends that started a worker, which loaders' threads do.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

LOOK_SECONDS = 0.5
"""Seconds between looks at the parent's id."""
GRACE_SECONDS = 4.0
"""Seconds that SIGTERM leaves to a process; a barrier or a long product in C would hold it for ever."""
TERMINATED = 143
STOPPED = "finished layers are stored; the same command goes on from there."
CHILD_OF = "SDSSL_BENCH_CHILD_OF"
"""Set by a command for processes that it starts by themselves: its own process id."""
LAUNCHERS = (CHILD_OF, "TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION")
"""Variables of those who wait for the processes they start: this suite, torchrun, accelerate launch."""


class Terminated(KeyboardInterrupt):
    """SIGTERM has arrived; as Ctrl-C, it is no error that a task may survive."""


def end_with_parent(_worker: int = 0) -> None:
    """Called in a process that `multiprocessing` started: ends it once its parent is gone.

    However the parent ends. A fork server's workers have the server for a parent in the system's
    eyes, and keep that server alive themselves; what is watched is the pipe of the process that asked
    for them.

    Args:
        _worker: number of a loader's worker, whose `worker_init_fn` this may be.
    """
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    if parent is None:
        return
    # Forked workers hold each other's pipes open, but their parent's id changes.
    direct = os.getppid() == parent.pid

    def watch() -> None:
        while not wait([parent.sentinel], LOOK_SECONDS):
            if direct and os.getppid() != parent.pid:
                break
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()


def end_with_launcher() -> None:
    """Ends this process soon after the launcher that started it, if there is one that waits for it.

    A launcher that is killed cannot end its processes, which would wait for each other, or train on.
    """
    if not any(name in os.environ for name in LAUNCHERS):
        return
    parent = int(os.environ.pop(CHILD_OF, os.getppid()))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        _say(f"error: process {parent}, which started this one, has ended: {STOPPED}")
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end with launcher").start()


@contextmanager
def without_finalisation() -> Iterator[None]:
    """Around all of a command: a process of a launch ends for good once Python's own exit work is done.

    What comes after it, the interpreter's finalisation, finds threads of the process group in C++
    that the other processes still talk to, and about one end in a hundred is an abort, after the
    scores were stored. Registered first, `end` runs last of all that is done at exit.
    """
    status = [1]  # of an exception, whose traceback is printed before

    def end() -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError, AttributeError):
                    stream.flush()
            os._exit(status[0])

    atexit.register(end)
    try:
        yield
        status[0] = 0
    except SystemExit as leaving:
        # Python prints any other value than a number, and ends with 1.
        status[0] = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        raise


@contextmanager
def stopping() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated` in the main thread, and ends the process within `GRACE_SECONDS`.

    A handler set inside, such as pretraining's, which saves first, takes its place.
    """
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL or os.name != "posix":
        yield
        return
    noted, note = os.pipe()
    os.set_blocking(note, False)
    before = signal.set_wakeup_fd(note, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, _terminate)
    threading.Thread(target=_insist, args=(noted,), daemon=True, name="insist on SIGTERM").start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(note)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, _again)
    # Who signals all processes of a job at once ends the loaders too; torch would call that an error.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    raise Terminated


def _again(_number: int, _frame: FrameType | None) -> None:
    """A second signal does not disturb what the first has begun."""


def _insist(noted: int) -> None:
    """Ends the process where the main thread does not come to it; its pipe ends with `stopping`."""
    while signals := os.read(noted, 64):
        if signal.SIGTERM in signals and signal.getsignal(signal.SIGTERM) in (_terminate, _again):
            time.sleep(GRACE_SECONDS)
            if signal.getsignal(signal.SIGTERM) in (_terminate, _again):
                _say(f"terminated: {STOPPED}")
                os._exit(TERMINATED)
    os.close(noted)


def _forked() -> None:
    # A signal to a forked worker is none to the process whose pipe it has inherited.
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


def _say(text: str) -> None:
    if int(os.environ.get("RANK", "0")) == 0:
        with suppress(OSError, ValueError):
            stream: Any = sys.stderr
            stream.write(f"{text}\n")
            stream.flush()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
