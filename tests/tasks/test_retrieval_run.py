"""`run --task retrieval`: records, presets, options, distractor curves, pictures, known answers."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mini_data import shared_mini
from sdssl_bench.cli.main import app
from sdssl_bench.datasets import roxford_rparis
from sdssl_bench.datasets.mini.photographs import REGIONS, whole
from sdssl_bench.metrics.average_precision import PROTOCOLS
from sdssl_bench.records.reading import read_items
from sdssl_bench.records.store import ResultStore
from sdssl_bench.reports.leaderboard import tidy, wide
from twins import drawn_area

ROOT = Path(__file__).resolve().parents[2]
CKPT = f"custom:{Path(__file__).parents[1] / 'tiny_model.py'}:build"


@pytest.fixture(scope="module")
def mini() -> Path:
    return shared_mini()


@pytest.fixture(scope="module")
def distractors(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("distractors")
    rng = np.random.default_rng(0)
    for i in range(30):
        picture = whole(REGIONS[i % len(REGIONS)])
        left, top = rng.uniform(0, 0.5, 2) * picture.size
        picture.crop((left, top, left + 70, top + 60)).save(folder / f"{i:02d}.png")
    return folder


def arguments(mini: Path, out: Path) -> list[str]:
    base = ["run", "--task", "retrieval", "--ckpt", CKPT, "--data-root", str(mini), "-q"]
    return [*base, "--out", str(out), "--cache-dir", str(out / "cache"), "--imsize", "48"]


def run(mini: Path, out: Path, *options: str):
    return CliRunner().invoke(app, [*arguments(mini, out), *options])


def records(out: Path) -> list[dict]:
    return [record for _, record in ResultStore(out)]


def test_both_sets_all_layers_one_record_each(mini, tmp_path) -> None:
    done = run(mini, tmp_path, "--all-layers")
    assert done.exit_code == 0, done.output
    found = {record["dataset"]["name"]: record for record in records(tmp_path)}
    assert set(found) == {"roxford5k", "rparis6k"}
    for name, record in found.items():
        assert list(record["layers"]) == ["1", "2", "3"]
        assert record["protocol"]["resolved"]["longest_side"] == 48
        assert record["protocol"]["resolved"]["query_crop"] is False
        scales = 1 if name == "roxford5k" else 3
        assert len(record["protocol"]["resolved"]["scales"]) == scales
        metrics = record["layers"]["3"]["metrics"]
        assert {f"{p}/{m}" for p in PROTOCOLS for m in ("mAP", "mP@1", "mP@5", "mP@10")} == set(
            metrics
        )
        assert all(0 <= value <= 1 for value in metrics.values())


def test_scores_are_those_of_a_literal_evaluation_of_the_cached_features(mini, tmp_path) -> None:
    assert run(mini, tmp_path, "-d", "rparis6k").exit_code == 0
    (path, record), *_ = ResultStore(tmp_path)
    data = roxford_rparis.load("rparis6k", data_root=mini)
    banks = {}
    for manifest in (tmp_path / "cache" / "features").glob("*/manifest.json"):
        entry = json.loads(manifest.read_text())
        banks[entry["split"]] = np.load(manifest.parent / entry["banks"]["layer03-cls"]).astype(
            float
        )
    unit = {k: v / np.linalg.norm(v, axis=1, keepdims=True) for k, v in banks.items()}
    rankings = np.argsort(-(unit["queries"] @ unit["database"].T), axis=1, kind="stable")
    items = read_items(path, 3)
    for protocol, (wanted, junk) in PROTOCOLS.items():
        aps = []
        for query, ranking in enumerate(rankings):
            positives = {i for label in wanted for i in data.truth.labels[label][query]}
            removed = {i for label in junk for i in data.truth.labels[label][query]}
            relevant = [i in positives for i in ranking if i not in removed]
            aps.append(drawn_area(relevant, len(positives)) if positives else np.nan)
        np.testing.assert_allclose(items[f"{protocol}/ap"], aps, atol=1e-9)
        mean = record["layers"]["3"]["metrics"][f"{protocol}/mAP"]
        assert mean == pytest.approx(np.nanmean(aps))


def test_distractors_only_lower_the_score_and_their_rows_stand_apart(
    mini, distractors, tmp_path
) -> None:
    common = ("-d", "roxford5k", "--set", "curve=0,10,20", "--layers", "3")
    assert run(mini, tmp_path, *common).exit_code == 0
    done = run(mini, tmp_path, *common, "--distractors", str(distractors))
    assert done.exit_code == 0, done.output
    found = {record["dataset"]["name"]: record for record in records(tmp_path)}
    assert set(found) == {"roxford5k", "roxford5k 30-distractors"}
    alone = found["roxford5k"]["layers"]["3"]["metrics"]
    record = found["roxford5k 30-distractors"]
    metrics = record["layers"]["3"]["metrics"]
    for protocol in PROTOCOLS:
        curve = [metrics[f"d{n}/{protocol}/mAP"] for n in (0, 10, 20, 30)]
        assert curve == sorted(curve, reverse=True)
        assert curve[0] == alone[f"{protocol}/mAP"]
        assert curve[-1] == metrics[f"{protocol}/mAP"]
    assert record["dataset"]["details"]["distractors"]["images"] == 30
    assert len(record["dataset"]["details"]["distractors"]["list_sha256"]) == 64
    table = wide(tidy(ResultStore(tmp_path)), "last")
    assert len(table.columns) == 2
    # The first 10 of 30 are the sample of 10.
    done = run(mini, tmp_path / "ten", *common, "--distractors", str(distractors),
               "--set", "num_distractors=10")  # fmt: skip
    assert done.exit_code == 0, done.output
    (ten,) = records(tmp_path / "ten")
    assert ten["layers"]["3"]["metrics"]["M/mAP"] == metrics["d10/M/mAP"]


def test_a_whole_search_is_the_same_for_one_layer_and_for_all(mini, tmp_path) -> None:
    assert run(mini, tmp_path / "a", "-d", "roxford5k", "--all-layers").exit_code == 0
    assert run(mini, tmp_path / "b", "-d", "roxford5k", "--layers", "2").exit_code == 0
    (a,), (b,) = records(tmp_path / "a"), records(tmp_path / "b")
    assert a["layers"]["2"]["metrics"] == b["layers"]["2"]["metrics"]


def test_presets_and_options_reach_the_record(mini, tmp_path) -> None:
    crop = run(mini, tmp_path / "crop", "-d", "roxford5k", "--query-crop", "--pool", "gem",
               "--scales", "1,0.5")  # fmt: skip
    assert crop.exit_code == 0, crop.output
    (record,) = records(tmp_path / "crop")
    assert record["protocol"]["parameters"]["query_crop"] is True
    assert record["protocol"]["parameters"]["scales_oxford"] == [1.0, 0.5]
    assert record["protocol"]["resolved"]["pool"] == "gem p=3"
    assert run(mini, tmp_path / "plain", "-d", "roxford5k").exit_code == 0
    (plain,) = records(tmp_path / "plain")
    assert plain["protocol"]["digest"] != record["protocol"]["digest"]


def test_options_that_would_have_no_effect_are_errors(mini, tmp_path) -> None:
    for options, message in (
        (("--whitening", str(tmp_path)), "--whitening has no effect on task retrieval"),
        (("--pool", "max"), "Unknown pooling 'max'"),
        (("--imsize", "4"), "--imsize"),
        (("--distractors", str(tmp_path / "none")), "--distractors takes a folder"),
    ):
        done = run(mini, tmp_path / "out", "-d", "roxford5k", *options)
        assert done.exit_code in (2, 3), done.output
        assert message in done.stderr or "below one patch" in done.stderr


def test_the_gallery_shows_the_worst_queries_with_true_positives_framed(mini, tmp_path) -> None:
    out = tmp_path / "pictures"
    done = run(mini, tmp_path, "-d", "roxford5k", "--layers", "3", "--gallery", str(out))
    assert done.exit_code == 0, done.output
    files = sorted((out / "layer03").glob("*.png"))
    assert len(files) == 8
    (path, _), *_ = ResultStore(tmp_path)
    ap = read_items(path, 3)["M/ap"]
    data = roxford_rparis.load("roxford5k", data_root=mini)
    worst = data.truth.queries[int(np.argmin(ap))]
    assert files[0].stem == f"01-{worst}"
    greens = 0
    for file in files:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        greens += int((pixels == (0, 150, 60)).all(1).any())
    assert greens >= 1


def test_limited_and_skipped_runs_agree_with_their_ground_truth(mini, tmp_path) -> None:
    done = run(mini, tmp_path, "-d", "rparis6k", "--limit", "40")
    assert done.exit_code == 0, done.output
    (record,) = records(tmp_path)
    assert record["limited"] == 40
    assert record["dataset"]["splits"] == {"queries": 12, "database": 40}
    assert tidy(ResultStore(tmp_path)).empty
