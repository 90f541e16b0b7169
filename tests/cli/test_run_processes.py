"""One, two or three processes give the same scores; the death of one ends all, and keeps what was stored."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from mini_data import shared_mini
from processes import together
from sdssl_bench.cli.main import app
from sdssl_bench.records.reading import read_items
from sdssl_bench.records.store import ResultStore

ROOT = Path(__file__).resolve().parents[2]
CKPT = f"custom:{ROOT / 'tests' / 'tiny_model.py'}:build"
LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node")
TASKS = (
    ("-t", "knn", "-d", "cifar10,pets"),
    ("-t", "linear", "-d", "cifar10", "--set", "epochs=3", "--set", "batch=48"),
    ("-t", "linear", "--protocol", "logreg", "--set", "sweep=clip", "-d", "flowers"),
    ("-t", "retrieval", "-d", "roxford5k", "--imsize", "48"),
    ("-t", "copydays", "--imsize", "36"),
    ("-t", "davis", "--set", "short_side=64", "--layers", "2,3"),
    ("-t", "segmentation", "-d", "voc2012", "--image-size", "64", "--mask-size", "64"),
    ("-t", "analysis", "-d", "cifar10", "--set", "iterations=250", "--set", "tsne_images=40"),
    ("-t", "cka", "-d", "cifar10", "--against", CKPT),
)
EVERY = """
import json, sys
from sdssl_bench.cli.main import app
for line in json.loads(sys.argv[1]):
    app(line, standalone_mode=False)
"""
"""All commands in one process, which imports torch once."""


def line(out: Path, *settings: str) -> list[str]:
    every = () if "--layers" in settings else ("--all-layers",)
    return [
        "run", "--ckpt", CKPT, "--data-root", str(shared_mini()), "--out", str(out),
        "--cache-dir", str(out / "cache"), "--device", "cpu", "-j", "0", *every, *settings,
    ]  # fmt: skip


def scores(processes: int, out: Path) -> dict[str, Any]:
    """Metrics and items of every record and layer, by its key."""
    lines = json.dumps([line(out, *one) for one in TASKS])
    for code, output, errors in together(processes, sys.executable, "-c", EVERY, lines, cwd=ROOT):
        assert code == 0, output + errors
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
def test_one_two_and_three_processes_give_identical_scores(tmp_path: Path) -> None:
    one, two, three = (scores(n, tmp_path / str(n)) for n in (1, 2, 3))
    assert len(one) == len(TASKS) + 1, "k-NN has two sets"
    for other in (two, three):
        assert other.keys() == one.keys()
        for key, layers_of_one in one.items():
            assert other[key].keys() == layers_of_one.keys()
            for layer, (metrics, items) in layers_of_one.items():
                assert other[key][layer][0] == metrics, (key, layer)
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


SWEEP = ("-t", "knn", "-d", "cifar10,pets,flowers,cub")


def begin(out: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*LAUNCHER, "2", "-m", "sdssl_bench", *line(out, *SWEEP)], cwd=ROOT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_the_death_of_a_process_ends_all_and_names_it(tmp_path: Path, rank: int) -> None:
    launcher = begin(tmp_path)
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
    done = CliRunner().invoke(app, line(tmp_path, *SWEEP))  # goes on from there
    assert done.exit_code == 0, done.output
    assert stored_layers(tmp_path) == 3 * 4


@pytest.mark.slow
def test_nothing_outlives_a_killed_launcher(tmp_path: Path) -> None:
    launcher = begin(tmp_path)
    members = ranks(launcher, 2)
    while not stored_layers(tmp_path):
        time.sleep(0.05)
    launcher.kill()
    launcher.communicate(timeout=60)
    end = time.monotonic() + 5
    while any(one.is_running() and one.status() != "zombie" for one in members):
        assert time.monotonic() < end
        time.sleep(0.1)
