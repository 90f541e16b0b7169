"""`--points`: one pass for all of them, a record for each, and nothing new in the record of the blocks."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
import torch
from timm.models.vision_transformer import Block
from typer.testing import CliRunner, Result

import sdssl_bench
from mini_data import shared_mini
from sdssl_bench import api, tasks
from sdssl_bench.cli.main import app
from sdssl_bench.cli.running import run_all, with_points
from sdssl_bench.datasets import preprocess
from sdssl_bench.encoders import POINTS
from sdssl_bench.encoders.encoder import cls, move
from sdssl_bench.features import extract, loading
from sdssl_bench.paper import model_pairs
from sdssl_bench.records import Record, ResultStore, differences
from sdssl_bench.records.identity import stable_view
from sdssl_bench.task import RunContext
from tiny_model import build

SCHEMA = json.loads(
    (Path(sdssl_bench.__file__).parent / "records" / "record.schema.json").read_text()
)
CKPT = f"custom:{Path(__file__).parents[1] / 'tiny_model.py'}:build"

KNN: tuple[str, None, dict[str, str]] = ("knn", None, {"k": "1,3", "headline_k": "3"})
LOGREG: tuple[str, str, dict[str, str]] = (
    "linear",
    "logreg",
    {"features": "cls", "transform": "A", "sweep": "clip"},
)


def context(tmp_path: Path) -> RunContext:
    return RunContext(
        data_root=shared_mini(), cache_dir=tmp_path / "cache", device="cpu", num_workers=0
    )


def records(root: Path) -> dict[str, Record]:
    """Point -> record."""
    found = {record["model"].get("point", "block"): record for _, record in ResultStore(root)}
    assert len(found) == len(list(ResultStore(root)))
    return found


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    monkeypatch.setenv("SDSSL_BENCH_DATA", str(shared_mini()))
    monkeypatch.setenv("SDSSL_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SDSSL_BENCH_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, arguments)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return call


def test_three_points_of_two_tasks_cost_one_pass_and_leave_blocks_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[tuple[str, int]] = Counter()
    load, forward, passed = loading.load_batch, Block.forward, [0]

    def counted(images: Any, steps: Any, rows: Any) -> Any:
        decoded.update((images.split, row) for row in rows.tolist())
        return load(images, steps, rows)

    def counted_forward(block: Block, x: torch.Tensor, *more: Any, **others: Any) -> torch.Tensor:
        passed[0] += len(x)
        return forward(block, x, *more, **others)

    monkeypatch.setattr(loading, "load_batch", counted)
    encoder = api.as_encoder(build()).eval()
    ctx = context(tmp_path)
    pairs = [(tasks.load(*one), "cifar10") for one in (KNN, LOGREG)]
    layers = range(1, encoder.depth + 1)
    data: Any = pairs[0][0].load_data("cifar10", ctx)
    count = len(data.train) + len(data.test)
    encoder.at_points(POINTS)  # its proof is a pass of one image, which the command pays, too
    monkeypatch.setattr(Block, "forward", counted_forward)
    code = run_all(
        encoder, pairs, layers, ctx=ctx, out=tmp_path / "all", overwrite="missing", points=POINTS
    )
    assert code == 0
    assert set(decoded.values()) == {1}
    assert len(decoded) == count
    assert passed[0] == encoder.depth * (count + 1)

    alone = context(tmp_path / "alone")
    assert (
        run_all(encoder, pairs, layers, ctx=alone, out=tmp_path / "blocks", overwrite="missing")
        == 0
    )
    plain = {one["key"]: stable_view(one) for _, one in ResultStore(tmp_path / "blocks")}
    every = {one["key"]: stable_view(one) for _, one in ResultStore(tmp_path / "all")}
    assert len(every) == 3 * len(plain) == 6
    assert {key: every[key] for key in plain} == plain
    for record in every.values():
        assert record["model"]["name"] == " ".join(
            ["model", *([record["model"]["point"]] if record["key"] not in plain else [])]
        )


def test_a_bank_holds_the_features_of_its_point(tmp_path: Path) -> None:
    encoder, ctx = api.as_encoder(build()).eval(), context(tmp_path)
    data: Any = tasks.load("knn").load_data("cifar10", ctx)
    steps = preprocess("A", encoder.input_size)
    views = encoder.at_points(["mlp", "attention"])
    banks = [extract(one, data.test, (1, 3), preprocess=steps, ctx=ctx) for one in views]
    assert [one.cached for one in banks] == [False, True]
    pixels = torch.stack([steps(data.test.load(i)) for i in range(8)])
    with torch.inference_mode():
        for view, bank in zip(views, banks, strict=True):
            expected = view.forward_layers(move(pixels, view), [1, 3], cls)
            for layer in (1, 3):
                np.testing.assert_allclose(bank.features(layer)[:8], expected[layer], atol=1e-5)
    block = extract(encoder, data.test, (1, 3), preprocess=steps, ctx=ctx)
    assert not block.cached
    assert not np.allclose(block.features(3), banks[0].features(3))
    assert len(list((ctx.cache_dir / "features").glob("[!.]*"))) == 1


def test_a_training_that_was_interrupted_at_another_point_is_not_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdssl_bench.probes.linear import state

    facts: list[dict[str, Any]] = []
    made = state.TrainingState.__init__

    def seen(self: Any, cache: Path, name: str, known: dict[str, Any]) -> None:
        facts.append(known)
        made(self, cache, name, known)

    monkeypatch.setattr(state.TrainingState, "__init__", seen)
    found = api.evaluate(
        build(), "linear", "cifar10", layers=[3], points=["block", "mlp"], protocol="mocov3",
        parameters={"epochs": "1", "batch": "32"}, data_root=shared_mini(),
        cache_dir=tmp_path / "cache", device="cpu", num_workers=0, limit=24,
    )  # fmt: skip
    assert [one["model"].get("point") for one in found] == [None, "mlp"]
    assert "point" not in facts[0]
    assert facts[1] == {**facts[0], "point": "mlp"}
    losses = [one["layers"]["3"]["notes"]["curve"]["train_loss"] for one in found]
    assert losses[0] != losses[1]


def test_what_is_kept_of_a_segmentation_is_of_its_point(tmp_path: Path) -> None:
    def scored(points: list[str], cache: str) -> list[Any]:
        found = api.evaluate(
            build(), "segmentation", "voc2012", layers=[3], points=points, data_root=shared_mini(),
            parameters={"image_size": "32", "mask_size": "32"}, cache_dir=tmp_path / cache,
            device="cpu", num_workers=0, limit=6,
        )  # fmt: skip
        return [one["layers"] for one in map(stable_view, found)]

    both = scored(["block", "mlp"], "both")
    assert both == scored(["block"], "one") + scored(["mlp"], "other")
    assert both[0] != both[1]


def test_a_stopped_segmentation_goes_on_at_its_own_point_only(tmp_path: Path) -> None:
    from sdssl_bench.dense.scoring import DenseScorer

    keys: list[str] = []
    key = DenseScorer._key

    def seen(self: Any, identity: Any) -> str:
        keys.append(key(self, identity))
        return keys[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DenseScorer, "_key", seen)
        api.evaluate(
            build(), "segmentation", "voc2012", layers=[3], points=["block", "mlp"],
            data_root=shared_mini(), parameters={"image_size": "32", "mask_size": "32"},
            cache_dir=tmp_path / "cache", device="cpu", num_workers=0, limit=6,
        )  # fmt: skip
    assert len(set(keys)) == len(keys) == 2


def test_the_command_shows_and_stores_three_curves(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    start = ["run", "-t", "knn", "-d", "cifar10", "--ckpt", CKPT, "-j", "0", "--all-layers"]
    shown = cli(*start, "--points", "block,attention,mlp").output
    found = records(tmp_path / "results")
    assert set(found) == set(POINTS)
    for record in found.values():
        jsonschema.validate(record, SCHEMA)
    assert "point" not in found["block"]["model"]
    (header,) = (line for line in shown.splitlines() if line.startswith("layer"))
    assert [word for word in header.split() if word in POINTS] == list(POINTS)
    for layer in "123":
        (row,) = (line for line in shown.splitlines() if line.split()[:1] == [layer])
        for record in found.values():
            assert f"{100 * record['layers'][layer]['metrics']['k20/top1']:.1f}" in row.split()
    assert sum("▁" in line and line.startswith("knn cifar10") for line in shown.splitlines()) == 3
    assert shown.count("record: ") == 3

    # One encoder at three points: three rows of one column, never one cell.
    name = found["block"]["model"]["name"]
    names = [name, f"{name} attention", f"{name} mlp"]
    board = cli("leaderboard", "--csv", str(tmp_path / "l.csv")).output
    assert [line.split("  ")[0] for line in board.splitlines() if line.startswith(name)] == names
    frame = pd.read_csv(tmp_path / "l.csv")
    assert frame.groupby("model")["point"].unique().map(list).to_dict() == {
        n: [p] for n, p in zip(names, POINTS, strict=True)
    }
    assert frame["protocol_digest"].nunique() == 1
    compared = cli("compare", name, f"{name} attention").output
    assert f"B = {name} attention" in compared
    cli("report", "--out", str(tmp_path / "page"), "--figures", str(tmp_path / "figures"))
    page = (tmp_path / "page" / "index.html").read_text()
    figure = (tmp_path / "figures" / "layers-knn.svg").read_text()
    assert all(n in page and n in figure for n in names)

    (point,) = (
        one for one in differences(found["block"], found["mlp"]) if one.path == "model.point"
    )
    assert (point.a, point.b, point.harmless) == ("block", "mlp", False)
    assert [pair.label for pair in model_pairs(list(ResultStore(tmp_path / "results")))] == [name]
    again = cli(*start, "--points", "mlp", "--dry-run").output
    assert "mlp of each block):\n  0 layers to score, 3 stored" in again
    path = next(p for p, one in ResultStore(tmp_path / "results") if "point" in one["model"])
    refused = cli("multi-exit", str(path), "--ckpt", CKPT, code=2)
    assert "An encoder stops after a block" in refused.output
    cli("multi-exit", str(path))


def test_what_cannot_be_is_refused_before_anything_runs(cli: Callable[..., Result]) -> None:
    start = ["run", "-d", "cifar10", "--ckpt", CKPT, "-j", "0"]
    wrong = cli(*start, "-t", "knn", "--points", "block,heads", code=2)
    assert "Known: attention, block, mlp" in wrong.output
    cut = cli(*start, "-t", "finetune", "--points", "mlp", code=2)
    assert "--points has no effect on task finetune" in cut.output
    pairs = [(tasks.load(name), "cifar10") for name in ("knn", "finetune")]
    kept, left = with_points(pairs, ["mlp"], every=True)
    assert kept == pairs[:1]
    assert left == ["finetune (cuts the encoder after a block)"]
    resnet = cli("run", "-t", "knn", "-d", "cifar10", "--ckpt", "timm:resnet10t?pretrained=false",
                 "--points", "mlp", code=2)  # fmt: skip
    assert "ResNet are no such blocks" in resnet.output
    panels = cli(*start, "-t", "analysis", "--points", "block,mlp", "--panels", "x", code=2)
    assert "asked for: analysis on cifar10, analysis on cifar10" in panels.output


def test_two_encoders_are_compared_at_the_same_point(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    cli("run", "-t", "cka", "-d", "cifar10", "--ckpt", CKPT, "--against", CKPT, "-j", "0",
        "--layers", "1-3", "--points", "block,mlp", "--set", "num_images=24")  # fmt: skip
    for point, record in records(tmp_path / "results").items():
        assert record["protocol"]["resolved"]["against"].get("point", "block") == point
        for layer in (1, 2, 3):
            metrics = record["layers"][str(layer)]["metrics"]
            assert metrics[f"cka/layer{layer:02d}"] == pytest.approx(1)
