"""Every benchmark runs at toy size; what it prints is looked at by whoever changes what it measures."""

import runpy
import sys
import warnings
from pathlib import Path

import pytest
import torch

from mini_data import shared_mini

ROOT = Path(__file__).resolve().parents[1]
TOY = {
    "analysis": ["--images", "64", "--layers", "2", "--width", "16", "--forward-images", "2"],
    "davis_propagation": ["frame", "--patches", "16", "--threads", "1"],
    "davis_score": ["--sequences", "1", "--dense-sequences", "1", "--num-workers", "1"],
    "estimate": [
        "--ckpt", f"custom:{ROOT}/tests/tiny_model.py:build", "--data-root", "{data}",
        "--case", "-t knn -d cifar10", "--case", "-t davis --limit 1",
        "--case", "-t linear -d cifar10 --set epochs=1", "--case", "-t retrieval -d roxford5k",
    ],
    "extraction": [
        "--dataset", "cifar10", "--data-root", "{data}", "--encoder", "vit_tiny_p8_32", "--limit", "32",
    ],
    "knn": ["--train", "500", "--test", "100", "--width", "16", "--repeats", "1"],
    "layers": ["--batch", "1", "--repeats", "1"],
    "linear_heads": ["--images", "4", "--batch", "2", "--classes", "3", "--repeats", "1"],
    "logreg": [
        "--layers", "1", "--values", "2", "--rows", "120", "--width", "8", "--classes", "3",
    ],
    "million_files": ["--classes", "3", "--images", "4"],
    "opening": ["--arch", "vit_tiny_p8_32", "--optimizer", "--repeats", "2"],
    "many_results": ["--encoders", "4", "--distinct", "2", "--layers", "2", "--share", "0.01"],
    "pretrain_cost": ["--arch", "vit_tiny_p8", "--batch", "2", "--steps", "1"],
    "pretrain_views": ["--images", "2", "--size", "32"],
    "retrieval_layers": ["--images", "4", "--imsize", "32", "--repeats", "1"],
    "retrieval_scoring": [],
    "segmentation_layers": ["--images", "4", "--size", "32", "--repeats", "1"],
    "scale": [
        "--rows", "400,800", "--layers", "2", "--width", "16", "--classes", "10", "--queries", "50",
        "--penalties", "3",
    ],
    "retrieval_whitening": ["--layers", "1", "--rows", "200", "--width", "16"],
}  # fmt: skip


def test_every_benchmark_has_a_toy_size() -> None:
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == set(TOY)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOY)
def test_a_benchmark_runs_and_prints(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In this process, as `python benchmarks/x.py` runs it: eighteen imports of torch are saved."""
    script, threads = ROOT / "benchmarks" / f"{name}.py", torch.get_num_threads()
    arguments = [one.format(data=shared_mini()) for one in TOY[name]]
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path])
    monkeypatch.chdir(tmp_path)
    # A benchmark's own limit would hold for all later tests.
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
    finally:
        torch.set_num_threads(threads)
    assert capfd.readouterr().out.strip()
