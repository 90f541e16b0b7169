"""`run --task analysis` and `--task cka` end to end: records, resume, two encoders, what is refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner, Result

import sdssl_bench
from fakes import FakeEncoder, Pixels, expected_cls, plain_images
from mini_data import shared_mini
from sdssl_bench import tasks
from sdssl_bench.analysis import cka, layer_scores, samples
from sdssl_bench.cli.main import app
from sdssl_bench.datasets.base import ClassificationData
from sdssl_bench.encoders.encoder import LayerFeatures, everything
from sdssl_bench.errors import UsageError
from sdssl_bench.features.extraction import extract
from sdssl_bench.records.identity import stable_view
from sdssl_bench.records.reading import read_items
from sdssl_bench.records.store import ResultStore
from sdssl_bench.reports.leaderboard import tidy, wide
from sdssl_bench.task import RunContext
from tiny_model import build
from twins import literal_cka, literal_pairs
from waves import unit_rows

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "sdssl_bench" / "records" / "record.schema.json").read_text())
TINY = f"custom:{Path(__file__).parents[1] / 'tiny_model.py'}:build"
FAST = ("--set", "iterations=250", "--set", "tsne_images=40")
OTHER = """
import torch
from timm.models.vision_transformer import VisionTransformer

def build():
    torch.manual_seed(7)
    return VisionTransformer(
        img_size=32, patch_size=16, embed_dim=24, depth=2, num_heads=2, num_classes=0
    ).eval()
"""


@pytest.fixture(scope="module")
def data() -> Path:
    return shared_mini()


@pytest.fixture
def other(tmp_path: Path) -> str:
    file = tmp_path / "other_model.py"
    file.write_text(OTHER)
    return f"custom:{file}:build"


@pytest.fixture
def cli(data: Path, tmp_path: Path) -> Callable[..., Result]:
    """Calls `run` on miniature CIFAR-10 with this test's own cache."""

    def call(*options: str, task: str = "analysis", out: str = "results", code: int = 0) -> Result:
        arguments = [
            "run", "--task", task, "--dataset", "cifar10", "--ckpt", TINY, "-j", "0", "-q",
            "--data-root", str(data), "--out", str(tmp_path / out),
            "--cache-dir", str(tmp_path / "cache"),
        ]  # fmt: skip
        extra = FAST if task == "analysis" and code != 2 else ()  # 2: what is typed is wrong
        # The last of equal options counts, so a test may name another checkpoint.
        result = CliRunner().invoke(app, [*arguments, *extra, *options])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return call


def only_record(folder: Path) -> tuple[Path, dict[str, Any]]:
    ((path, record),) = ResultStore(folder)
    return path, record


def matrix(record: dict[str, Any]) -> np.ndarray:
    rows = [entry["metrics"] for entry in record["layers"].values()]
    names = sorted(name for name in rows[0] if name.startswith("cka/"))
    return np.array([[row[name] for name in names] for row in rows])


def assert_same(folder: Path, other: Path) -> None:
    (path, record), (path2, record2) = only_record(folder), only_record(other)
    assert stable_view(record) == stable_view(record2)
    for layer in map(int, record["layers"]):
        items, items2 = read_items(path, layer), read_items(path2, layer)
        assert items.keys() == items2.keys()
        for name, values in items.items():
            np.testing.assert_array_equal(values, items2[name], err_msg=name)


def cached_features(cache: Path) -> dict[str, list[np.ndarray]]:
    """Split -> features of layers 1..L as they lie in the cache."""
    found = {}
    for manifest in (cache / "features").glob("*/manifest.json"):
        entry = json.loads(manifest.read_text())
        names = sorted(entry["banks"])
        found[entry["split"]] = [
            np.load(manifest.parent / entry["banks"][name]).astype(float) for name in names
        ]
    return found


def test_records_hold_what_the_definitions_give_on_the_cached_features(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    result = cli("--all-layers", "--set", "cka_batch=30")
    path, record = only_record(tmp_path / "results")
    jsonschema.validate(record, SCHEMA)
    assert record["ranked"] is False
    features = cached_features(tmp_path / "cache")
    assert set(features) == {"test", "test view 1", "test view 2"}
    batches = cka.random_batches(len(features["test"][0]), 30, seed=0)
    for i, entry in enumerate(record["layers"].values()):
        metrics, items = entry["metrics"], read_items(path, i + 1)
        for j in range(3):
            expected = literal_cka(features["test"][i], features["test"][j], batches)
            assert metrics[f"cka/layer{j + 1:02d}"] == pytest.approx(expected, rel=1e-8)
        views = [unit_rows(features[f"test view {v}"][i]) for v in (1, 2)]
        for name, value in literal_pairs(*views, 2, 2).items():
            assert metrics[name] == pytest.approx(value, rel=1e-8)
        assert metrics["alignment"] == pytest.approx(items["alignment"].mean(), rel=1e-6)
        assert set(entry["items"]) == set(items)
        assert (
            len(items["tsne/points"])
            == len(items["tsne/index"])
            == record["dataset"]["splits"]["maps"]
        )
        assert set(entry["notes"]["standard_errors"]) >= {"alignment", "R", "cka/layer01"}
        assert "undefined" not in entry["notes"]
        assert f"{metrics['uniformity']:.4g}" in result.output
    np.testing.assert_array_equal(matrix(record), matrix(record).T)
    np.testing.assert_array_equal(np.diag(matrix(record)), 1.0)


def test_layers_one_by_one_equal_all_at_once(cli: Callable[..., Result], tmp_path: Path) -> None:
    cli("--layers", "2", out="parts")
    cli(out="parts")
    cli("--all-layers", out="parts")
    cli("--all-layers", "--cache-dir", str(tmp_path / "cache2"), out="whole")
    assert_same(tmp_path / "parts", tmp_path / "whole")


def test_a_second_run_computes_nothing_and_panels_compute_again(
    cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("--all-layers")
    before = only_record(tmp_path / "results")[1]
    folder = tmp_path / "panels"
    cli("--all-layers", "--panels", str(folder))
    assert stable_view(only_record(tmp_path / "results")[1]) == stable_view(before)
    with Image.open(folder / "tsne.png") as picture:
        assert picture.width > 3 * 300
    monkeypatch.setattr("sdssl_bench.features.extract", None)
    assert cli("--all-layers").output.count("(stored)") == 3


def test_seed_norm_and_sample_make_records_of_their_own(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    for extra in ((), ("--seed", "1"), ("--norm", "none"), ("--set", "num_images=50"),
                  ("--protocol", "raw"), ("--set", "cka=biased")):  # fmt: skip
        cli("--layers", "2", *extra)
    found = [record for _, record in ResultStore(tmp_path / "results")]
    assert len({record["key"] for record in found}) == 6
    fifty = [r for r in found if r["protocol"]["parameters"]["num_images"] == 50]
    assert fifty[0]["layers"]["2"]["n"] == 50
    values = [r["layers"]["2"]["metrics"] for r in found]
    cka = {round(v["cka/layer01"], 12) for v in values}
    assert len(cka) == 4, "all differ in CKA but raw, and the seed where one batch holds all"
    assert len({v["alignment"] for v in values}) == 5, "all but the estimator differ in pairs"


def test_cka_of_an_encoder_with_itself_is_that_of_its_analysis(
    cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("--all-layers")
    within = only_record(tmp_path / "results")[1]
    monkeypatch.setattr("sdssl_bench.features.extraction.run_pass", None)  # all is cached
    result = cli("--all-layers", "--against", TINY, task="cka", out="pair")
    path, record = only_record(tmp_path / "pair")
    jsonschema.validate(record, SCHEMA)
    assert record["ranked"] is False
    np.testing.assert_allclose(matrix(record), matrix(within), rtol=1e-12)
    assert [entry["notes"]["most_similar_layer"] for entry in record["layers"].values()] == [
        1,
        2,
        3,
    ]
    assert (
        record["protocol"]["resolved"]["against"]["weights_sha256"]
        == record["model"]["weights_sha256"]
    )
    assert "100.0" in result.output
    assert not path.with_suffix(".items.npz").exists()


@pytest.mark.slow
def test_two_encoders_of_different_depth_and_width_compare_both_ways(
    cli: Callable[..., Result], other: str, tmp_path: Path
) -> None:
    cli("--all-layers", "--against", other, task="cka", out="one")
    cli("--all-layers", "--against", TINY, "--ckpt", other, task="cka", out="two")
    one, two = (only_record(tmp_path / name)[1] for name in ("one", "two"))
    assert matrix(one).shape == (3, 2)
    np.testing.assert_allclose(matrix(one), matrix(two).T, rtol=1e-12)
    batches = cka.random_batches(100, 256, seed=0)
    banks = {len(f): f for f in cached_features_by_encoder(tmp_path / "cache")}
    expected = [[literal_cka(x, y, batches) for y in banks[2]] for x in banks[3]]
    np.testing.assert_allclose(matrix(one), expected, rtol=1e-8)
    assert one["layers"]["1"]["metrics"]["most_similar"] == matrix(one)[0].max()
    # One layer alone, and a copy of the other file under another name: the same row, the same key.
    copy = tmp_path / "renamed.py"
    copy.write_text(OTHER)
    cli("--layers", "2", "--against", f"custom:{copy}:build", task="cka", out="three")
    three = only_record(tmp_path / "three")[1]
    assert three["layers"]["2"]["metrics"] == one["layers"]["2"]["metrics"]


def cached_features_by_encoder(cache: Path) -> list[list[np.ndarray]]:
    return [
        cached_features_of(manifest) for manifest in (cache / "features").glob("*/manifest.json")
    ]


def cached_features_of(manifest: Path) -> list[np.ndarray]:
    banks = json.loads(manifest.read_text())["banks"]
    return [np.load(manifest.parent / banks[name]).astype(float) for name in sorted(banks)]


@pytest.mark.parametrize(
    ("options", "task", "message"),
    [
        ((), "cka", "needs --against"),
        (("--against", TINY), "knn", "--against has no effect on task knn"),
        (("--against-set", "heads=3"), "cka", "needs --against"),
        (("--against", TINY, "--against-set", "head=3"), "cka", "Did you mean 'heads'"),
        (("--against", TINY, "--against-set", "heads=many"), "cka", "takes int"),
        (("--panels", "x"), "knn", "--panels has no effect on task knn"),
        (("--set", "views=mocov2"), "analysis", "Did you mean 'mocov3'"),
        (("--set", "cka_batch=7"), "analysis", "at least 8"),
        (("--set", "cka=unbiassed"), "analysis", "Did you mean 'unbiased'"),
        (("--set", "tsne_images=19"), "analysis", "at least twice"),
        (("--set", "gamma=0"), "analysis", "positive"),
        (("--set", "num_images=7"), "analysis", "at least 8"),
        (("--set", "iterations=100"), "analysis", "iterations from 250"),
        (("--against", TINY, "--set", "pooling=max"), "cka", "pooling"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    cli: Callable[..., Result], options: tuple[str, ...], task: str, message: str
) -> None:
    assert message in " ".join(cli(*options, task=task, code=2).output.split())


@pytest.mark.parametrize(
    ("name", "least"), [("components", 1), ("neighbours", 1), ("iterations", 250)]
)
def test_the_least_of_a_map_is_taken_and_nothing_below(name: str, least: int) -> None:
    tasks.load("analysis", None, {name: str(least)})
    with pytest.raises(UsageError, match="components and neighbours are from 1"):
        tasks.load("analysis", None, {name: str(least - 1)})


def test_descriptions_are_in_the_tidy_csv_and_in_no_view(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    cli("--all-layers")
    cli("--all-layers", task="knn")
    cli("--all-layers", "--against", TINY, task="cka")
    frame = tidy(ResultStore(tmp_path / "results"))
    assert set(frame["task"]) == {"analysis", "knn", "cka"}
    assert set(frame[frame["headline"]]["task"]) == {"knn"}
    assert frame[frame["metric"] == "uniformity"]["value"].lt(0).all()
    for view in ("layers", "best", "last"):
        assert list(wide(frame, view).columns) == ["knn cifar10 (mini)"]
    assert wide(frame, "val").empty  # k-NN holds no images out of train


def test_unreadable_images_are_left_out_of_every_part_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    rng = np.random.default_rng(0)
    for split, count in (("train", 1), ("val", 12)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i:02d}.png")
    broken = folder / "val" / "cat" / "03.png"
    broken.write_bytes(broken.read_bytes()[:60])
    arguments = [
        "run", "-t", "analysis", "-c", TINY, "-j", "0", "-q", "--out", str(tmp_path / "skip"),
        "--cache-dir", str(tmp_path / "cache"), *FAST, "--all-layers", "-d", f"folder:{folder}",
    ]  # fmt: skip
    failed = CliRunner().invoke(app, arguments)
    assert failed.exit_code == 1
    assert "03.png" in failed.output
    done = CliRunner().invoke(app, [*arguments, "--on-bad-image", "skip"])
    assert done.exit_code == 0, done.output
    path, record = only_record(tmp_path / "skip")
    for layer, entry in record["layers"].items():
        items = read_items(path, int(layer))
        assert entry["n"] == 23 == len(items["index"])
        assert 3 not in items["index"]
        assert len(items["tsne/points"]) == 23
        assert entry["notes"]["skipped_images"]["sample"]["count"] == 1
        assert entry["notes"]["tsne"]["perplexity"] == pytest.approx(22 / 3)
    assert set(tidy(ResultStore(tmp_path / "skip"))["skipped_images"]) == {1}


class FirstLayerConstant(FakeEncoder):
    """Layer 1 is the same for every image, the others are multiples of one another."""

    def forward_layers(
        self,
        images: Tensor,
        layers: Sequence[int],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[int, Any]:
        found = super().forward_layers(images, layers)
        for layer, features in found.items():
            if layer == 1:
                same = torch.full_like(features.raw_cls, 0.3)
                found[layer] = LayerFeatures(same, features.raw_patches, features.norm)
        return {layer: reduce(features) for layer, features in found.items()}


def test_an_encoder_with_known_answers_gets_them(data: Path, tmp_path: Path) -> None:
    record = sdssl_bench.evaluate(
        FirstLayerConstant(), "analysis", "cifar10", data_root=data, cache_dir=tmp_path,
        num_workers=0, parameters={"iterations": "250"},
    )  # fmt: skip
    jsonschema.validate(record, SCHEMA)
    constant, second, third = (record["layers"][layer] for layer in "123")
    assert second["metrics"]["cka/layer03"] == pytest.approx(1, abs=1e-6)
    for name in ("alignment", "uniformity", "negative_alignment", "R", "effective_rank"):
        assert second["metrics"][name] == pytest.approx(third["metrics"][name], rel=1e-4)
    assert constant["metrics"]["alignment"] == pytest.approx(0, abs=1e-12)
    assert constant["metrics"]["uniformity"] == pytest.approx(0, abs=1e-9)
    assert constant["metrics"]["rankme"] == pytest.approx(1, rel=1e-4)
    missing = constant["notes"]["undefined"]
    assert {"effective_rank", "silhouette", "cka/layer01", "cka/layer03"} <= set(missing)
    assert not set(missing) & set(constant["metrics"])
    assert set(second["notes"]["undefined"]) == {"cka/layer01"}


def test_plain_modules_compare_in_python(data: Path, tmp_path: Path) -> None:
    settings = {"data_root": data, "cache_dir": tmp_path, "num_workers": 0}
    record = sdssl_bench.evaluate(build(), "cka", "cifar10", against=build(seed=1), **settings)
    same = sdssl_bench.evaluate(build(), "cka", "cifar10", against=build(), **settings)
    assert record["key"] != same["key"]
    np.testing.assert_allclose(np.diag(matrix(same)), 1, rtol=1e-12)
    assert matrix(record).max() < 1


def test_maps_show_the_features_of_their_own_images(tmp_path: Path) -> None:
    test = plain_images(70, split="test")
    source = ClassificationData("colours", "folder", "top1", plain_images(5), test)
    sample = samples.draw(source, num_images=20, seed=0, map_classes=3, map_images=24)
    ctx = RunContext(data_root=None, cache_dir=tmp_path, device="cpu", num_workers=0)
    encoder = FakeEncoder()
    plain, further = (
        extract(encoder, test, [2], preprocess=Pixels(), ctx=ctx, rows=rows)
        for rows in (sample.rows, sample.further)
    )
    view = extract(encoder, sample.images, [2], preprocess=Pixels(), ctx=ctx)
    banks = layer_scores.Banks(sample, plain, further, (view, view), "cls")
    rows, features = banks.mapped(2)
    np.testing.assert_array_equal(rows, sample.mapped)
    np.testing.assert_allclose(features, expected_cls(test, 2)[rows], rtol=1e-6)


@pytest.mark.parametrize("name", ["analysis", "cka"])
def test_the_fewest_images_that_mean_something_are_enough(name: str) -> None:
    assert tasks.load(name, None, {"num_images": "8"})
    with pytest.raises(UsageError, match="at least 8"):
        tasks.load(name, None, {"num_images": "7"})
