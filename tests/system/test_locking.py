"""One job at a time, and a clear word where a file system cannot see to it."""

import errno
import fcntl
import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest

from sdssl_bench.errors import UserError
from sdssl_bench.system import locked


def count(path: Path, times: int) -> None:
    """Reads and writes a number, which loses counts without a lock."""
    for _ in range(times):
        with locked(path.with_suffix(".lock")):
            number = int(path.read_text())
            time.sleep(0.0005)
            path.write_text(str(number + 1))


def test_no_count_of_several_processes_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("0")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=count, args=(path, 40)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert path.read_text() == "160"


def test_who_waits_is_told_once_and_may_refuse(tmp_path: Path) -> None:
    class NotNowError(Exception):
        pass

    def refuse() -> None:
        raise NotNowError

    holder = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path / "a", 2.0))
    holder.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with pytest.raises(NotNowError), locked(tmp_path / "a", waits=refuse):
        pass
    told: list[int] = []
    with locked(tmp_path / "a", waits=lambda: told.append(1)):
        assert not holder.is_alive() or (tmp_path / "released").exists()
    assert told == [1]
    holder.join(10)


def _hold(path: Path, seconds: float) -> None:
    with locked(path):
        (path.parent / "held").touch()
        time.sleep(seconds)
        (path.parent / "released").touch()


@pytest.mark.parametrize("how", ["grants every lock", "has none"])
def test_a_folder_without_working_locks_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    def ignored(*_: Any) -> None:
        if how == "has none":
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", ignored)
    for name in ("a", "b"):
        with locked(tmp_path / name):
            (tmp_path / f"{name}.done").touch()
    said = capsys.readouterr().err
    assert said.count("cannot be locked") == 1
    assert str(tmp_path) in said
    assert "one job at a time" in said
    assert len(list(tmp_path.glob("*.done"))) == 2


def test_working_locks_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(tmp_path / "deep" / "a"):
        pass
    assert capsys.readouterr().err == ""


def test_a_lock_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"file.* cannot be written"),
        locked(tmp_path / "file" / "a"),
    ):
        pass
