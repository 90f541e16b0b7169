"""One run at a time in --out: a lock file with host, process and time.

The operating system holds the lock while its process lives and lets go however that ends, so on one host a
lock that can be had is a dead process's. Other hosts need not see it: the holder touches its file as a
sign of life, and a lock of another host without one for LEASE seconds has ended. `system.locked` knows no
owner and no lease, and its lock passes to the loaders of a run.
"""

import fcntl
import json
import os
import socket
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from sdssl_bench.errors import DataError, TaskError, UsageError

NAME = "run.lock"
TOUCH_SECONDS = 15.0
LEASE = 300.0


class RunLock:
    """The lock of one run; nodes with folders of their own each have one, and one token.

    Args:
        out: the run's folder.
        token: the same in all processes of the run, and in no other run.
    """

    def __init__(self, out: Path, token: str) -> None:
        self.out, self.path, self.token = out, out / NAME, token
        self._file: int | None = None
        self._ended = threading.Event()

    @property
    def held(self) -> bool:
        """Whether this process has it."""
        return self._file is not None

    def acquire(self) -> None:
        """Takes the lock, or leaves it where it is with another node of the same run.

        Raises:
            UsageError: if another run has it, or another host's run may have it.
            DataError: if the folder cannot be written.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            file = self._open()
        except OSError as error:
            raise DataError(
                f"--out {self.out} cannot be written: {error}. Choose another folder."
            ) from None
        try:
            owner = _owner(file)
            if owner.get("token") == self.token:
                os.close(file)
                return
            if not _locked(file):
                raise UsageError(
                    f"--out {self.out} is in use by {_named(owner)}. Two runs in one folder would "
                    "overwrite each other: wait until that one has ended, or choose another --out."
                )
            if owner and owner.get("host") != socket.gethostname():
                self._respect(owner)
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(self._mine()).encode(), 0)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        threading.Thread(target=self._touch, daemon=True).start()

    def release(self) -> None:
        """Gives the lock back, if this process has it."""
        self._ended.set()
        if self._file is not None:
            if self._here():
                self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def check(self) -> None:
        """Proves that nobody has taken the folder over meanwhile, as after a machine has slept.

        Raises:
            TaskError: if somebody has.
        """
        if self._file is None or not self.path.exists():
            return
        if not self._here() or _owner(self._file).get("token") != self.token:
            raise TaskError(
                f"--out {self.out} was taken over by another run, since this one showed no sign of life "
                f"for {LEASE:.0f} s. What this one saved before is there; it writes no more."
            )

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _here(self) -> bool:
        """Whether the file of the lock is the one that this process holds."""
        assert self._file is not None
        try:
            return self.path.stat().st_ino == os.fstat(self._file).st_ino
        except OSError:
            return False

    def _mine(self) -> dict[str, str | int]:
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "token": self.token,
        }

    def _respect(self, owner: dict[str, str | int]) -> None:
        """Lets a lock of another host be, unless its holder has shown no sign of life for long."""
        probe = self.out / f".{uuid.uuid4().hex}.probe"
        probe.touch()  # by the clock of the file system, which is one for all hosts
        silent = probe.stat().st_mtime - self.path.stat().st_mtime
        probe.unlink()
        if silent < LEASE:
            raise UsageError(
                f"--out {self.out} is locked by {_named(owner)}, whose last sign of life is {silent:.0f} "
                f"s old. This host ({socket.gethostname()}) cannot see whether it still runs. If it has "
                f"ended, remove {self.path}, or try again when the sign is {LEASE:.0f} s old."
            )

    def _touch(self) -> None:
        while not self._ended.wait(TOUCH_SECONDS):
            with suppress(OSError):
                os.utime(self.path)


def _locked(file: int) -> bool:
    """Whether this process has the lock of a file now; True where a file system knows no locks.

    A process's own children do not share it, so no loader worker keeps it.
    """
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return _dead(_owner(file))
    return True


def _dead(owner: dict[str, str | int]) -> bool:
    """Whether the process of a lock of this host has ended; True for other hosts' locks."""
    if owner.get("host") != socket.gethostname() or not isinstance(owner.get("pid"), int):
        return True
    try:
        os.kill(int(owner["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _owner(file: int) -> dict[str, str | int]:
    """What a lock file says; nothing if its process was killed before it said anything."""
    try:
        found = json.loads(os.pread(file, 4096, 0) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _named(owner: dict[str, str | int]) -> str:
    if not owner:
        return "another process"
    return f"process {owner.get('pid')} on {owner.get('host')} since {owner.get('since')}"
