"""One, two or three processes give the same scores; the death of one ends all, and keeps what was stored."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from mini_data import shared_mini
from sdssl_bench.records.reading import read_items
from sdssl_bench.records.store import ResultStore

ROOT = Path(__file__).resolve().parents[2]
CKPT = f"custom:{ROOT / 'tests' / 'tiny_model.py'}:build"
LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node")
TASKS = {
    "knn": ("-t", "knn", "-d", "cifar10,pets"),
    "linear": ("-t", "linear", "-d", "cifar10", "--set", "epochs=3", "--set", "batch=48"),
    "logreg": ("-t", "linear", "--protocol", "logreg", "-d", "flowers"),
    "retrieval": ("-t", "retrieval", "-d", "roxford5k"),
    "copydays": ("-t", "copydays"),
    "davis": ("-t", "davis"),
    "analysis": ("-t", "analysis", "-d", "cifar10"),
    "cka": ("-t", "cka", "-d", "cifar10", "--against", CKPT),
}


def command(processes: int, out: Path, *settings: str) -> list[str]:
    launcher = (*LAUNCHER, str(processes)) if processes > 1 else (sys.executable,)
    return [
        *launcher, "-m", "sdssl_bench", "run", "--ckpt", CKPT, "--data-root", str(shared_mini()),
        "--out", str(out), "--cache-dir", str(out / "cache"), "--device", "cpu", "-j", "0",
        *settings,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def scores(processes: int, out: Path, *settings: str) -> dict[str, Any]:
    """Metrics and items of every record and layer, by dataset."""
    done = subprocess.run(
        command(processes, out, *settings), cwd=ROOT, capture_output=True, text=True,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for path, record in ResultStore(out):
        assert record["environments"][0]["processes"] == processes
        layers = {
            layer: (entry["metrics"], read_items(path, int(layer)) if entry["items"] else {})
            for layer, entry in record["layers"].items()
        }
        found[record["key"]] = layers
    return found


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_one_two_and_three_processes_give_identical_scores(tmp_path: Path, task: str) -> None:
    layers = ("--layers", "2,3") if task == "davis" else ("--all-layers",)
    one, two, three = (scores(n, tmp_path / str(n), *TASKS[task], *layers) for n in (1, 2, 3))
    for other in (two, three):
        assert other.keys() == one.keys()
        for key, layers_of_one in one.items():
            assert other[key].keys() == layers_of_one.keys()
            for layer, (metrics, items) in layers_of_one.items():
                assert other[key][layer][0] == metrics, layer
                for name, values in items.items():
                    np.testing.assert_array_equal(other[key][layer][1][name], values)


def ranks(launcher: "subprocess.Popen[str]", count: int) -> list[psutil.Process]:
    """The processes of a launch, once all of them are working, by rank."""
    found: dict[int, psutil.Process] = {}
    end = time.monotonic() + 60
    while len(found) < count:
        assert launcher.poll() is None, launcher.communicate()
        assert time.monotonic() < end
        for one in psutil.Process(launcher.pid).children(recursive=True):
            try:
                rank = one.environ().get("RANK")
                if rank is not None and "sdssl_bench" in " ".join(one.cmdline()):
                    found[int(rank)] = one
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        time.sleep(0.1)
    return [found[rank] for rank in range(count)]


def stored_layers(out: Path) -> int:
    return sum(len(record["layers"]) for _, record in ResultStore(out))


def begin(out: Path, settings: tuple[str, ...]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(2, out, *settings), cwd=ROOT, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


SWEEP = ("-t", "knn", "-d", "cifar10,pets,flowers,cub,cars,dogs,cifar100,aircraft", "--all-layers")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_the_death_of_a_process_ends_all_and_names_it(tmp_path: Path, rank: int) -> None:
    launcher = begin(tmp_path, SWEEP)
    members = ranks(launcher, 2)
    while not stored_layers(tmp_path):
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.05)
    members[rank].kill()
    killed = time.monotonic()
    _, errors = launcher.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert launcher.returncode != 0
    assert not any(one.is_running() and one.status() != "zombie" for one in members)
    named = f"process {rank} (pid {members[rank].pid}) has ended" in errors
    torchs = (
        f"(pid: {members[rank].pid})" in errors or f"received by PID {members[rank].pid}" in errors
    )
    assert named or torchs, errors
    kept = stored_layers(tmp_path)
    assert kept >= 1
    scores(2, tmp_path, *SWEEP)  # goes on from there
    assert stored_layers(tmp_path) == 3 * 8


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_launcher(tmp_path: Path, number: int) -> None:
    launcher = begin(tmp_path, SWEEP)
    members = ranks(launcher, 2)
    while not stored_layers(tmp_path):
        time.sleep(0.05)
    launcher.send_signal(number)
    launcher.communicate(timeout=60)
    end = time.monotonic() + 5
    while any(one.is_running() and one.status() != "zombie" for one in members):
        assert time.monotonic() < end
        time.sleep(0.1)
