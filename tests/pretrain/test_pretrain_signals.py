"""A run that is told to stop, as schedulers do it: every process of its group gets the signal."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pretrain_fixtures import MAIN, SETTINGS, command_line, log_lines, make_images


def wait_for(condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    data = str(make_images(tmp_path / "images", 24))
    settings = {**SETTINGS, "data": data, "epochs": 4000, "num_workers": 2, "save_every": 4000}
    return [sys.executable, str(MAIN), *command_line(settings), "--out", str(tmp_path / "run")]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_saves_the_run(
    number: signal.Signals, command: list[str], tmp_path: Path
) -> None:
    """Loader workers, too; and twice, as under torchrun under Slurm."""
    out = tmp_path / "run"
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (out / "log.jsonl").exists() and log_lines(out), process)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    os.killpg(process.pid, number)
    if number == signal.SIGTERM:
        os.killpg(process.pid, number)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number, errors
    assert "--resume auto goes on from there" in errors
    assert len(list((out / "snapshots").glob("step-*.pt"))) == 1
    assert not psutil.wait_procs(workers, timeout=20)[1]
