"""Two processes train what one trains: each computes its share of a batch."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mini_data import shared_mini
from processes import together
from sdssl_bench.records.store import ResultStore

ROOT = Path(__file__).resolve().parents[2]
CKPT = f"custom:{ROOT / 'tests' / 'tiny_model.py'}:build"
# What is drawn at random differs between processes; all else must not.
SETTINGS = [
    "--task", "finetune", "--layers", "2,3", "--dataset", "cifar10", "--device", "cpu", "-j", "0",
    "--set", "epochs=3", "--set", "warmup=0", "--set", "batch=51", "--set", "lr=0.005",
    "--set", "mixup=0", "--set", "cutmix=0", "--set", "drop_path=0",
]  # fmt: skip


def train(processes: int, out: Path) -> Any:
    done = together(
        processes, sys.executable, "-m", "sdssl_bench", "run", "--ckpt", CKPT, *SETTINGS,
        "--data-root", shared_mini(), "--out", out, "--cache-dir", out / "cache", cwd=ROOT,
    )  # fmt: skip
    assert not any(code for code, _, _ in done), done
    ((_, record),) = ResultStore(out)
    assert record["environments"][0]["processes"] == processes
    return record


@pytest.mark.slow
def test_two_processes_fine_tune_as_one(tmp_path: Path) -> None:
    one, two = (train(count, tmp_path / str(count)) for count in (1, 2))
    assert one["key"] == two["key"]
    assert one["layers"].keys() == two["layers"].keys()
    for layer, entry in one["layers"].items():
        other = two["layers"][layer]
        ours, theirs = (e["notes"]["curve"]["train_loss"] for e in (entry, other))
        assert theirs == pytest.approx(ours, rel=2e-3), json.dumps([layer, ours, theirs])
        assert other["metrics"]["top1"] == pytest.approx(entry["metrics"]["top1"], abs=0.031)
