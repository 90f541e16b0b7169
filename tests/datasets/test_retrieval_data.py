"""Revisited Oxford/Paris on disk: hostile and broken ground truth, partial copies, miniatures."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mini_data import copy_of, shared_mini
from sdssl_bench.cli.main import app
from sdssl_bench.datasets import roxford_rparis, spec
from sdssl_bench.datasets.catalogue import names
from sdssl_bench.datasets.mini.retrieval import EASY, HARD, JUNK, LANDMARK, shown
from sdssl_bench.datasets.readers.ground_truth import GroundTruth, read_ground_truth
from sdssl_bench.datasets.readers.images_on_disk import (
    image_files,
    load_extra,
    sample,
    shared_images,
)
from sdssl_bench.errors import DataError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "revisitop"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data")

TRUTH = {
    "imlist": ["a_1", "b_2", "c_3"],
    "qimlist": ["q_1"],
    "gnd": [{"bbx": [1.0, 2.0, 30.0, 40.0], "easy": [2], "hard": [0], "junk": []}],
}


@pytest.fixture(scope="module")
def mini() -> Path:
    return shared_mini()


def write_pickle(folder: Path, content: object) -> Path:
    path = folder / "gnd_roxford5k.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


def test_a_pickle_and_its_json_are_the_same_ground_truth(tmp_path) -> None:
    entry = {**TRUTH["gnd"][0], "easy": np.array([2]), "hard": np.array([0])}
    source = write_pickle(tmp_path, {**TRUTH, "gnd": [entry]})
    done = CliRunner().invoke(app, ["data", "convert-gnd", str(source)])
    assert done.exit_code == 0, done.output
    converted = tmp_path / "gnd_roxford5k.json"
    assert json.loads(converted.read_text()) == TRUTH
    assert read_ground_truth(source).to_json() == read_ground_truth(converted).to_json() == TRUTH


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hacked",)


def test_a_hostile_pickle_is_refused_and_nothing_is_executed(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_pickle(tmp_path, {**TRUTH, "gnd": [Hostile()]})
    with pytest.raises(DataError, match=r"system.*Nothing was executed"):
        read_ground_truth(path)
    done = CliRunner().invoke(app, ["data", "convert-gnd", str(path)])
    assert done.exit_code == 3
    assert "Nothing was executed" in done.stderr
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gnd": []}, "one entry for each of 1 queries"),
        ({"imlist": ["a_1", "a_1", "c_3"]}, "more than once"),
        ({"imlist": ["../../etc/passwd", "b", "c"]}, "expected image names"),
        ({"qimlist": [3]}, "expected image names"),
        ({"gnd": [{**TRUTH["gnd"][0], "easy": [3]}]}, r"indices in 0\.\.2"),
        ({"gnd": [{**TRUTH["gnd"][0], "easy": [-1]}]}, r"indices in 0\.\.2"),
        ({"gnd": [{**TRUTH["gnd"][0], "junk": [2]}]}, "two of the labels"),
        ({"gnd": [{**TRUTH["gnd"][0], "hard": [0.5]}]}, "list of indices"),
        ({"gnd": [{**TRUTH["gnd"][0], "bbx": [1, 2, 1, 9]}]}, "x1 < x2"),
        ({"gnd": [{"easy": []}]}, "dict with bbx"),
    ],
)
def test_a_malformed_ground_truth_is_an_error_that_says_where(tmp_path, change, message) -> None:
    path = tmp_path / "gnd.json"
    path.write_text(json.dumps({**TRUTH, **change}))
    with pytest.raises(DataError, match=message):
        read_ground_truth(path)


def test_a_missing_or_broken_file_is_an_error(tmp_path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_ground_truth(tmp_path / "gnd_roxford5k.pkl")
    (tmp_path / "gnd.json").write_text("{")
    with pytest.raises(DataError, match="expected JSON"):
        read_ground_truth(tmp_path / "gnd.json")
    with pytest.raises(DataError, match=r"roxford5k\) was not found.*gnd_roxford5k\.pkl"):
        roxford_rparis.load("roxford5k", data_root=tmp_path)


def test_restricting_a_ground_truth_keeps_the_names_behind_the_indices() -> None:
    truth = read_ground_truth_of(TRUTH)
    part = truth.restricted(queries=np.array([0]), database=np.array([1, 2]))
    assert part.database == ("b_2", "c_3")
    assert part.labels["easy"][0].tolist() == [1]
    assert part.labels["hard"][0].tolist() == []


def test_queries_without_positives_are_counted_by_protocol() -> None:
    """E has easy ones, H hard ones, M both; junk is no positive (Radenovic et al. 2018)."""
    kinds = [("e",), ("h",), ("e", "h"), ("j",), (), ("e", "j"), ("h", "j"), ("j",)]
    rows = {
        label: tuple(np.array([0] * (label[0] in kind), np.int64) for kind in kinds)
        for label in ("easy", "hard", "junk")
    }
    truth = GroundTruth(("a",), tuple(map(str, range(len(kinds)))), np.zeros((len(kinds), 4)), rows)
    assert roxford_rparis.without_positives(truth) == {"E": 5, "M": 3, "H": 5}


def read_ground_truth_of(content):
    from sdssl_bench.datasets.readers.ground_truth import _parse

    return _parse(content)


@pytest.mark.parametrize("name", names("retrieval"))
def test_miniatures_are_complete_and_have_all_three_labels(mini, name) -> None:
    data = roxford_rparis.load(name, data_root=mini)
    assert data.variant == "mini"
    assert all(any(len(rows) for rows in data.truth.labels[label]) for label in data.truth.labels)
    assert roxford_rparis.without_positives(data.truth)["M"] == 0
    for query in range(len(data.queries)):
        width, height = data.queries.load(query).size
        x1, y1, x2, y2 = data.truth.boxes[query]
        assert 0 <= x1 < x2 <= width + 0.1
        assert 0 <= y1 < y2 <= height + 0.1


def test_labels_of_miniatures_follow_the_share_of_the_landmark_seen() -> None:
    left, top, right, bottom = LANDMARK
    assert shown((0.0, 0.0, 1.0, 1.0)) == 1
    assert shown((left, top, (left + right) / 2, bottom)) == pytest.approx(0.5)
    assert 1 > EASY > HARD > JUNK > 0


def test_a_missing_image_is_an_error_and_partial_only_if_asked(mini, tmp_path) -> None:
    root = tmp_path / "data"
    copy_of("roxford5k", root), copy_of("rparis6k", root)
    whole = roxford_rparis.load("roxford5k", data_root=root)
    gone = whole.truth.labels["easy"][0][0]
    (root / "roxford5k" / whole.database.names[gone]).unlink()
    with pytest.raises(DataError, match=rf"1 of 72 images.*{whole.truth.database[gone]}"):
        roxford_rparis.load("roxford5k", data_root=root)
    part = roxford_rparis.load("roxford5k", data_root=root, allow_partial=True)
    assert part.variant == "partial"
    assert part.notes["found"] == {"queries": 8, "database": 71}
    assert part.fingerprint != whole.fingerprint
    for label in whole.truth.labels:
        before = {whole.truth.database[i] for i in whole.truth.labels[label][0]}
        after = {part.truth.database[i] for i in part.truth.labels[label][0]}
        assert after == before - {whole.truth.database[gone]}
    assert [Path(n).stem for n in part.database.names] == list(part.truth.database)


def test_images_in_nested_folders_are_found_and_doubles_are_an_error(mini, tmp_path) -> None:
    root = tmp_path / "data"
    copy_of("roxford5k", root), copy_of("rparis6k", root)
    jpg = root / "rparis6k" / "jpg"
    flat = roxford_rparis.load("rparis6k", data_root=root)
    (jpg / "nested").mkdir()
    first = sorted(jpg.glob("*.jpg"))[0]
    first.rename(jpg / "nested" / first.name)
    nested = roxford_rparis.load("rparis6k", data_root=root)
    assert nested.truth.to_json() == flat.truth.to_json()
    shutil.copy(jpg / "nested" / first.name, first)
    with pytest.raises(DataError, match="2 places"):
        roxford_rparis.load("rparis6k", data_root=root)


def test_data_check_reports_complete_incomplete_and_unreadable_copies(mini, tmp_path) -> None:
    root = tmp_path / "data"
    copy_of("roxford5k", root), copy_of("rparis6k", root)
    run = CliRunner().invoke
    assert run(app, ["data", "check", "roxford5k", "--data-root", str(root)]).exit_code == 0
    picture = sorted((root / "roxford5k" / "jpg").glob("*.jpg"))[0]
    picture.write_bytes(picture.read_bytes()[:300])
    done = run(app, ["data", "check", "roxford5k", "--decode", "--data-root", str(root)])
    assert done.exit_code == 3
    assert picture.name in done.output
    picture.unlink()
    done = run(app, ["data", "check", "roxford5k", "--data-root", str(root), "--json"])
    assert done.exit_code == 3
    assert json.loads(done.stdout)[0]["state"] == "incomplete"


@needs_shared
def test_official_files_restricted_to_the_images_here_equal_the_restricted_lists() -> None:
    sizes = {}
    for name in names("retrieval"):
        truth = read_ground_truth(SHARED / name / f"gnd_{name}.pkl")
        sizes[name] = {"queries": len(truth.queries), "database": len(truth.database)}
    assert sizes == {name: spec(name).sizes for name in names("retrieval")}
    data = roxford_rparis.load("rparis6k", data_root=SHARED, allow_partial=True)
    mini = read_ground_truth(SHARED / "rparis6k" / "gnd_rparis6k_mini.json")

    def by_name(truth):
        return {
            name: {k: {truth.database[i] for i in rows[q]} for k, rows in truth.labels.items()}
            for q, name in enumerate(truth.queries)
        }

    assert by_name(data.truth) == by_name(mini)
    assert roxford_rparis.without_positives(data.truth)["M"] == 1


# --- distractors ---


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    rng = np.random.default_rng(0)
    for i in range(12):
        path = folder / f"class{i % 3}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return folder


def test_a_sample_is_seeded_and_the_smaller_one_begins_the_larger(pictures) -> None:
    names = [f"{i}" for i in range(50)]
    assert sample(names, 7, seed=1) == sample(names, 50, seed=1)[:7] != sample(names, 7, seed=2)
    assert sorted(sample(names, None, seed=1)) == sorted(names)


def test_images_in_use_are_left_out_and_equal_pictures_elsewhere_are_an_error(
    pictures, tmp_path
) -> None:
    first = load_extra("distractors", pictures, 5, seed=0, apart_from=())
    second = load_extra("whitening", pictures, 20, seed=0, apart_from=(first,))
    assert len(first) == 5
    assert set(first.names).isdisjoint(second.names)
    assert len(second) == 7
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    shutil.copy(pictures / first.names[0], copy / "same.png")
    with pytest.raises(DataError, match=r"disjoint.*same\.png"):
        load_extra("whitening", copy, 5, seed=0, apart_from=(first,))
    other = image_files("x", "x", root=copy, names=["same.png"])
    assert len(shared_images(first, other)) == 1
    with pytest.raises(DataError, match="in use already"):
        load_extra("whitening", pictures, 5, seed=0, apart_from=(first, second))
