"""`sdssl-bench run` end to end on miniature data: what is stored is right, resumable and explained."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

import sdssl_bench
from mini_data import shared_mini
from sdssl_bench.cli.main import app
from sdssl_bench.errors import UsageError
from sdssl_bench.records.identity import content_digest, stable_view
from sdssl_bench.records.reading import read_items
from sdssl_bench.records.store import ResultStore
from sdssl_bench.rounding import percent
from tiny_model import build

SCHEMA = json.loads(
    (Path(sdssl_bench.__file__).parent / "records" / "record.schema.json").read_text()
)
CKPT = f"custom:{Path(__file__).parents[1] / 'tiny_model.py'}:build"


@pytest.fixture(scope="module")
def data() -> Path:
    return shared_mini()


@pytest.fixture
def cli(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Result]]:
    """Calls the command line with this test's own results and cache."""
    monkeypatch.setenv("SDSSL_BENCH_DATA", str(data))
    monkeypatch.setenv("SDSSL_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SDSSL_BENCH_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, arguments)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return call


def run(*extra: str) -> list[str]:
    return ["run", "--task", "knn", "--dataset", "cifar10", "--ckpt", CKPT, "-j", "0", *extra]


def only_record(folder: Path) -> tuple[Path, dict[str, Any]]:
    ((path, record),) = ResultStore(folder)
    return path, record


def test_all_layers_are_scored_stored_and_shown(cli: Callable[..., Result], tmp_path: Path) -> None:
    result = cli(*run("--all-layers"))
    path, record = only_record(tmp_path / "results")
    jsonschema.validate(record, SCHEMA)
    assert list(record["layers"]) == ["1", "2", "3"]
    assert record["dataset"]["variant"] == "mini"
    assert record["protocol"]["parameters"]["temperature"] == 0.07
    assert str(path) in result.output
    for layer in (1, 2, 3):
        entry, items = record["layers"][str(layer)], read_items(path, layer)
        correct = items["k20/correct"]
        assert entry["metrics"]["k20/top1"] == pytest.approx(correct.mean(), abs=0)
        classes = [correct[items["target"] == c].mean() for c in np.unique(items["target"])]
        assert entry["metrics"]["k20/mean_per_class"] == pytest.approx(np.mean(classes))
        assert entry["n"] == len(correct) == record["dataset"]["splits"]["test"]
        assert percent(entry["metrics"]["k20/top1"]) in result.output


def test_a_second_run_computes_nothing(
    cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli(*run("--all-layers"))
    before = only_record(tmp_path / "results")[0].read_bytes()

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("features were extracted again")

    monkeypatch.setattr("sdssl_bench.features.extract", forbidden)
    result = cli(*run("--all-layers"))
    assert result.output.count("(stored)") == 3
    assert only_record(tmp_path / "results")[0].read_bytes() == before


def test_layers_one_by_one_equal_all_at_once(cli: Callable[..., Result], tmp_path: Path) -> None:
    cli(*run("--all-layers", "--out", str(tmp_path / "whole"), "--cache-dir", str(tmp_path / "c2")))
    cli(*run("--layers", "2"))
    cli(*run())
    cli(*run("--layers", "1-3"))
    whole, parts = only_record(tmp_path / "whole")[1], only_record(tmp_path / "results")[1]
    assert stable_view(whole) == stable_view(parts)


def test_batches_workers_and_backend_do_not_move_a_score(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    cli(*run("--all-layers", "-b", "7"))
    other = ("--out", str(tmp_path / "other"), "--cache-dir", str(tmp_path / "c2"))
    cli(*run("--all-layers", *other, "-b", "64", "-j", "1", "--backend", "torch"))
    one, two = only_record(tmp_path / "results")[1], only_record(tmp_path / "other")[1]
    for layer in "123":
        assert one["layers"][layer]["metrics"] == two["layers"][layer]["metrics"]


def test_overwrite_always_scores_again_and_never_touches(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    cli(*run("--layers", "1"))
    path, record = only_record(tmp_path / "results")
    wrong = json.loads(path.read_text())

    def edit(**metrics: float) -> None:
        wrong["layers"]["1"]["metrics"] |= metrics
        path.write_text(json.dumps(wrong | {"digest": content_digest(wrong)}))

    edit(**{"k20/top5": 1.0})
    cli(*run("--all-layers", "--overwrite", "never"))
    assert stable_view(json.loads(path.read_text()) | {"digest": ""}) == stable_view(
        wrong | {"digest": ""}
    )
    edit(**{"k20/top1": 0.123})  # not what its per-item scores give
    cli(*run("--all-layers", "--overwrite", "never"), code=3)
    cli(*run("--layers", "1", "--overwrite", "always"))
    assert stable_view(only_record(tmp_path / "results")[1]) == stable_view(record)


def test_a_stored_result_that_was_changed_does_not_stop_the_others(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    cli(*run("--layers", "3"))
    path, record = only_record(tmp_path / "results")
    record["layers"]["3"]["metrics"]["k20/top1"] = 0.123
    path.write_text(json.dumps(record | {"digest": content_digest(record)}))
    both = ["run", "-t", "knn", "-d", "cifar10,pets", "-c", CKPT, "-j", "0", "--layers", "3"]
    result = cli(*both, code=3)
    assert "the stored k20/top1 is 0.123" in result.output
    assert "1 of 2 failed" in result.output
    found = {one["dataset"]["name"]: one["layers"] for _, one in ResultStore(tmp_path / "results")}
    assert list(found["pets"]) == ["3"]


def test_limited_runs_say_so_and_stay_out_of_the_leaderboard(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    result = cli(*run("--limit", "40"))
    assert "limited to 40 items" in result.output
    _, record = only_record(tmp_path / "results")
    assert record["limited"] == 40
    assert record["layers"]["3"]["n"] == 40
    assert "1 are trials: --include-limited shows them" in cli("leaderboard", code=3).stderr
    board = tmp_path / "board"
    shown = cli(
        "leaderboard", "--include-limited", "--csv", f"{board}.csv", "--markdown", f"{board}.md"
    )
    assert "Trials under --limit, no results" in shown.output
    assert set(pd.read_csv(f"{board}.csv")["limited"]) == {40}
    text = (tmp_path / "board.md").read_text()
    assert "| tiny_model:build looks untrained (limit 40) |" in text
    assert "Nothing was measured." in text.partition("## Trials")[0]
    cli("report", "--out", str(tmp_path / "page"), code=3)
    cli("report", "--out", str(tmp_path / "page"), "--include-limited")


def test_a_mistake_gets_one_message_and_its_exit_code(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    for given, code, says in (
        ("-t kn", 2, "Did you mean 'knn'"), ("-d cifar1O", 2, "Did you mean 'cifar10'"),
        ("--layers 4", 2, "1..3"), ("--layers 2-", 2, "1,6-12"), ("--layers 1 --all-layers", 2, "exclude"),
        ("--protocol dyno", 2, "'dino'"), ("--set kk=3", 2, "Did you mean 'k'"), ("--set k=5", 2, "headline"),
        ("--set k=ten", 2, "--set k"), ("--set temperature=0", 2, "positive"), ("-b 0", 2, "--batch-size"),
        ("--device cuda:99", 2, "CUDA devices"), ("--device gpu", 2, "--device"), ("--norm x", 2, "shared"),
        ("--dtype int8", 2, "--dtype"), ("--overwrite yes", 2, "--overwrite"),
        ("-c missing.pth", 3, "missing.pth"), ("-d folder:missing", 3, "missing"),
        ("-d cub --data-root /", 3, "CUB"),
    ):  # fmt: skip
        name, value, *more = given.split()
        options = {"-t": "knn", "-d": "cifar10", "-c": CKPT, name: value}
        result = cli("run", *(word for pair in options.items() for word in pair), *more, code=code)
        assert says in result.output
        assert "Traceback" not in result.output
    assert list(ResultStore(tmp_path / "results")) == []


def test_a_dry_run_shows_the_plan_and_computes_nothing(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    result = cli(*run("--all-layers", "--dry-run"))
    assert "3 layers to score, 0 stored" in result.output
    assert not (tmp_path / "results").exists()
    cli(*run("--layers", "2"))
    assert "2 layers to score, 1 stored" in cli(*run("--all-layers", "--dry-run")).output


def test_options_may_be_written_with_underscores(cli: Callable[..., Result], data: Path) -> None:
    cli(*run("--data_root", str(data), "--dry_run"))


def test_the_api_returns_the_record_that_the_command_stores(
    cli: Callable[..., Result], data: Path, tmp_path: Path
) -> None:
    cli(*run("--all-layers"))
    stored = only_record(tmp_path / "results")[1]
    record = sdssl_bench.evaluate(
        sdssl_bench.load_encoder(CKPT), "knn", "cifar10", cache_dir=tmp_path / "c2"
    )
    assert stable_view(record) == stable_view(stored)


def test_a_module_in_a_training_loop_is_scored_as_it_is_now(data: Path, tmp_path: Path) -> None:
    model = build().train()
    settings = {"layers": [3], "data_root": data, "cache_dir": tmp_path / "cache", "num_workers": 0}
    before = sdssl_bench.evaluate(model, "knn", "cifar10", **settings)
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    after = sdssl_bench.evaluate(model, "knn", "cifar10", **settings)
    assert before["model"]["weights_sha256"] != after["model"]["weights_sha256"]
    assert before["layers"]["3"]["metrics"] != after["layers"]["3"]["metrics"]


def test_an_encoder_changed_after_loading_is_not_served_stale_features(
    data: Path, tmp_path: Path
) -> None:
    encoder = sdssl_bench.load_encoder(CKPT)
    settings = {"layers": [3], "data_root": data, "cache_dir": tmp_path / "cache", "num_workers": 0}
    before = sdssl_bench.evaluate(encoder, "knn", "cifar10", **settings)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(1.5)
    after = sdssl_bench.evaluate(encoder, "knn", "cifar10", **settings)
    assert before["layers"]["3"]["metrics"] != after["layers"]["3"]["metrics"]


def test_the_api_names_an_unknown_setting() -> None:
    with pytest.raises(UsageError, match="Did you mean 'batch_size'"):
        sdssl_bench.evaluate(build(), "knn", "cifar10", batchsize=3)


def test_16_bit_images_need_their_range_and_run_with_it(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    for split in ("train", "test"):
        for name, level in (("dark", 5_000), ("light", 50_000)):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                values = np.full((32, 32), level + 1_000 * i, np.uint16)
                Image.fromarray(values).save(folder / f"{i}.png")
    arguments = [
        "run", "-t", "knn", "-d", f"folder:{tmp_path / 'set'}", "-c", "control:pixels",
        "--set", "k=3", "--set", "headline_k=3", "-j", "0",
    ]  # fmt: skip
    refused = cli(*arguments, code=1)
    assert "such as --image-range 0,65535" in " ".join(refused.output.split())
    video = cli("run", "-t", "davis", "-c", CKPT, "--image-range", "0,65535", code=2)
    assert "no effect on the frames of davis" in " ".join(video.output.split())
    cli(*arguments, "--image-range", "5,1", code=2)
    cli(*arguments, "--image-range", "0,65535")
    _, record = only_record(tmp_path / "results")
    jsonschema.validate(record, SCHEMA)
    assert record["settings"]["image_range"] == [0, 65535]
    assert record["layers"]["1"]["metrics"]["k3/top1"] == 1.0
    cli(*arguments, "--image-range", "60000,65535")
    records = [one for _, one in ResultStore(tmp_path / "results")]
    assert len(records) == 2, "another range is another measurement"
    scores = {
        one["settings"]["image_range"][0]: one["layers"]["1"]["metrics"]["k3/top1"]
        for one in records
    }
    assert scores == {0: 1.0, 60_000: 0.5}, (
        "all black: no stored feature of the other range is taken"
    )
