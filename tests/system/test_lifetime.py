"""No process outlives the one that started it, and SIGTERM ends every one in time, with a word."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 5.0
"""Seconds in which everything must be gone."""

LOADERS = """
from torch.utils.data import DataLoader
from sdssl_bench.system import end_with_parent

class Slow:
    def __len__(self): return 1000
    def __getitem__(self, index):
        time.sleep(0.2)
        return index

if __name__ == "__main__":
    for item in DataLoader(Slow(), batch_size=None, num_workers=2, multiprocessing_context={how!r},
                           worker_init_fn=end_with_parent):
        say("ready")
        time.sleep(0.2)
"""
POOL = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from sdssl_bench.system import end_with_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        jobs = [pool.submit(os.getpid) for _ in range(2)]
        for job in jobs: job.result()
        jobs = [pool.submit(time.sleep, 600) for _ in range(2)]
        say("ready")
        time.sleep(600)
"""
BEGIN = """
import os, sys, time
sys.path.insert(0, {root!r})
def say(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()
"""


def start(tmp_path: Path, code: str, **values: str) -> subprocess.Popen[str]:
    """A program that has said "ready", its children in a session of their own."""
    script = tmp_path / "program.py"
    script.write_text((BEGIN + textwrap.dedent(code)).format(root=str(ROOT), **values))
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def in_session(session: int) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter():
        try:
            if os.getsid(one.pid) == session and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.fixture
def sessions() -> Iterator[list[int]]:
    """Sessions whose processes are killed at the end, so that a failure leaves none behind."""
    started: list[int] = []
    yield started
    for session in started:
        for one in in_session(session):
            one.kill()


def assert_gone(session: int) -> None:
    end = time.monotonic() + PATIENCE
    while in_session(session):
        assert time.monotonic() < end, in_session(session)
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("fork", signal.SIGTERM),
        *((how, signal.SIGKILL) for how in ("fork", "pool")),
        *(
            pytest.param(how, signal.SIGKILL, marks=pytest.mark.slow)
            for how in ("spawn", "forkserver")
        ),
    ],
)
def test_workers_end_with_the_process_that_asked_for_them(
    tmp_path: Path, sessions: list[int], how: str, number: int
) -> None:
    process = start(tmp_path, POOL) if how == "pool" else start(tmp_path, LOADERS, how=how)
    sessions.append(process.pid)
    assert len(in_session(process.pid)) >= 3
    os.kill(process.pid, number)
    process.wait(PATIENCE)
    assert_gone(process.pid)
    process.communicate()


STOPS = """
from sdssl_bench.system import lifetime
import signal, subprocess
lifetime.GRACE_SECONDS = 1
with lifetime.stopping():
    try:
        {before}
        say("ready")
        {work}
    except lifetime.Terminated:
        say("stopped")
        {after}
        sys.exit(lifetime.TERMINATED)
"""


def terminated(
    tmp_path: Path, work: str, after: str = "pass", *, before: str = "pass"
) -> tuple[int, str, str, float]:
    process = start(tmp_path, STOPS, before=before, work=work, after=after)
    time.sleep(0.5)  # so that its main thread is at work, which "ready" comes before
    process.terminate()
    began = time.monotonic()
    out, errors = process.communicate(timeout=20)
    return process.returncode, out, errors, time.monotonic() - began


def test_sigterm_unwinds_the_main_thread(tmp_path: Path) -> None:
    code, out, _, _ = terminated(tmp_path, "time.sleep(60)")
    assert (code, out) == (143, "stopped\n")


def test_a_second_sigterm_does_not_disturb_the_stop(tmp_path: Path) -> None:
    again = "os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.2)"
    code, out, errors, _ = terminated(tmp_path, "time.sleep(60)", again)
    assert (code, out, errors) == (143, "stopped\n", "")


def test_sigterm_ends_a_main_thread_that_does_not_come_back_from_c(tmp_path: Path) -> None:
    """As in a barrier of ranks: the handler of Python never runs."""
    stuck = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])"
    code, out, errors, seconds = terminated(tmp_path, "time.sleep(60)", before=stuck)
    assert (code, out) == (143, "")
    assert "terminated: finished layers are stored" in errors
    assert seconds < PATIENCE


def test_a_handler_of_its_own_has_the_time_it_needs(tmp_path: Path) -> None:
    """Pretraining saves itself first, which may take minutes."""
    own = "signal.signal(signal.SIGTERM, lambda *_: say('noted'))"
    code, out, _, _ = terminated(tmp_path, "time.sleep(1.4); say('saved')", before=own)
    assert (code, out) == (0, "noted\nsaved\n")


def test_a_forked_childs_sigterm_is_not_its_parents(tmp_path: Path) -> None:
    fork = (
        "pid = os.fork() or (signal.signal(signal.SIGTERM, lambda *_: os._exit(7)), time.sleep(60));"
        "time.sleep(0.3); os.kill(pid, signal.SIGTERM); say(str(os.waitstatus_to_exitcode("
        "os.waitpid(pid, 0)[1]))); time.sleep(1.4); say('alive')"
    )
    process = start(tmp_path, STOPS, before="pass", work=fork, after="pass")
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "7\nalive\n"), errors


ENDS = """
import atexit, ctypes, os, sys
sys.path.insert(0, {root!r})
from sdssl_bench.system import lifetime
assert ctypes.pythonapi.Py_AtExit(ctypes.CDLL(None).abort) == 0  # in the interpreter's finalisation
with lifetime.without_finalisation():
    atexit.register(print, "exit work")
    print("stored")
    {ending}
"""


@pytest.mark.parametrize(
    ("ending", "status"),
    [("pass", 0), ("sys.exit()", 0), ("sys.exit(3)", 3), ("sys.exit('no')", 1), ("1 / 0", 1)],
)
def test_nothing_aborts_a_process_of_a_launch_after_its_work(ending: str, status: int) -> None:
    """A pipe is no terminal, so what was printed lies in Python's buffer until the end."""
    command = [sys.executable, "-c", ENDS.format(root=str(ROOT), ending=ending)]
    alone = {**os.environ, "WORLD_SIZE": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, env=alone | {"WORLD_SIZE": "2"})
    assert (ended.returncode, ended.stdout) == (status, "stored\nexit work\n"), ended.stderr
    assert subprocess.run(command, capture_output=True, env=alone).returncode == -signal.SIGABRT


LAUNCHED = """
import subprocess
child = {child!r}
process = subprocess.Popen([sys.executable, "-c", child], env={{**os.environ, {variable!r}: {value}}})
say("ready")
time.sleep(600)
"""
CHILD = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from sdssl_bench.system import lifetime
lifetime.end_with_launcher()
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SDSSL_BENCH_CHILD_OF", "str(os.getpid())"), ("TORCHELASTIC_RUN_ID", "'none'")],
)
def test_a_launched_process_ends_with_a_killed_launcher(
    tmp_path: Path, sessions: list[int], variable: str, value: str
) -> None:
    process = start(tmp_path, LAUNCHED, child=CHILD, variable=variable, value=value)
    sessions.append(process.pid)
    time.sleep(1)
    assert len(in_session(process.pid)) == 2
    process.kill()
    process.wait()
    assert_gone(process.pid)
    assert "which started this one, has ended" in process.communicate()[1]


def test_a_command_started_by_a_shell_outlives_it(tmp_path: Path, sessions: list[int]) -> None:
    """As with nohup: nobody is known to wait for it."""
    process = start(tmp_path, LAUNCHED, child=CHILD, variable="SOMETHING", value="'else'")
    sessions.append(process.pid)
    time.sleep(1)
    process.kill()
    process.wait()
    time.sleep(1.2)
    (left,) = in_session(process.pid)
    left.kill()
    process.communicate()
