"""Several commands at a time: never more than there are places, none lost, none left behind."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from sdssl_bench.system import Job, run_jobs, shares

ROOT = Path(__file__).resolve().parents[2]


def job(name: str, folder: Path, code: str) -> Job:
    return Job(name, [sys.executable, "-c", textwrap.dedent(code)], folder / f"{name}.txt")


def test_every_job_runs_once_in_a_place_that_no_other_has_then(tmp_path: Path) -> None:
    log: list[tuple[str, str, int]] = []
    code = "import os, time; print(os.environ['PLACE']); time.sleep(.2)"
    jobs = [job(str(n), tmp_path, code) for n in range(5)]
    failed = run_jobs(
        jobs,
        [{"PLACE": "a"}, {"PLACE": "b"}],
        started=lambda one: log.append((one.name, "started", 0)),
        ended=lambda one, exit_code: log.append((one.name, "ended", exit_code)),
    )
    assert failed == []
    assert [name for name, event, _ in log if event == "started"] == list("01234")
    assert sorted(name for name, event, _ in log if event == "ended") == list("01234")
    busy: set[str] = set()
    for name, event, _ in log:
        if event == "started":
            place = (tmp_path / f"{name}.txt").read_text().strip()
            assert place not in busy
            busy.add(place)
        else:
            busy.remove((tmp_path / f"{name}.txt").read_text().strip())


def test_a_job_that_fails_is_named_and_stops_no_other(tmp_path: Path) -> None:
    codes: dict[str, int] = {}
    jobs = [job("bad", tmp_path, "raise SystemExit(3)"), job("good", tmp_path, "print('done')")]
    failed = run_jobs(jobs, [{}], ended=lambda one, code: codes.update({one.name: code}))
    assert (failed, codes) == (["bad"], {"bad": 3, "good": 0})
    assert (tmp_path / "good.txt").read_text() == "done\n"


def test_an_error_here_ends_what_runs(tmp_path: Path) -> None:
    ended: list[int] = []

    def look() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run_jobs(
            [job("long", tmp_path, "import time; time.sleep(600)")],
            [{}],
            ended=lambda _, code: ended.append(code),
            look=look,
        )
    assert ended == [-signal.SIGTERM]


PARENT = """
import signal, sys
# A suite in the background has it ignored, and so have its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {root!r})
from pathlib import Path
from sdssl_bench.system import Job, lifetime, run_jobs
code = {code!r}
jobs = [Job(str(n), [sys.executable, "-c", code], Path({folder!r}) / str(n)) for n in range(4)]
try:
    run_jobs(jobs, [{{}}, {{}}], started=lambda job: print(job.name, flush=True))
except lifetime.Terminated:
    raise SystemExit(143)
"""
CHILD = """
import sys, time
sys.path.insert(0, {root!r})
from sdssl_bench.system import lifetime
lifetime.end_with_launcher()
with lifetime.stopping():
    try:
        print("listens", flush=True)
        time.sleep(600)
    except lifetime.Terminated:
        print("saved")
"""


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_the_parent_ends_its_jobs(by: signal.Signals, tmp_path: Path) -> None:
    child = CHILD.format(root=str(ROOT))
    code = PARENT.format(root=str(ROOT), code=child, folder=str(tmp_path))
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert [parent.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
    children = psutil.Process(parent.pid).children()
    assert len(children) == 2
    while not all((tmp_path / name).read_text() for name in "01"):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(by)
    code_of = parent.wait(30)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
    if by == signal.SIGTERM:
        assert code_of == 143
        assert [(tmp_path / name).read_text() for name in "01"] == ["listens\nsaved\n"] * 2


def test_cores_are_shared_and_nobody_gets_none() -> None:
    assert [shares(8, n)["OMP_NUM_THREADS"] for n in (1, 3, 8, 20)] == ["8", "2", "1", "1"]
