"""`sdssl-bench multi-exit`: the layer curve in numbers, and what leaving early gives, measured."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from mini_data import shared_mini
from sdssl_bench import api, checkpoints
from sdssl_bench.cli.main import app
from sdssl_bench.encoders.encoder import Encoder
from sdssl_bench.probes.multi_exit import throughput

CKPT = f"custom:{Path(__file__).parents[1] / 'tiny_model.py'}:build"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return checkpoints.load(CKPT)


@pytest.fixture(scope="module")
def record(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exits")
    api.evaluate(
        encoder, "linear", "cifar10", protocol="logreg", data_root=shared_mini(),
        results=folder / "results", cache_dir=folder / "cache", num_workers=0,
    )  # fmt: skip
    (found,) = (folder / "results" / "runs").rglob("*.json")
    return found


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["multi-exit", *arguments])


def test_the_report_states_the_records_curve(record: Path) -> None:
    done = invoke(str(record), "--json")
    assert done.exit_code == 0, done.output
    (report,) = json.loads(done.stdout)
    layers = json.loads(record.read_text())["layers"]
    curve = {layer: entry["metrics"]["top1"] for layer, entry in layers.items()}
    assert report["curve"] == curve
    assert report["curve"][str(report["best"])] == max(curve.values())
    near = [int(layer) for layer, value in curve.items() if value >= curve["3"] - 0.01 - 1e-9]
    assert report["earliest"] == min(near)
    assert report["images_per_second"] is None
    said = invoke(str(record)).output
    assert "selected on test" in said
    assert "images/s" not in said, "nothing is claimed of speed that is not measured"


def test_speed_is_measured_of_the_model_of_the_record(record: Path) -> None:
    done = invoke(str(record), "--ckpt", CKPT, "--device", "cpu", "--batch-size", "4", "--json")
    assert done.exit_code == 0, done.output
    speed = json.loads(done.stdout)[0]["images_per_second"]
    assert set(speed) == {"1", "2", "3"}
    assert min(speed.values()) > 0
    said = invoke(str(record), "--ckpt", CKPT, "--device", "cpu", "--batch-size", "4").output
    assert "exiting there" in said
    other = invoke(
        str(record),
        "--ckpt",
        "timm:vit_tiny_patch16_224?pretrained=false&seed=0",
        "--img-size",
        "32",
    )
    assert other.exit_code == 3
    assert "not the model of the record" in other.output


def test_every_exit_computes_its_own_layers_only(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: dict[int, list[tuple[int, ...]]] = {}
    truncate = type(encoder).truncate

    def counted(self: Encoder, layer: int) -> Any:
        model = truncate(self, layer)
        model.register_forward_hook(
            lambda _, inputs, __: passes.setdefault(model.depth, []).append(inputs[0].shape)
        )
        return model

    monkeypatch.setattr(type(encoder), "truncate", counted)
    speed = throughput(encoder, device="cpu", batch_size=2, repeats=3)
    assert set(speed) == {1, 2, 3}
    size = encoder.input_size
    assert passes == {depth: [torch.Size((2, 3, size, size))] * 4 for depth in (1, 2, 3)}


def test_speed_is_images_over_the_median_seconds_of_a_pass(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only passes move on: a quarter of a second a layer, one pass of each disturbed."""
    now, truncate, passes = [0.0], type(encoder).truncate, dict.fromkeys((1, 2, 3), 0)

    def clocked(self: Encoder, layer: int) -> Any:
        model = truncate(self, layer)

        def tick(*_: object) -> None:
            passes[layer] += 1
            now[0] += 0.25 * layer + 60.0 * (passes[layer] <= 2)  # the first is not counted

        model.register_forward_hook(tick)
        return model

    monkeypatch.setattr(type(encoder), "truncate", clocked)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    speed = throughput(encoder, device="cpu", batch_size=2, repeats=3)
    assert speed == pytest.approx({1: 8.0, 2: 4.0, 3: 8.0 / 3})


def test_the_speed_up_of_an_exit_is_against_the_whole_encoder(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sdssl_bench.probes.throughput", lambda *_, **__: {1: 400.0, 2: 250.0, 3: 100.0}
    )
    said = invoke(str(record), "--ckpt", CKPT, "--device", "cpu", "--within", "100").output
    rows = [line.split()[-3:] for line in said.splitlines() if line.endswith(" x")]
    assert rows == [["400.0", "4.00", "x"], ["250.0", "2.50", "x"], ["100.0", "1.00", "x"]]
    assert "exiting there: 400.0 images/s, 4.00 x the whole encoder" in said


def test_a_negative_distance_is_refused(record: Path) -> None:
    done = invoke(str(record), "--within", "-1")
    assert done.exit_code == 2
    assert "from 0" in done.output
