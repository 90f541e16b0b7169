"""`make gpu` at toy size on a CPU: every stage, what fails or lacks a package, and going on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = [
    "tests", "layers", "extraction", "knn", "davis", "logreg", "pretrain", "views", "cpu", "pair",
]  # fmt: skip


def kit(
    out: Path, *options: str, python_path: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    if shutil.which("make") is None:
        pytest.skip("needs make")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if python_path is not None:
        env["PYTHONPATH"] = str(python_path)
    given = " ".join(["--out", str(out), *options])
    return subprocess.run(
        ["make", "gpu", "DEVICE=cpu", "SIZE=toy", f"PYTHON={sys.executable}", f"GPU_OPTIONS={given}"],
        cwd=ROOT, capture_output=True, text=True, env=env,
    )  # fmt: skip


def record_of(out: Path) -> dict[str, Any]:
    (path,) = out.glob("*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def states(out: Path) -> dict[str, str]:
    return {name: part["state"] for name, part in record_of(out)["parts"].items()}


@pytest.mark.slow
def test_all_stages_run_leave_a_record_and_a_table_and_are_not_run_twice(tmp_path: Path) -> None:
    done = kit(tmp_path, "--tests", "knn\\ or\\ features\\ or\\ views")
    assert done.returncode == 0, done.stdout + done.stderr
    record = record_of(tmp_path)
    assert states(tmp_path) == dict.fromkeys(PARTS, "done")
    assert (record["card"], record["size"]) == ("cpu", "toy")
    (table,) = tmp_path.glob("cpu-*.md")
    for name, part in record["parts"].items():
        assert part["rows"], name
        for row in part["rows"]:
            assert row["value"] >= 0
            assert f"| {name} | {row['what']} |" in table.read_text()
    for file in tmp_path.glob("cpu-*"):
        assert file.stat().st_size < 64_000
    tests = {row["what"]: row["value"] for row in record["parts"]["tests"]["rows"]}
    assert tests["tests passed"] >= 5
    assert tests["tests failed"] == tests["tests skipped"] == 0
    exports = sorted((tmp_path / "pair-toy").glob("*-epoch2-fp16.safetensors"))
    assert len(exports) == 2
    assert max(one.stat().st_size for one in exports) < 16 * 2**20
    again = kit(tmp_path)
    assert again.stdout.count(" kept\n") == len(PARTS)
    assert record_of(tmp_path) == record


@pytest.mark.slow
def test_a_part_that_fails_stops_no_other_and_is_all_that_runs_again(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "timm.py").write_text("raise RuntimeError('a broken package')")
    only = ("--only", "layers,knn")
    done = kit(tmp_path / "out", *only, python_path=broken)
    assert done.returncode != 0
    assert states(tmp_path / "out") == {"layers": "failed", "knn": "done"}
    first = record_of(tmp_path / "out")["parts"]
    assert "RuntimeError: a broken package" in first["layers"]["output"]
    assert kit(tmp_path / "out", *only).returncode == 0
    assert states(tmp_path / "out") == {"layers": "done", "knn": "done"}
    assert record_of(tmp_path / "out")["parts"]["knn"] == first["knn"]


@pytest.mark.slow
def test_a_part_that_lacks_a_package_is_skipped_and_names_it(tmp_path: Path) -> None:
    """With torch, torchvision and what they bring alone, search and views are measured all the same."""
    absent = [
        "timm", "huggingface_hub", "faiss", "cv2", "sklearn", "threadpoolctl", "pandas", "accelerate",
        "scipy", "typer", "rich", "safetensors", "jsonschema", "jinja2", "matplotlib", "pytest",
    ]  # fmt: skip
    lean = tmp_path / "lean"
    lean.mkdir()
    (lean / "sitecustomize.py").write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({absent}))\n"
    )
    done = kit(tmp_path / "out", python_path=lean)
    assert done.returncode == 0, done.stdout
    parts = record_of(tmp_path / "out")["parts"]
    assert {name for name, part in parts.items() if part["state"] == "done"} == {"knn", "views"}
    assert parts["layers"] == {
        "state": "skipped",
        "why": "needs timm, safetensors, huggingface_hub, not installed",
        "rows": [],
    }
    assert "sklearn" in parts["logreg"]["why"]
    assert parts["cpu"]["why"].startswith("needs timm, ")
    assert "faiss" in parts["cpu"]["why"]
    assert "accelerate" in parts["pair"]["why"]
    assert "pytest" in parts["tests"]["why"]
    assert not any("faiss" in row["what"] for row in parts["knn"]["rows"])


def test_parts_without_time_are_told_and_wait_for_the_next_call(tmp_path: Path) -> None:
    done = kit(tmp_path, "--minutes", "0")
    assert done.returncode == 0, done.stderr
    assert states(tmp_path) == dict.fromkeys(PARTS, "out of time")
    (table,) = tmp_path.glob("*.md")
    assert table.read_text().count("**out of time**") == len(PARTS)


def test_without_a_card_it_says_what_runs_without_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "gpu", "--out", tmp_path / "out"],
        capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 2
    assert "make gpu DEVICE=cpu SIZE=toy" in done.stdout
    assert not (tmp_path / "out").exists()
