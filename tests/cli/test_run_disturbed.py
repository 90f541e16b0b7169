"""A run that is killed, interrupted or spread over processes gives the undisturbed result."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mini_data import shared_mini
from processes import together
from sdssl_bench.cli.main import app
from sdssl_bench.records.identity import stable_view
from sdssl_bench.records.reading import read_items
from sdssl_bench.records.store import ResultStore

ROOT = Path(__file__).resolve().parents[2]
CKPT = f"custom:{Path(__file__).parents[1] / 'tiny_model.py'}:build"

# Everything slow to import is imported before "ready", so that kills hit the work and not the imports.
JOB = """
import sys
sys.path.insert(0, {root!r})
import sdssl_bench.api, sdssl_bench.cli.running, faiss, accelerate
from sdssl_bench.cli.main import app
print("ready", flush=True)
app({arguments!r}, prog_name="sdssl-bench")
"""


@pytest.fixture(scope="module")
def data() -> Path:
    return shared_mini()


@pytest.fixture(scope="module")
def quiet(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("quiet")
    done = CliRunner().invoke(app, arguments(data, folder))
    assert done.exit_code == 0, done.output
    return folder


def arguments(data: Path, folder: Path) -> list[str]:
    return [
        "run", "-t", "knn", "-d", "cifar10", "-c", CKPT, "--all-layers", "-b", "8", "-j", "0",
        "--data-root", str(data), "--out", str(folder / "results"),
        "--cache-dir", str(folder / "cache"),
    ]  # fmt: skip


def start(data: Path, folder: Path) -> subprocess.Popen[str]:
    code = JOB.format(root=str(ROOT), arguments=arguments(data, folder))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    job = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert job.stdout is not None
    assert job.stdout.readline() == "ready\n", job.communicate()
    return job


def finish(job: subprocess.Popen[str]) -> None:
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 0, errors


def assert_same(folder: Path, other: Path) -> None:
    ((path, record),) = ResultStore(folder / "results")
    ((path2, record2),) = ResultStore(other / "results")
    assert stable_view(record) == stable_view(record2)
    for layer in map(int, record["layers"]):
        items, items2 = read_items(path, layer), read_items(path2, layer)
        assert items.keys() == items2.keys()
        for name, values in items.items():
            np.testing.assert_array_equal(values, items2[name])


@pytest.mark.slow
def test_killed_eight_times_and_resumed_equals_undisturbed(data: Path, tmp_path: Path) -> None:
    """At random moments of the work of a whole run; its parts are killed in the default tests."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    job = start(data, whole)
    ready = time.monotonic()
    finish(job)
    length, finished, chance = time.monotonic() - ready, 0, random.Random(20)
    for _ in range(8):
        job = start(data, killed)
        time.sleep(chance.random() * length)
        finished += job.poll() is not None
        job.send_signal(signal.SIGKILL)
        job.communicate()
    finish(start(data, killed))
    assert_same(whole, killed)
    assert finished < 8


def test_an_interrupted_run_says_how_to_go_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sdssl_bench.features.extract", interrupted)
    result = CliRunner().invoke(app, arguments(data, tmp_path))
    assert result.exit_code == 130
    assert "goes on from there" in result.output
    assert "Traceback" not in result.output


def test_two_processes_score_as_one(data: Path, quiet: Path, tmp_path: Path) -> None:
    done = together(2, sys.executable, "-m", "sdssl_bench", *arguments(data, tmp_path), cwd=ROOT)
    assert [code for code, _, _ in done] == [0, 0], done
    assert sum(said.count("record:") for _, said, _ in done) == 1
    ((_, one),) = ResultStore(quiet / "results")
    ((_, two),) = ResultStore(tmp_path / "results")
    assert one["key"] == two["key"]
    for layer, entry in one["layers"].items():
        assert entry["metrics"] == two["layers"][layer]["metrics"]
    assert two["environments"][0]["processes"] == 2
