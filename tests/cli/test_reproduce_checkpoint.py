"""`reproduce --checkpoint` end to end, on files in the layouts of the releases and miniature sets."""

import json
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from typer.testing import CliRunner

import fake_checkpoints as fake
from sdssl_bench.checkpoints import released_weights
from sdssl_bench.cli.main import app
from sdssl_bench.datasets.mini.make import make_mini
from sdssl_bench.paper import releases
from sdssl_bench.paper.released_numbers import numbers_of
from sdssl_bench.paper.releases import RELEASES, Release, release
from sdssl_bench.records.store import ResultStore
from stored_results import RETRIEVAL, retrieval_layer, scored, store

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reproduce.md"
KNN = ("--task", "knn", "--limit", 24)


def dinov2(path: Path) -> Path:
    torch.save(fake.dinov2_state(fake.vit(init_values=1.0, patch=14, img=28)), path)
    return path


def dinov3(path: Path) -> Path:
    model = timm.create_model("vit_small_patch16_dinov3", depth=2, embed_dim=64, num_heads=1)
    torch.save(fake.randomise(model, 0).state_dict(), path)
    return path


def wide(seed: int) -> Any:
    """As wide as a ViT-S, since that tells MoCo v3's 12 heads."""
    return fake.vit(seed, pos="row", dim=384, heads=12, patch=16)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "DINO": lambda path: fake.plain(path, fake.vit()),
    "MoCo v3": lambda path: fake.mocov3(path, wide(0), wide(1)),
    "iBOT": lambda path: fake.ibot_backbone(path, fake.vit()),
    "MAE": lambda path: fake.mae(path, fake.vit(pos="column")),
    "DINOv2": dinov2,
    "DINOv3": dinov3,
}  # fmt: skip
"""A tiny encoder in the names and containers of each method's release."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_mini(root, names=["imagenet"])
    return root


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of any size; what is written lies in the test's folder."""
    monkeypatch.setattr(Release, "fits", lambda self, arch: True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDSSL_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("SDSSL_BENCH_DATA", "SDSSL_BENCH_RESULTS"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def of(name: str, *arguments: object) -> Any:
    return run("--checkpoint", name, *arguments)


@pytest.mark.parametrize("method", WRITERS)
def test_each_layout_becomes_a_table_and_a_row_per_layer(
    method: str, data: Path, tmp_path: Path
) -> None:
    one = next(one for one in RELEASES if one.method == method)
    file = WRITERS[method](tmp_path / "weights.pth")
    done = of(one.name, "--ckpt", file, "--data-root", data, *KNN, "--csv", "layers.csv")
    assert done.exit_code == 0, done.output + done.stderr
    ((_, record),) = ResultStore(Path("results"))
    frame = pd.read_csv("layers.csv")
    assert list(frame["layer"]) == list(range(1, record["model"]["depth"] + 1))
    assert set(frame["checkpoint"]) == {one.name}
    assert set(frame["weights_sha256"]) == {record["model"]["weights_sha256"]}
    assert set(frame["limited"]) == {24}
    for row in frame.to_dict("records"):
        assert row["value"] == record["layers"][str(row["layer"])]["metrics"][row["metric"]]
        assert row["low"] <= row["value"] <= row["high"]
    reported = next((n.value for n in numbers_of(one) if n.task == "knn"), None)
    last = frame.iloc[-1]
    assert frame["published"].notna().sum() == (reported is not None)
    if reported is not None:
        assert last["published"] == reported
        assert last["difference"] == pytest.approx(last["value"] - reported)
        assert not last["within_interval"]  # a mismatch, since these weights are noise
        shown = next(line for line in done.output.splitlines() if line.startswith("knn imagenet"))
        assert re.search(rf" {100 * reported:.1f} +\S+\* +-\d+\.\d +\S+ +no", shown), done.output
    assert "* A trial (mini) (limit 24): not the published benchmark." in done.output


def test_nothing_is_computed_twice_and_nothing_shown_that_was_not_run(
    data: Path, tmp_path: Path
) -> None:
    file = WRITERS["DINO"](tmp_path / "weights.pth")
    arguments = ("dino_vits16", "--ckpt", file, "--data-root", data, *KNN)
    assert of(*arguments).exit_code == 0
    ((path, _),) = ResultStore(Path("results"))
    before = path.read_bytes()
    again = of(*arguments)
    assert "(stored)" in again.output
    assert path.read_bytes() == before
    whole = of("dino_vits16", "--ckpt", file)
    assert whole.exit_code == 0
    for line in whole.output.splitlines():
        if re.match(r"(linear|retrieval|davis) ", line):
            assert len(re.findall(r"\d+\.\d", line)) == 1, line
    assert "Ours, of the last layer, stand beside 0 of 9 published numbers" in whole.output
    assert "--data-root DIR measures what is missing" in whole.output
    # Addresses and paths are as long as they are.
    text = whole.output.replace("https://", "\n").replace(str(file), "FILE")
    assert max(map(len, text.splitlines())) <= 90


def test_json_is_one_value_and_missing_sets_are_named(data: Path, tmp_path: Path) -> None:
    file = WRITERS["DINO"](tmp_path / "weights.pth")
    more = ("--task", "knn,davis", "--limit", 24, "--data-root", data)
    done = of("dino_vits16", "--ckpt", file, *more, "--json")
    assert done.exit_code == 3
    assert "error: no complete davis below" in done.stderr
    ((_, record),) = ResultStore(Path("results"))
    rows = json.loads(done.stdout)
    values = {row["layer"]: row["value"] for row in rows}
    assert values == {int(n): one["metrics"]["k20/top1"] for n, one in record["layers"].items()}


def test_records_of_different_weights_are_never_one_table(tmp_path: Path) -> None:
    scored(tmp_path / "results", "dino_vits16", "imagenet", {1: 150})
    retrieval = retrieval_layer(np.linspace(0.2, 0.6, 70))
    other = {"model__name": "dino_vits16", "model__weights_sha256": "other"}
    done = of("dino_vits16")
    assert done.exit_code == 0
    assert "Ours, of the last layer, stand beside 1 of 9 published" in done.output
    assert re.search(r"knn imagenet +k20/top1 +74.5 +75.0 +\+0.5 +68.6-80.5 +yes", done.output)
    store(tmp_path / "results", {1: retrieval}, **RETRIEVAL, **other)
    done = of("dino_vits16")
    assert done.exit_code == 2
    assert "Results of 2 different weights go by one name" in done.stderr
    assert "stand beside 0 of 9" in done.output


def test_two_numbers_of_one_run_are_one_run(tmp_path: Path) -> None:
    make_mini(tmp_path / "mini", names=["roxford5k"])
    file = WRITERS["DINO"](tmp_path / "weights.pth")
    more = ("--task", "retrieval", "--data-root", tmp_path / "mini", "--csv", "layers.csv")
    done = of("dino_vits16", "--ckpt", file, *more)
    assert done.exit_code == 3  # without Paris
    assert done.output.count("record: ") == 1
    frame = pd.read_csv("layers.csv")
    assert list(frame["metric"]) == ["M/mAP", "M/mAP", "H/mAP", "H/mAP"]
    assert list(frame["published"].dropna()) == [0.418, 0.137]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def serve(monkeypatch: pytest.MonkeyPatch, changed: Release) -> None:
    table = tuple(changed if one.name == changed.name else one for one in RELEASES)
    monkeypatch.setattr(releases, "RELEASES", table)


def test_weights_are_downloaded_once_proven_and_called_by_the_release(
    data: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = WRITERS["MAE"](tmp_path / "served" / "mae.pth")
    serve(monkeypatch, replace(release("mae_vitb16"), weights=f"{server}/mae.pth"))
    done = of("mae_vitb16", "--data-root", data, *KNN)
    assert done.exit_code == 3
    assert "expected md5 8cad7c..., as its authors state" in done.stderr
    assert not list(tmp_path.glob("cache/released/*.pth"))
    assert not Path("results").exists()
    serve(monkeypatch, replace(release("mae_vitb16"), md5=""))
    assert of("mae_vitb16", "--data-root", data, *KNN).exit_code == 0
    served.unlink()
    assert of("mae_vitb16", "--data-root", data, *KNN).exit_code == 0
    assert {record["model"]["name"] for _, record in ResultStore(Path("results"))} == {"mae_vitb16"}


def test_without_a_network_the_remedy_is_told_and_all_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released_weights, "why_unreachable", lambda url: "no network")
    monkeypatch.setattr(
        "sdssl_bench.checkpoints.hugging_face.why_unreachable", lambda url: "no network"
    )
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / "cache" / "released").mkdir(parents=True)
    WRITERS["DINO"](tmp_path / "cache" / "released" / "dino_vits8.pth")
    done = of("all", "--data-root", data, *KNN, "--csv", "layers.csv")
    assert done.exit_code == 3
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == len(RELEASES) - 1
    assert all(line.endswith("With weights at hand: --ckpt FILE.") for line in lines)
    assert set(pd.read_csv("layers.csv")["checkpoint"]) == {"dino_vits8"}


def test_a_file_of_another_architecture_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    file = WRITERS["DINO"](tmp_path / "weights.pth")
    done = of("dino_vits16", "--ckpt", file, "--data-root", data, *KNN, "--cache-dir", "cache")
    assert done.exit_code == 3
    assert "Expected the ViT-S/16 of DINO, found vit_" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--checkpoint", "dino_vits61"), ("--checkpoint", "all", "--ckpt", "x.pth"),
        ("--checkpoint", "dino_vits16", "--table", 1), ("--table", 1, "--limit", 5),
        ("--table", 1, "--csv", "x.csv"), ("--checkpoint", "dino_vits16", "--task", "nothing"),
        ("--checkpoint", "dino_vits16", "--model", "dino=x"),
    ],
    ids=str,
)  # fmt: skip
def test_requests_that_cannot_be_met_are_usage_errors(arguments: tuple[object, ...]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")


def test_the_commands_of_the_document_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand, but for the folder of the data, and on few images of one task."""
    monkeypatch.setattr(released_weights, "why_unreachable", lambda url: "no network")
    monkeypatch.setattr(
        "sdssl_bench.checkpoints.hugging_face.why_unreachable", lambda url: "no network"
    )
    WRITERS["DINO"](tmp_path / "dino_vits16.pth")
    blocks = re.findall(r"```bash\n(.*?)```", DOCUMENT.read_text("utf-8"), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 5
    for line in lines:
        words = [str(data) if word == "/data" else word for word in shlex.split(line)]
        assert words[:2] == ["sdssl-bench", "reproduce"]
        few = KNN if "--data-root" in words and "--limit" not in words else ()
        done = run(*words[2:], *few)
        offline = "--data-root" in words and "--ckpt" not in words
        assert done.exit_code == (3 if offline else 0), done.output + done.stderr
