"""Banks of jobs that are killed, run side by side or in several processes equal those of a quiet one."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import expected_cls, plain_images
from processes import together
from sdssl_bench.features.store import lock_of
from sdssl_bench.system import locked

JOB = Path(__file__).parents[1] / "extract_job.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(cache: Path, **job: Any) -> subprocess.Popen[str]:
    """The job, as soon as everything is imported and the work begins."""
    process = subprocess.Popen(
        [sys.executable, str(JOB), str(cache), json.dumps(job)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def finish(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1]), errors


def launch(cache: Path, **job: Any) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of two processes that share a job."""
    return together(2, sys.executable, JOB, cache, json.dumps(job), cwd=JOB.parent)


def banks(cache: Path) -> dict[str, bytes]:
    """Bank name -> content, of the only folder."""
    (folder,) = (cache / "features").glob("[!.]*")
    manifest = json.loads((folder / "manifest.json").read_text())
    complete = json.loads((folder / "complete.json").read_text())["files"]
    assert sorted(complete) == sorted(manifest["banks"].values())
    assert sorted(path.name for path in folder.glob("*.npy")) == sorted(complete)
    return {name: (folder / file).read_bytes() for name, file in manifest["banks"].items()}


def rows_written(cache: Path) -> int:
    """Rows that the journals prove; all of them once the folder is complete."""
    if list((cache / "features").glob("*/complete.json")):
        return 300
    lines = [
        json.loads(line)
        for path in (cache / "features").glob("*/journal-*")
        for line in path.read_text().splitlines()
    ]
    return sum(stop - first for line in lines for first, stop in line["rows"]) // 2  # two layers


@pytest.fixture(scope="module")
def quiet_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of a job that nobody disturbs."""
    cache = tmp_path_factory.mktemp("quiet")
    finish(start(cache))
    return cache


@pytest.fixture(scope="module")
def quiet(quiet_cache: Path) -> dict[str, bytes]:
    """Its banks."""
    return banks(quiet_cache)


@pytest.mark.slow
def test_a_quiet_job_is_right(quiet: dict[str, bytes]) -> None:
    for layer in (1, 2):
        stored = np.load(io.BytesIO(quiet[f"layer0{layer}-cls"]))
        np.testing.assert_allclose(stored, expected_cls(plain_images(300), layer), rtol=1e-6)


def kill_and_resume(tmp_path: Path, quiet: dict[str, bytes], times: int) -> None:
    chance = random.Random(times)
    progress = []
    for _ in range(times):
        process = start(tmp_path, pause=0.02, batch=chance.choice([5, 16, 32]))
        while not progress and not rows_written(tmp_path):  # the first has work to lose
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        progress.append(rows_written(tmp_path))
    report, _ = finish(start(tmp_path, batch=8))
    assert report["rows"] == 300
    assert banks(tmp_path) == quiet
    assert progress == sorted(progress), "work of a killed job is kept"
    assert progress[-1] > 0


@pytest.mark.slow
def test_killed_ten_times_gives_the_same_bytes(tmp_path: Path, quiet: dict[str, bytes]) -> None:
    kill_and_resume(tmp_path, quiet, 10)


@pytest.mark.slow
def test_a_second_job_waits_and_finds_the_bank(quiet_cache: Path) -> None:
    (folder,) = (quiet_cache / "features").glob("[!.]*")
    with locked(lock_of(folder)):
        second = start(quiet_cache)
        assert second.stderr is not None
        message = second.stderr.readline()
    assert "waiting for another job that computes features of colours train" in message
    assert finish(second)[0]["cached"]


@pytest.mark.slow
def test_jobs_for_different_layers_share_a_folder(tmp_path: Path) -> None:
    jobs = [start(tmp_path, layers=[1, 2], pause=0.02), start(tmp_path, layers=[1, 3], pause=0.02)]
    for job in jobs:
        finish(job)
    assert set(banks(tmp_path)) == {"layer01-cls", "layer02-cls", "layer03-cls"}


@pytest.mark.slow
def test_two_launched_processes_complete_the_bank_of_a_killed_one(
    tmp_path: Path, quiet: dict[str, bytes]
) -> None:
    process = start(tmp_path, pause=0.02)
    while rows_written(tmp_path) < 64:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = launch(tmp_path)
    assert [code for code, _, _ in done] == [0, 0], done
    assert ['"rows": 300' in out for _, out, _ in done] == [True, False]
    assert banks(tmp_path) == quiet


@pytest.mark.slow
def test_two_launched_processes_share_the_images(tmp_path: Path, quiet: dict[str, bytes]) -> None:
    (code, _, errors), _ = launch(tmp_path)
    assert code == 0, errors
    assert "train: 160 images in" in errors, "one process counts its own share: 5 of 10 shards"
    assert banks(tmp_path) == quiet


@pytest.mark.parametrize(
    ("how", "message"),
    [
        pytest.param("nan", "Features must be finite", marks=pytest.mark.slow),
        pytest.param("bug", "Process 1 failed: ZeroDivision", marks=pytest.mark.slow),
    ],
)
def test_a_failure_in_one_process_ends_all_and_is_told(
    tmp_path: Path, how: str, message: str
) -> None:
    done = launch(tmp_path, fails_in=1, how=how, pause=0.01)
    assert all(code for code, _, _ in done)
    assert any(message in errors for _, _, errors in done)
    assert not any('"rows"' in out for _, out, _ in done)
