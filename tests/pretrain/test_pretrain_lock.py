"""One run at a time in --out: live, dead and distant holders of its lock."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from accelerate.state import AcceleratorState

from pretrain_fixtures import MAIN, SETTINGS, command_line, log_lines, make_images, tiny
from sdssl_bench.errors import DataError, TaskError, UsageError
from sdssl_bench.pretrain.run import run_lock
from sdssl_bench.pretrain.run.run_lock import RunLock
from sdssl_bench.pretrain.run.train import train

HOLD = """
import sys, time
from pathlib import Path
from sdssl_bench.pretrain.run.run_lock import RunLock
RunLock(Path(sys.argv[1]), "theirs").acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock of `run`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def owned(out: Path, **changes: Any) -> Path:
    """A lock file that somebody else left."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / run_lock.NAME
    owner = {"host": "elsewhere", "pid": 1, "since": "2026-01-02T03:04:05+00:00", "token": "theirs"}
    path.write_text(json.dumps(owner | changes))
    return path


def held(lock: RunLock) -> bool:
    lock.acquire()
    found = lock.held
    lock.release()
    return found


@pytest.mark.parametrize("resume", [None, "auto"])
def test_a_folder_in_use_is_refused_by_process_and_host(
    resume: str | None, holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    images = str(make_images(tmp_path / "images", 24))
    before = (tmp_path / "run" / run_lock.NAME).read_text()
    named = f"process {holder.pid} on {socket.gethostname()} since 20"
    with pytest.raises(UsageError, match=f"in use by {named}.*another --out"):
        train(tiny(data=images), tmp_path / "run", resume=resume)
    assert (tmp_path / "run" / run_lock.NAME).read_text() == before
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [run_lock.NAME]


def test_the_lock_of_a_killed_process_is_free(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    lock = RunLock(tmp_path / "run", "mine")
    with pytest.raises(UsageError):
        lock.acquire()
    holder.kill()
    holder.wait()
    assert held(lock)
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.slow
def test_a_killed_run_goes_on_at_once_and_its_loader_workers_end_by_themselves(
    tmp_path: Path,
) -> None:
    """They live for some seconds more, and hold no lock."""
    out = tmp_path / "run"
    data = str(make_images(tmp_path / "images", 24))
    settings = {**SETTINGS, "data": data, "epochs": 4000, "num_workers": 2}
    command = [sys.executable, str(MAIN), *command_line(settings), "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not (out / "log.jsonl").exists() or not log_lines(out):
            assert process.poll() is None
            time.sleep(0.02)
        with pytest.raises(UsageError, match=f"process {process.pid} on"):
            RunLock(out, "mine").acquire()
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert held(RunLock(out, "mine"))
    assert not psutil.wait_procs(workers, timeout=5)[1]


def test_the_lock_of_another_host_is_explained_until_it_shows_no_sign_of_life(
    tmp_path: Path,
) -> None:
    path = owned(tmp_path / "run")
    lock = RunLock(tmp_path / "run", "mine")
    with pytest.raises(UsageError, match=r"process 1 on elsewhere since 2026.*remove .*run\.lock"):
        lock.acquire()
    assert not lock.held
    past = time.time() - run_lock.LEASE - 5
    os.utime(path, (past, past))
    lock.acquire()
    assert lock.held
    assert json.loads(path.read_text())["host"] == socket.gethostname()
    lock.release()
    assert not path.exists()


def test_a_holder_shows_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "TOUCH_SECONDS", 0.01)
    lock = RunLock(tmp_path, "mine")
    lock.acquire()
    os.utime(lock.path, (0, 0))
    deadline = time.time() + 10
    while lock.path.stat().st_mtime < 1 and time.time() < deadline:
        time.sleep(0.01)
    assert lock.path.stat().st_mtime > 1
    lock.release()


def test_a_run_that_lost_its_folder_writes_no_more(tmp_path: Path) -> None:
    lock = RunLock(tmp_path, "mine")
    lock.acquire()
    lock.check()
    owned(tmp_path)
    with pytest.raises(TaskError, match="taken over by another run"):
        lock.check()
    lock.path.unlink()
    lock.check()  # a file that somebody removed is no other run
    owned(tmp_path)
    with pytest.raises(TaskError):
        lock.check()
    lock.release()
    assert lock.path.exists(), "the other run's"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}'])
def test_a_lock_file_that_says_nothing_is_nobodys(text: str, tmp_path: Path) -> None:
    """Its process was killed while it wrote."""
    (tmp_path / run_lock.NAME).write_text(text)
    if text == '{"pid": "x"}':
        with pytest.raises(UsageError, match="process x on None"):
            RunLock(tmp_path, "mine").acquire()
    else:
        assert held(RunLock(tmp_path, "mine"))


def test_nodes_of_one_run_share_a_lock(tmp_path: Path) -> None:
    owned(tmp_path, token="ours")
    assert not held(RunLock(tmp_path, "ours"))
    assert (tmp_path / run_lock.NAME).exists()


@pytest.mark.parametrize(
    ("pid", "free"), [(os.getpid(), False), (2**22 + 1, True)], ids=["alive", "dead"]
)
def test_a_file_system_without_locks_goes_by_the_process(
    pid: int, free: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", none)
    owned(tmp_path, host=socket.gethostname(), pid=pid)
    lock = RunLock(tmp_path, "mine")
    if free:
        assert held(lock)
    else:
        with pytest.raises(UsageError, match=f"process {pid} on"):
            lock.acquire()


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        RunLock(tmp_path / "file" / "run", "mine").acquire()


def test_a_run_gives_its_folder_back_whatever_happens(tmp_path: Path) -> None:
    data = str(make_images(tmp_path / "images", 24))
    train(tiny(data=data, stop_epoch=1), tmp_path / "run")
    assert not (tmp_path / "run" / run_lock.NAME).exists()
    with pytest.raises(UsageError, match="--beta"):
        train(tiny(data=data, beta=0.5), tmp_path / "run", resume="auto")
    assert not (tmp_path / "run" / run_lock.NAME).exists()
