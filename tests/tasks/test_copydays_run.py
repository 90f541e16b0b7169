"""`run --task copydays` and `score copydays`, `score retrieval`: known answers and honest names."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mini_data import shared_mini
from sdssl_bench import tasks
from sdssl_bench.cli.main import app
from sdssl_bench.datasets.mini.photographs import REGIONS, whole
from sdssl_bench.metrics.average_precision import micro_ap
from sdssl_bench.records.reading import read_items
from sdssl_bench.records.store import ResultStore
from sdssl_bench.reports.leaderboard import tidy, wide
from sdssl_bench.retrieval.copy_detection import CopyFeatures, score_copies
from sdssl_bench.task import RunContext

CKPT = f"custom:{Path(__file__).parents[1] / 'tiny_model.py'}:build"


@pytest.fixture(scope="module")
def mini() -> Path:
    return shared_mini()


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("others")
    rng = np.random.default_rng(0)
    for i in range(90):
        picture = whole(REGIONS[12 + i % 8])
        left, top = rng.uniform(0, 0.5, 2) * picture.size
        picture.crop((left, top, left + 50, top + 50)).save(folder / f"{i:02d}.png")
    return folder


def run(mini: Path, out: Path, *options: str):
    base = ["run", "-t", "copydays", "--ckpt", CKPT, "--data-root", str(mini), "-q"]
    return CliRunner().invoke(
        app,
        [
            *base,
            "--out",
            str(out),
            "--cache-dir",
            str(out.parent / "cache"),
            "--imsize",
            "36",
            *options,
        ],
    )


def test_rows_say_what_they_lack_and_never_share_a_column(mini, others, tmp_path) -> None:
    out = tmp_path / "results"
    extra = ("--set", "num_distractors=40", "--set", "curve=0,10")
    both = ("--distractors", str(others), "--whitening", str(others))
    assert run(mini, out, *extra).exit_code == 0
    assert run(mini, out, *extra, *both[:2]).exit_code == 0
    done = run(mini, out, *extra, *both, "--all-layers")
    assert done.exit_code == 0, done.output
    found = {record["dataset"]["name"]: record for _, record in ResultStore(out)}
    assert set(found) == {
        "copydays no-distractors no-whitening",
        "copydays 40-distractors no-whitening",
        "copydays 40-distractors whitened-50",
    }
    table = wide(tidy(ResultStore(out)), "last")
    assert len(table.columns) == 3
    record = found["copydays 40-distractors whitened-50"]
    assert record["protocol"]["resolved"]["transform"]["size"] == 32
    assert record["protocol"]["resolved"]["whitening"] == "dino"
    assert record["dataset"]["splits"]["distractors"] == 40
    details = record["dataset"]["details"]
    assert details["distractors"]["list_sha256"] != details["whitening"]["list_sha256"]
    for entry in record["layers"].values():
        metrics = entry["metrics"]
        assert metrics["original/mAP"] == metrics["original/mAP@20"] == 1
        assert metrics["d0/strong/mAP@20"] >= metrics["d10/strong/mAP@20"]
        assert metrics["d10/strong/mAP@20"] >= metrics["d40/strong/mAP@20"]
        assert metrics["d40/strong/mAP@20"] == metrics["strong/mAP@20"]
        assert metrics["strong/mAP@20"] <= metrics["strong/mAP"]
        assert entry["n"] == 17


def test_positions_are_those_of_sorted_cosines_and_kept_for_paired_tests(mini, tmp_path) -> None:
    out = tmp_path / "results"
    assert run(mini, out, "--layers", "2").exit_code == 0
    ((path, record),) = ResultStore(out)
    items = read_items(path, 2)
    (manifest,) = (tmp_path / "cache" / "features").glob("*/manifest.json")
    entry = json.loads(manifest.read_text())
    vectors = np.concatenate(
        [np.load(manifest.parent / entry["banks"][f"layer02-{p}"]) for p in ("cls", "gem")], axis=1
    ).astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors[12 : 12 + 17] @ vectors[:12].T
    expected = []
    for copy in range(17):
        original = np.flatnonzero(items["strong/position"] >= 0)[copy]
        assert original == copy
        name = sorted(p.name for p in (mini / "copydays" / "strong").glob("*.jpg"))[copy]
        target = (int(name[:6]) // 100 * 100 - 200_000) // 100
        expected.append(np.argsort(-cosines[copy], kind="stable").tolist().index(target))
    assert items["strong/position"].tolist() == expected
    aps = [1.0 if p == 0 else 0.5 / (p + 1) for p in expected]
    assert record["layers"]["2"]["metrics"]["strong/mAP@20"] == pytest.approx(np.mean(aps))


def test_the_gallery_and_the_backends(mini, tmp_path) -> None:
    pictures = tmp_path / "pictures"
    done = run(mini, tmp_path / "a", "--backend", "torch", "--gallery", str(pictures))
    assert done.exit_code == 0, done.output
    assert run(mini, tmp_path / "b", "--backend", "faiss").exit_code == 0
    ((path, a),), ((_, b),) = ResultStore(tmp_path / "a"), ResultStore(tmp_path / "b")
    # The worst come first, those of one place in the order of the set.
    places = read_items(path, 3)["strong/position"][-17:]
    files = sorted(one.stem for one in (mini / "copydays" / "strong").glob("*.jpg"))
    worst = sorted(range(17), key=lambda copy: (-places[copy], copy))[:10]
    assert places[worst[0]] > places[worst[-1]], "a case that cannot fail proves nothing"
    shown = sorted(one.stem for one in (pictures / "layer03").glob("*.png"))
    assert shown == [f"{at:02d}-strong-{files[copy]}" for at, copy in enumerate(worst, 1)]
    assert a["layers"]["3"]["metrics"] == b["layers"]["3"]["metrics"]


@pytest.mark.parametrize(("limit", "counts"), [(7, (7, 7)), (1, (2, 2)), (60, (40, 50))])
def test_a_limit_holds_for_further_images_too(mini, others, tmp_path, limit, counts) -> None:
    """Two images are left: whitening needs them."""
    task = tasks.load("copydays", None, {"num_distractors": "40", "num_whitening": "50"})
    inputs = {"distractors": others, "whitening": others}
    ctx = RunContext(mini, tmp_path / "cache", limit=limit, inputs=inputs)
    data = task.load_data("copydays", ctx)
    assert (len(data.distractors), len(data.whitening)) == counts


# --- scores of features from anywhere ---


def copies(seed: int = 0, noise: float = 0.6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    originals = rng.standard_normal((9, 6)).astype(np.float32)
    strong = originals[[0, 0, 3, 8, 5]] + noise * rng.standard_normal((5, 6)).astype(np.float32)
    return {
        "original": originals,
        "original_names": np.array([f"{200000 + 100 * i}.jpg" for i in range(9)]),
        "strong": strong.astype(np.float32),
        "strong_names": np.array([f"{n}.jpg" for n in (200001, 200002, 200301, 200801, 200501)]),
        "distractors": rng.standard_normal((30, 6)).astype(np.float32),
        "whitening": rng.standard_normal((40, 6)).astype(np.float32) + 1,
    }


def score(tmp_path: Path, arrays: dict[str, np.ndarray], *options: str):
    np.savez(tmp_path / "f.npz", **arrays)
    return CliRunner().invoke(
        app, ["score", "copydays", "--features", str(tmp_path / "f.npz"), "--json", *options]
    )


@pytest.mark.parametrize("preset", ["dino", "centred", "none"])
def test_score_copydays_equals_a_literal_evaluation(tmp_path, preset) -> None:
    arrays = copies()
    if preset == "none":
        del arrays["whitening"]
    options = () if preset == "none" else ("--whitening", preset)
    done = score(tmp_path, arrays, "--top-k", "3", *options)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    rows = {k: arrays[k].astype(float) for k in ("original", "strong", "distractors")}
    if preset != "none":
        x = arrays["whitening"].astype(float)
        mean = x.mean(0)
        c = (x - mean if preset == "centred" else x).T @ (x - mean if preset == "centred" else x)
        values, vectors = np.linalg.eigh(c / len(x))
        values = np.maximum(values, 1e-5 * values.max())
        rows = {k: (v - mean) @ vectors / np.sqrt(values) for k, v in rows.items()}
    rows = {k: v / np.linalg.norm(v, axis=1, keepdims=True) for k, v in rows.items()}
    cosines = rows["strong"] @ np.concatenate([rows["original"], rows["distractors"]]).T
    targets = [0, 0, 3, 8, 5]
    places = [int((-c).argsort().tolist().index(t)) for c, t in zip(cosines, targets, strict=True)]
    full = [1.0 if p == 0 else 0.5 / (p + 1) for p in places]
    assert found["strong"]["mAP"] == pytest.approx(np.mean(full))
    kept = [ap if p < 3 else 0.0 for ap, p in zip(full, places, strict=True)]
    assert found["strong"]["mAP@3"] == pytest.approx(np.mean(kept))
    order = np.argsort(-cosines, axis=1)[:, :3]
    hits = order == np.array(targets)[:, None]
    micro = micro_ap(np.take_along_axis(cosines, order, 1), hits, 5)
    assert found["strong"]["muAP"] == pytest.approx(micro)
    assert (found["distractors"], found["whitening"]) == (30, preset)


def test_score_copydays_takes_layers_and_refuses_what_does_not_fit(tmp_path) -> None:
    one = copies()
    stacked = {k: v if k.endswith("_names") else np.stack([v, v]) for k, v in one.items()}
    layers = json.loads(score(tmp_path, stacked).stdout)["layers"]
    single = json.loads(score(tmp_path, one).stdout)
    assert [entry.pop("layer") for entry in layers] == [1, 2]
    assert layers[0] == layers[1] == single
    broken = {**one, "strong": one["strong"].copy()}
    broken["strong"][1, 2] = np.nan
    for arrays, message, code in (
        ({k: v for k, v in one.items() if k != "strong_names"}, "expected `strong_names`", 3),
        ({**one, "strong_names": np.array(["999901.jpg"] * 5)}, "999900, which is no original", 3),
        ({**one, "strnog": one["strong"]}, "Did you mean 'strong'", 3),
        ({**one, "distractors": np.ones((3, 5), np.float32)}, "agree in layers and width", 3),
        ({"strong": one["strong"]}, "expected `original`", 3),
        ({**one, "crops/10": one["original"][:8], "crops/10_names": one["original_names"][:8]},
         "lacks a copy of original 200800", 3),
        (broken, "must be finite", 1),
    ):  # fmt: skip
        done = score(tmp_path, arrays)
        assert done.exit_code == code, done.output
        assert message in done.stderr


def test_a_perfect_encoder_scores_one_and_distractors_beyond_the_list_score_zero() -> None:
    eye = np.eye(30, dtype=np.float32)
    targets = {"strong": np.arange(4)}
    perfect = CopyFeatures(eye[:4], {"strong": eye[:4]}, targets, distractors=eye[4:])
    assert set(score_copies(perfect).metrics.values()) == {1.0}
    # Every distractor is closer than the original: place 26 of 30 is beyond the list of 20.
    far = CopyFeatures(-eye[:4], {"strong": eye[:4]}, targets, distractors=eye[4:])
    metrics = score_copies(far, curve=(0, 10)).metrics
    assert metrics["strong/mAP@20"] == 0
    assert metrics["strong/mAP"] == pytest.approx(0.5 / 30)
    assert metrics["d0/strong/mAP@20"] == pytest.approx(0.5 / 4)


TRUTH = {
    "imlist": [f"i{i}" for i in range(6)],
    "qimlist": ["q0", "q1"],
    "gnd": [
        {"bbx": [0, 0, 9, 9], "easy": [0], "hard": [], "junk": [1]},
        {"bbx": [0, 0, 9, 9], "easy": [3, 4], "hard": [], "junk": []},
    ],
}


def test_score_retrieval_prints_three_protocols_with_null_where_nothing_counts(tmp_path) -> None:
    (tmp_path / "gnd.json").write_text(json.dumps(TRUTH))
    database = np.eye(6, dtype=np.float32)
    queries = np.array([[0.5, 0.9, 0, 0, 0, 0], [0, 0, 0.9, 0.8, 0.7, 0]], np.float32)
    command = ["score", "retrieval", "--features", str(tmp_path / "f.npz"), "--gnd"]
    np.savez(tmp_path / "f.npz", queries=queries, database=database)
    done = CliRunner().invoke(app, [*command, str(tmp_path / "gnd.json"), "--json"])
    assert done.exit_code == 0, done.output
    scores = json.loads(done.stdout)
    assert set(scores) == {"E", "M", "H"}
    # Junk before the only positive of q0 is deleted: 1. q1 finds its two at places 2 and 3.
    second = ((0 / 1 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2) / 2
    assert scores["E"]["mAP"] == scores["M"]["mAP"] == pytest.approx((1 + second) / 2)
    assert scores["E"]["mP@1"] == 0.5
    assert scores["E"]["mP@10"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["H"] == {"mAP": None, "mP@1": None, "mP@5": None, "mP@10": None}
    np.savez(tmp_path / "f.npz", queries=queries[None], database=database[None])
    layered = CliRunner().invoke(app, [*command, str(tmp_path / "gnd.json"), "--json"])
    assert json.loads(layered.stdout) == {"layers": [{"layer": 1, **scores}]}
    np.savez(tmp_path / "f.npz", queries=queries, database=database[:5])
    short = CliRunner().invoke(app, [*command, str(tmp_path / "gnd.json")])
    assert short.exit_code == 3
    assert "one row for each of the 6 images" in short.stderr
