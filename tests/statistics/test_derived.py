"""What is kept beside a record is, to the last digit, what its items give; no item is opened again."""

import json
import os
import shutil
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from example_results import results
from sdssl_bench.records import Record
from sdssl_bench.records.reading import items_path
from sdssl_bench.records.store import ResultStore
from sdssl_bench.reports.leaderboard import tidy
from sdssl_bench.statistics import derived as module
from sdssl_bench.statistics import intervals, items, pair_tests, ranks
from sdssl_bench.statistics.derived import derive, kept_path, known_interval
from sdssl_bench.statistics.items import ItemScores, layer_item_scores
from sdssl_bench.statistics.pair_tests import PairTests, model_tests, significant
from sdssl_bench.statistics.paired_tests import holm, paired_test
from sdssl_bench.statistics.ranks import KEPT, rank_intervals
from sdssl_bench.statistics.results import read_results
from stored_results import PETS, knn_layer, scored, store


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = results(tmp_path_factory.mktemp("results"))
    target = np.arange(90) % 9
    for name, right in (("dino", 40), ("mocov3_vit_s16", 60)):
        store(root, {3: knn_layer(np.arange(90) < right, target)}, model__name=name, **PETS)
    return root


def fresh(folder: Path) -> list[tuple[Path, Record]]:
    """The records as another process reads them."""
    module._KNOWN.clear()
    stored, damaged = read_results([folder])
    assert not damaged
    return stored


def no_items(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: Any) -> Any:
        raise AssertionError("items were opened")

    for place in (intervals, module, ranks):
        monkeypatch.setattr(place, "layer_item_scores", opened)
    monkeypatch.setattr(items, "read_items", opened)


def test_kept_intervals_are_the_computed_ones_to_the_last_digit(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fresh(root)
    computed = {
        (path, layer, metric): intervals.layer_interval(record, path, int(layer), metric)
        for path, record in first
        for layer, entry in record["layers"].items()
        for metric in entry["metrics"]
    }
    before = rank_intervals(first)
    no_items(monkeypatch)
    again = fresh(root)
    kept = {
        (path, layer, metric): known_interval(record, path, int(layer), metric)
        for path, record in again
        for layer, entry in record["layers"].items()
        for metric in entry["metrics"]
    }
    assert kept == computed
    assert sum(one is not None for one in kept.values()) > 60
    assert rank_intervals(again) == before


def test_brief_records_are_whole_ones_with_the_layer_that_tables_show(
    root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root, tmp_path / "x")
    store(tmp_path / "x", {1: knn_layer(np.arange(60) < 20, np.arange(60) % 3)}, model__name="cut")
    whole = fresh(tmp_path / "x")
    expected = rank_intervals(whole)
    intervals = [known_interval(record, path, shown(record)) for path, record in whole]
    module._KNOWN.clear()
    brief, _ = read_results([tmp_path / "x"], brief=True)
    assert rank_intervals(brief) == expected
    assert [known_interval(record, path, shown(record)) for path, record in brief] == intervals
    for (path, one), (_, full) in zip(brief, whole, strict=True):
        assert one == {**full, "layers": {str(shown(full)): full["layers"][str(shown(full))]}}
        twin = tidy([(path, full)], uncertainty=True, include_limited=True, rows="last")
        frame = tidy([(path, one)], uncertainty=True, include_limited=True, rows="last")
        pd.testing.assert_frame_equal(frame, twin)


def shown(record: Record) -> int:
    """The last layer, where all of these but one are scored."""
    return int(max(record["layers"], key=int))


def test_ranks_that_are_kept_are_those_that_are_made(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "x")
    kept = tmp_path / "x" / "runs" / KEPT
    first = rank_intervals(fresh(tmp_path / "x"))
    stamp = kept.stat().st_mtime_ns
    assert rank_intervals(fresh(tmp_path / "x")) == first
    assert kept.stat().st_mtime_ns == stamp, "read, not made"
    for content in (b"", b"[]", b'{"source": 1}'):
        kept.write_bytes(content)
        assert rank_intervals(fresh(tmp_path / "x")) == first
    assert len(first) > 10
    assert len(rank_intervals(fresh(tmp_path / "x"), alpha=0.5)) == len(first)
    one = scored(tmp_path / "x", "another", "pets", {3: 100})
    assert one is None
    assert len(rank_intervals(fresh(tmp_path / "x"))) == len(first)  # it has no company
    scored(tmp_path / "x", "and another", "pets", {3: 120})
    assert len(rank_intervals(fresh(tmp_path / "x"))) == len(first) + 2


@pytest.mark.parametrize("what", ["record", "items"])
def test_another_record_or_other_items_are_proven_anew(
    root: Path, tmp_path: Path, what: str
) -> None:
    shutil.copytree(root, tmp_path / "x")
    (path, record), *_ = fresh(tmp_path / "x")
    old = kept_path(path).read_bytes()
    if what == "record":
        record["layers"]["3"]["scored_at"] = "2027-01-01T00:00:00+00:00"
        path.write_text(json.dumps(record))
    else:
        os.utime(items_path(path), ns=(time.time_ns(), time.time_ns()))
    fresh(tmp_path / "x")
    new = kept_path(path).read_bytes()
    assert new != old
    assert new.split(b"\n")[2:] == old.split(b"\n")[2:]


def test_a_folder_that_cannot_be_written_costs_time_and_no_result(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(root, tmp_path / "x", ignore=shutil.ignore_patterns(".*"))

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    for place in (module, ranks):
        monkeypatch.setattr(place, "write_atomic", full)
    one, other = fresh(tmp_path / "x"), fresh(root)
    assert rank_intervals(one) == rank_intervals(other)
    for (path, record), (twin, _) in zip(one, other, strict=True):
        assert not kept_path(path).exists()
        for layer, entry in record["layers"].items():
            for metric in entry["metrics"]:
                found = known_interval(record, path, int(layer), metric)
                assert found == known_interval(record, twin, int(layer), metric)


def test_a_record_that_is_not_what_its_file_holds_is_not_kept(tmp_path: Path) -> None:
    """As in a process that goes on while another adds layers."""
    target = np.arange(60) % 3
    layers = {n: knn_layer(np.arange(60) < 20 + n, target) for n in (1, 2)}
    path, record = store(tmp_path, layers)
    older = {**record, "layers": {"1": record["layers"]["1"]}}
    assert list(derive(path, older).headlines()) == [1]
    assert not kept_path(path).exists()
    assert list(derive(path, record).headlines()) == [1, 2]
    assert kept_path(path).exists()


def models(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], list[ItemScores]]:
    n = draw(st.integers(1, 40))
    kind = draw(st.sampled_from(["right or wrong", "classes", "scores"]))
    rows = draw(st.integers(2, 6))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    level, step = generator.random(n), generator.uniform(0, 0.3)
    scores = np.stack([level + step * i * generator.random(n) for i in range(rows)])
    scores = np.round(scores, 2) if kind == "scores" else scores > 0.5
    strata = generator.integers(0, 3, n) if kind == "classes" else np.zeros(n, int)
    strata = np.unique(strata, return_inverse=True)[1]
    made = [
        ItemScores(one.astype(float), np.ones(n), strata, np.arange(n), "images", kind != "scores")
        for one in scores
    ]
    return scores, made


@given(st.composite(models)(), st.sampled_from([0.05, 0.3, 0.9]))
@settings(max_examples=60, deadline=None)
def test_all_pairs_at_once_are_the_single_tests(
    drawn: tuple[np.ndarray[Any, Any], list[ItemScores]], alpha: float
) -> None:
    scores, units = drawn
    plain = units[0].binary and not units[0].strata.any()
    weights = None if plain else units[0].weights
    expected = [paired_test(a, b, layers=(0, 0)).p for a, b in combinations(units, 2)]
    tests = model_tests(len(units), [(range(len(units)), scores, weights)])
    assert (tests.p <= np.array(expected)).all(), "what stands for a test is never above it"
    rejected = significant([tests], alpha)[0].tolist()
    assert rejected == [p <= alpha for p in holm(expected)]
    tests.settle(np.arange(len(expected)))
    assert tests.p.tolist() == expected


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=5))
def test_holm_over_benchmarks_rejects_what_holm_rejects(worlds: list[list[float]]) -> None:
    flat = holm([p for world in worlds for p in world])
    tests = [
        PairTests(3, np.array(world) / 2, np.zeros(3, bool), world.__getitem__) for world in worlds
    ]
    assert np.concatenate(significant(tests, 0.05)).tolist() == [p <= 0.05 for p in flat]


def test_drawn_tests_that_cannot_matter_are_not_made() -> None:
    """Of 60 models 1,770 pairs: the least p of 20,000 draws, 1/20,001, is not enough for Holm."""
    scores = np.random.default_rng(0).random((60, 70)) + np.arange(60)[:, None]

    def made(pair: int) -> float:
        raise AssertionError(f"pair {pair} was tested")

    tests = model_tests(60, [(range(60), scores, np.full(70, 1 / 70))])
    tests.make = made
    assert not significant([tests], 0.05)[0].any()


def test_models_of_other_units_cannot_be_told_apart() -> None:
    right = np.arange(40) < np.array([[40], [0], [40]])
    tests = model_tests(3, [((0, 1), right[:2], None), ((2,), right[2:], None)])
    assert tests.p.tolist() == [paired(40, 0), 1.0, 1.0]


def paired(a: int, b: int) -> float:
    right = np.arange(40)[None] < np.array([[a], [b]])
    return float(pair_tests.mcnemar_of_all(right)[0, 1])


def test_units_are_the_same_whatever_the_width_of_their_numbers(root: Path) -> None:
    path, record = next(one for one in ResultStore(root) if one[1]["task"] == "knn")
    units = layer_item_scores(record, path, 3)
    assert units is not None
    narrow = ItemScores(**{**vars(units), "ids": units.ids.astype(np.int32)})
    other = ItemScores(**{**vars(units), "ids": units.ids + 1})
    assert module.units_digest(narrow) == module.units_digest(units) != module.units_digest(other)
