"""Two processes train what one trains: each computes its share of a batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mini_data import shared_mini
from sdssl_bench.records.store import ResultStore

ROOT = Path(__file__).resolve().parents[2]
CKPT = f"custom:{ROOT / 'tests' / 'tiny_model.py'}:build"
ONE = (sys.executable,)
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def train(launcher: tuple[str, ...], out: Path, *settings: str) -> Any:
    done = subprocess.run(
        [*launcher, "-m", "sdssl_bench", "run", "--ckpt", CKPT, "--dataset", "cifar10",
         "--data-root", str(shared_mini()), "--out", str(out), "--cache-dir", str(out / "cache"),
         "--device", "cpu", "--num-workers", "0", *settings],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    ((_, record),) = ResultStore(out)
    assert record["environments"][0]["processes"] == (1 if launcher is ONE else 2)
    return record


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("--task", "linear", "--all-layers", "--set", "epochs=3", "--set", "batch=49"),
        # What is drawn at random differs between processes; all else must not.
        ("--task", "finetune", "--layers", "2,3", "--set", "epochs=3", "--set", "warmup=0",
         "--set", "batch=51", "--set", "lr=0.005", "--set", "mixup=0", "--set", "cutmix=0",
         "--set", "drop_path=0"),
    ],
    ids=["linear", "finetune"],
)  # fmt: skip
def test_two_processes_train_as_one(tmp_path: Path, settings: tuple[str, ...]) -> None:
    one, two = (
        train(launcher, tmp_path / name, *settings)
        for launcher, name in ((ONE, "one"), (TWO, "two"))
    )
    assert one["key"] == two["key"]
    assert one["layers"].keys() == two["layers"].keys()
    for layer, entry in one["layers"].items():
        other = two["layers"][layer]
        ours, theirs = (e["notes"]["curve"]["train_loss"] for e in (entry, other))
        assert theirs == pytest.approx(ours, rel=2e-3), json.dumps([layer, ours, theirs])
        assert other["metrics"]["top1"] == pytest.approx(entry["metrics"]["top1"], abs=0.031)
