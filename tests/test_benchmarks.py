"""Every benchmark runs at toy size; what it prints is looked at by whoever changes what it measures."""

import subprocess
import sys
from pathlib import Path

import pytest

from sdssl_bench.datasets.mini.make import make_mini

ROOT = Path(__file__).resolve().parents[1]
TOY = {
    "analysis": ["--images", "64", "--layers", "2", "--width", "16", "--forward-images", "2"],
    "davis_propagation": ["frame"],
    "davis_real": ["--help"],
    "davis_score": ["--dense-sequences", "1", "--num-workers", "1"],
    "extraction": [
        "--dataset", "cifar10", "--data-root", "{data}", "--encoder", "vit_tiny_p8_32", "--limit", "32",
    ],
    "imagenet_bank": ["--rows", "2000", "--queries", "20", "--layers", "1", "--width", "16"],
    "knn": ["--train", "500", "--test", "100", "--width", "16", "--repeats", "1"],
    "layers": ["--batch", "1", "--repeats", "1"],
    "linear_heads": ["--images", "4", "--batch", "2", "--classes", "3", "--repeats", "1"],
    "logreg": [
        "--layers", "1", "--values", "2", "--rows", "120", "--width", "8", "--classes", "3",
    ],
    "million_files": ["--classes", "3", "--images", "4"],
    "opening": ["--arch", "vit_tiny_p8_32", "--optimizer", "--repeats", "2"],
    "many_results": ["--encoders", "4", "--distinct", "2", "--layers", "2", "--share", "0.01"],
    "pretrain_cost": ["--batch", "2", "--steps", "1"],
    "pretrain_views": ["--images", "2", "--size", "32"],
    "retrieval_layers": ["--images", "4", "--imsize", "32", "--repeats", "1"],
    "retrieval_scoring": [],
    "retrieval_whitening": ["--layers", "1", "--rows", "200", "--width", "16"],
}  # fmt: skip


def test_every_benchmark_has_a_toy_size() -> None:
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == set(TOY)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("benchmarks") / "data"
    make_mini(root, names=["cifar10"])
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", TOY)
def test_a_benchmark_runs_and_prints(name: str, data: Path, tmp_path: Path) -> None:
    arguments = [one.format(data=data) for one in TOY[name]]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", *arguments],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
