"""Intervals cover what they promise, and stand on the very numbers that are stored."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.records.reading import items_path, read_record
from sdssl_bench.statistics.derived import record_intervals
from sdssl_bench.statistics.intervals import (
    Interval,
    interval,
    layer_interval,
    resample_counts,
    score_interval,
    stratified_variance,
)
from sdssl_bench.statistics.items import ItemScores, layer_item_scores
from stored_results import (
    COPYDAYS,
    DAVIS,
    PETS,
    RETRIEVAL,
    copydays_layer,
    davis_layer,
    knn_layer,
    retrieval_layer,
    store,
)

TARGET = np.array([0] * 12 + [1] * 4 + [2] * 8)
EXPERIMENTS = 1_000


def answers(seed: int = 0) -> NDArray[np.bool_]:
    return np.asarray(np.random.default_rng(seed).random(len(TARGET)) < 0.7)


def images(correct: NDArray[np.bool_], strata: NDArray[np.int64] | None = None) -> ItemScores:
    n = len(correct)
    return ItemScores(
        correct.astype(float),
        np.ones(n),
        np.zeros(n, np.int64) if strata is None else strata,
        np.arange(n),
        "images",
        binary=True,
    )


def clusters(scores: NDArray[np.float64], sizes: NDArray[np.float64]) -> ItemScores:
    n = len(scores)
    return ItemScores(scores, sizes, np.zeros(n, np.int64), np.arange(n), "sequences", binary=False)


def covered(found: list[Interval | None], truth: float) -> float:
    return float(np.mean([one is not None and one.low <= truth <= one.high for one in found]))


# Which number, of which items


def test_top1_is_wilsons_interval_of_its_images(tmp_path: Path) -> None:
    correct = answers()
    path, record = store(tmp_path, {3: knn_layer(correct, TARGET)})
    found = layer_interval(record, path, 3)
    assert found is not None
    p, n, z = correct.mean(), len(correct), 1.959964
    assert (found.value, found.n, found.unit, found.method) == (p, n, "images", "wilson")
    assert found.se == pytest.approx(math.sqrt(p * (1 - p) / n))
    for end in (found.low, found.high):  # where the score test is exactly at its limit
        assert abs(p - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), abs=1e-6)


def test_top5_is_counted_although_nobody_stored_whose_it_was(tmp_path: Path) -> None:
    path, record = store(tmp_path, {3: knn_layer(answers(), TARGET)})
    found = layer_interval(record, path, 3, "k20/top5")
    assert found is not None
    assert found.low < found.value < found.high
    record["layers"]["3"]["metrics"]["k20/top5"] = 0.3333
    with pytest.raises(DataError, match="is no share of 24 images"):
        layer_interval(record, path, 3, "k20/top5")


def test_mean_per_class_has_the_variance_of_the_means_of_classes(tmp_path: Path) -> None:
    correct = answers()
    path, record = store(tmp_path, {3: knn_layer(correct, TARGET)}, **PETS)
    found = layer_interval(record, path, 3)
    assert found is not None
    per_class = [correct[c == TARGET] for c in range(3)]
    assert found.value == pytest.approx(np.mean([one.mean() for one in per_class]))
    variance = sum(one.var(ddof=1) / len(one) for one in per_class) / 9
    assert found.se == pytest.approx(math.sqrt(variance))
    assert (found.method, found.unit) == ("wilson-stratified", "images")


def test_stratified_variance_is_that_of_resampling_within_classes() -> None:
    correct = answers().astype(float)
    generator, sizes = np.random.default_rng(1), np.bincount(TARGET)
    hits = np.bincount(TARGET, weights=correct).astype(int)
    # n - 1 draws per class: the resampling that is unbiased (Rao, Wu 1988).
    draws = generator.binomial(sizes - 1, hits / sizes, (200_000, 3)) / (sizes - 1)
    assert stratified_variance(correct, TARGET) == pytest.approx(draws.mean(1).var(), rel=0.02)


def test_a_class_of_one_image_is_not_certain() -> None:
    correct = np.array([1, 0, 1, 1], bool)
    found = interval(images(correct, np.arange(4)))
    assert found is not None
    assert found.se == pytest.approx(math.sqrt(correct.var(ddof=1) / 4))


@pytest.mark.parametrize("right", [True, False])
def test_a_perfect_or_hopeless_score_is_not_certain(right: bool) -> None:
    correct = np.full(24, right)
    for strata in (None, TARGET):
        found = interval(images(correct, strata))
        assert found is not None
        assert found.high - found.low > 0.1
        assert found.low <= float(right) <= found.high
    found = interval(clusters(np.full(30, float(right)), np.ones(30)))
    assert found is not None
    assert found.high - found.low > 0.1


def test_mean_ap_leaves_out_queries_without_positives(tmp_path: Path) -> None:
    ap = np.random.default_rng(0).beta(2, 3, 70)
    ap[[3, 9]] = np.nan
    path, record = store(tmp_path, {2: retrieval_layer(ap)}, **RETRIEVAL)
    found = layer_interval(record, path, 2)
    assert found is not None
    assert (found.n, found.unit, found.method) == (68, "queries", "bootstrap")
    assert found.value == np.nanmean(ap)
    assert found.se == pytest.approx(np.nanstd(ap, ddof=1) / math.sqrt(68), rel=0.03)


def test_precisions_and_fewer_distractors_have_their_own_items(tmp_path: Path) -> None:
    metrics, items = retrieval_layer(np.random.default_rng(0).beta(2, 3, 70))
    precision = np.where(np.arange(70) % 7 == 0, np.nan, np.arange(70) / 70)
    metrics |= {
        "M/mP@5": float(np.nanmean(precision)),
        "d100/M/mAP": metrics["M/mAP"],
        "M/mP@1": 0.4,
    }
    items |= {"M/p@5": precision, "d100/M/ap": items["M/ap"]}
    path, record = store(tmp_path, {2: (metrics, items)}, **RETRIEVAL)
    found = layer_interval(record, path, 2, "M/mP@5")
    assert found is not None
    assert (found.n, found.unit) == (60, "queries")
    assert layer_interval(record, path, 2, "d100/M/mAP") == layer_interval(record, path, 2)
    assert layer_interval(record, path, 2, "M/mP@1") is None


def test_a_decay_of_nothing_may_be_of_either_sign() -> None:
    zero = clusters(np.zeros(30), np.ones(30))
    found = interval(replace(zero, signed=True))
    assert found is not None
    assert found.low == -found.high < 0


def test_copy_detection_resamples_copies_at_either_length_of_list(tmp_path: Path) -> None:
    position = np.random.default_rng(0).geometric(0.2, 229) - 1
    path, record = store(tmp_path, {1: copydays_layer(position)}, **COPYDAYS)
    short, whole = (layer_interval(record, path, 1, f"strong/{m}") for m in ("mAP@20", "mAP"))
    assert short is not None
    assert whole is not None
    assert short.value < whole.value
    assert (short.n, short.unit) == (229, "queries")
    assert layer_interval(record, path, 1, "strong/muAP") is None


def test_copies_are_told_apart_by_their_image(tmp_path: Path) -> None:
    """So that runs which skipped different unreadable images are never paired by position."""
    metrics, items = copydays_layer(np.arange(12))
    items |= {"strong/index": np.arange(100, 112), "d9/strong/position": np.arange(12)}
    metrics["d9/strong/mAP@20"] = metrics["strong/mAP@20"]
    path, record = store(tmp_path, {1: (metrics, items)}, **COPYDAYS)
    for name in ("strong/mAP@20", "d9/strong/mAP@20"):
        units = layer_item_scores(record, path, 1, name)
        assert units is not None
        assert units.ids.tolist() == list(range(100, 112))


def test_many_units_need_no_resamples() -> None:
    scores = np.random.default_rng(0).beta(2, 2, 2_001)
    found = interval(clusters(scores, np.ones(2_001)))
    assert found is not None
    assert found.method == "student"
    assert found.se == pytest.approx(scores.std(ddof=1) / math.sqrt(2_001))


@pytest.mark.parametrize(
    ("units", "method"),
    [(9, "student"), (10, "bootstrap"), (2_000, "bootstrap"), (2_001, "student")],
)
def test_ten_to_two_thousand_units_are_resampled(units: int, method: str) -> None:
    """Their standard error is the sample's, not the resamples', which is too small by 1 / n."""
    scores = np.random.default_rng(1).beta(2, 2, units)
    found = interval(clusters(scores, np.ones(units)))
    assert found is not None
    assert found.method == method
    assert found.se == pytest.approx(scores.std(ddof=1) / math.sqrt(units), rel=0.025)


def test_video_scores_resample_sequences_and_average_objects(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    objects = [f"video-{s}_{k}" for s in range(12) for k in range(1, 2 + s % 3)]
    j, f = generator.random((2, len(objects)))
    path, record = store(tmp_path, {1: davis_layer(objects, j, f)}, **DAVIS)
    found = layer_interval(record, path, 1)
    assert found is not None
    assert (found.n, found.unit) == (12, "sequences")
    assert found.value == (j.mean() + f.mean()) / 2
    names = np.array([name.rpartition("_")[0] for name in objects])
    groups = [((j + f) / 2)[names == name] for name in dict.fromkeys(names.tolist())]
    twin = []
    for _ in range(10_000):
        chosen = [groups[i] for i in generator.integers(12, size=12)]
        twin.append(np.concatenate(chosen).mean())
    assert found.se == pytest.approx(np.std(twin) * math.sqrt(12 / 11), rel=0.05)
    for name in ("J-Recall", "J-Decay"):
        assert layer_interval(record, path, 1, name) is not None
    assert layer_interval(record, path, 1, "F-Recall") is None  # as in records of before


def test_few_units_are_left_to_student_and_one_has_no_interval() -> None:
    found = interval(clusters(np.array([0.4, 0.6, 0.5]), np.ones(3)))
    assert found is not None
    assert found.method == "student"
    assert found.low < 0.4
    assert found.high > 0.6
    assert interval(clusters(np.array([0.4]), np.ones(1))) is None


def test_the_headline_of_every_layer_has_an_interval(tmp_path: Path) -> None:
    layers = {layer: knn_layer(answers(layer), TARGET) for layer in (1, 2, 3)}
    path, record = store(tmp_path, layers)
    found = record_intervals(record, path)
    assert list(found) == [1, 2, 3]
    assert found[2] == layer_interval(record, path, 2)


def test_scores_of_another_run_of_the_layer_are_not_taken_for_the_best_epochs(
    tmp_path: Path,
) -> None:
    """`correct` without prefix belongs to the headline's run."""
    metrics, items = knn_layer(answers(), TARGET)
    top1 = metrics["k20/top1"]
    items = {"index": items["index"], "target": TARGET, "correct": items["k20/correct"]}
    last = {"top1": top1, "best_epoch_on_test/top1": 0.9, "val/top1": 0.8}
    path, record = store(tmp_path / "a", {1: (last, items)}, headline="top1")
    assert layer_interval(record, path, 1) is not None
    assert layer_interval(record, path, 1, "best_epoch_on_test/top1") is None
    assert layer_interval(record, path, 1, "val/top1") is None
    best = {"top1": 0.1, "best_epoch_on_test/top1": top1}
    path, record = store(tmp_path / "b", {1: (best, items)}, headline="best_epoch_on_test/top1")
    assert layer_interval(record, path, 1) is not None
    assert layer_interval(record, path, 1, "top1") is None


def test_descriptions_have_the_interval_of_their_stored_standard_error(tmp_path: Path) -> None:
    path, record = store(
        tmp_path, {1: ({"uniformity": -2.5, "rankme": 9.0}, {})}, headline="uniformity"
    )
    record["layers"]["1"]["notes"] = {"standard_errors": {"uniformity": 0.1}}
    found = layer_interval(record, path, 1)
    assert found is not None
    assert (found.value, found.se, found.method) == (-2.5, 0.1, "jackknife")
    assert (found.low, found.high) == pytest.approx((-2.696, -2.304), abs=1e-3)
    assert layer_interval(record, path, 1, "rankme") is None


# Trust


def test_scores_that_do_not_give_the_stored_number_are_refused(tmp_path: Path) -> None:
    path, record = store(tmp_path, {1: knn_layer(answers(), TARGET)})
    record["layers"]["1"]["metrics"]["k20/top1"] += 1 / 24
    with pytest.raises(DataError, match="per-item scores give"):
        layer_interval(record, path, 1)


def test_missing_scores_are_an_error_not_a_hole(tmp_path: Path) -> None:
    path, record = store(tmp_path, {1: knn_layer(answers(), TARGET)})
    items_path(path).unlink()
    with pytest.raises(DataError, match="Expected per-item scores"):
        layer_interval(record, path, 1)
    np.savez(items_path(path), **{"layer01/index": np.arange(24)})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="lie beside it, but they do not"):
        layer_interval(record, path, 1)


def test_what_a_record_does_not_have_is_a_usage_error(tmp_path: Path) -> None:
    path, record = store(tmp_path, {1: knn_layer(answers(), TARGET)})
    with pytest.raises(UsageError, match="has layers 1, not 2"):
        layer_interval(record, path, 2)
    with pytest.raises(UsageError, match="Did you mean 'k20/top1'"):
        layer_interval(record, path, 1, "k2/top1")
    with pytest.raises(UsageError, match="between 0 and 1"):
        layer_interval(record, path, 1, confidence=95)


def test_the_same_record_gives_the_same_interval(tmp_path: Path) -> None:
    ap = np.random.default_rng(0).beta(2, 3, 70)
    path, record = store(tmp_path, {2: retrieval_layer(ap)}, **RETRIEVAL)
    first = layer_interval(record, path, 2)
    resample_counts.cache_clear()
    assert layer_interval(read_record(path), path, 2) == first
    assert layer_interval(record, path, 2, seed=1) != first
    wide = layer_interval(record, path, 2, confidence=0.99)
    assert first is not None
    assert wide is not None
    assert wide.low < first.low
    assert first.high < wide.high


def test_units_are_aligned_with_their_ids(tmp_path: Path) -> None:
    metrics, items = knn_layer(answers(), TARGET)
    items["index"] = items["index"] + 100
    path, record = store(tmp_path, {1: (metrics, items)})
    units = layer_item_scores(record, path, 1)
    assert units is not None
    assert units.ids.tolist() == list(range(100, 124))
    assert units.scores.astype(bool).tolist() == answers().tolist()


# Coverage, by simulation: 1,000 samples of a known truth each. 0.95 +- 0.023 holds 99.9 % of the time.


@pytest.mark.parametrize(("n", "p"), [(400, 0.7), (100, 0.95), (10_000, 0.995)])
def test_wilsons_interval_covers(n: int, p: float) -> None:
    hits = np.random.default_rng(n).binomial(n, p, EXPERIMENTS)
    ends = {int(k): score_interval(k / n, n, 0.95) for k in np.unique(hits)}
    found = np.mean([ends[int(k)][0] <= p <= ends[int(k)][1] for k in hits])
    assert 0.92 <= found <= 0.98


@pytest.mark.parametrize("top", [0.8, 0.99])
def test_the_interval_of_the_mean_per_class_covers(top: float) -> None:
    generator = np.random.default_rng(7)
    strata = np.repeat(np.arange(20), generator.integers(5, 30, 20))
    accuracy = np.linspace(top - 0.15, top, 20)
    draws = generator.random((EXPERIMENTS, len(strata))) < accuracy[strata]
    found = [interval(images(draw, strata)) for draw in draws]
    assert 0.927 <= covered(found, float(accuracy.mean())) <= 0.98


@pytest.mark.parametrize("n", [30, 70, 157])
def test_the_interval_of_a_mean_ap_covers(n: int) -> None:
    draws = np.random.default_rng(n).beta(2, 1.5, (EXPERIMENTS, n))
    found = [interval(clusters(draw, np.ones(n))) for draw in draws]
    assert 0.927 <= covered(found, 2 / 3.5) <= 0.973


def test_the_interval_of_a_mean_over_objects_covers() -> None:
    """Objects share the difficulty of their sequence; their number is part of the sample."""
    generator = np.random.default_rng(3)
    found = []
    for _ in range(EXPERIMENTS):
        sizes = generator.integers(1, 4, 30)
        level = generator.uniform(0.3, 0.9, 30)
        found.append(interval(clusters(sizes * level, sizes.astype(float))))
    assert 0.927 <= covered(found, 0.6) <= 0.973


def test_resampling_objects_instead_would_promise_too_much() -> None:
    """Why sequences are the unit: the interval of independent objects misses far too often."""
    generator = np.random.default_rng(3)
    found = []
    for _ in range(200):
        level = np.repeat(generator.uniform(0.3, 0.9, 15), 4)
        found.append(interval(clusters(level, np.ones(60))))
    assert covered(found, 0.6) < 0.8


def test_scores_under_the_name_of_a_metric_are_its_units_whatever_task_stored_them(
    tmp_path: Path,
) -> None:
    scores = np.random.default_rng(3).normal(0.5, 0.2, 40)
    items = {"index": np.arange(40), "mIoU": scores}
    metrics = {"mIoU": float(scores.mean()), "other": 0.25}
    path, record = store(tmp_path, {3: (metrics, items)}, headline="mIoU", task="of-others")
    units = layer_item_scores(record, path, 3)
    assert units is not None
    assert (units.kind, len(units), units.binary) == ("images", 40, False)
    found = layer_interval(record, path, 3)
    assert found is not None
    assert found.low < found.value == metrics["mIoU"] < found.high
    assert found.se == pytest.approx(scores.std(ddof=1) / math.sqrt(40), rel=0.05)
    assert layer_item_scores(record, path, 3, "other") is None
    record["layers"]["3"]["metrics"]["mIoU"] += 0.01
    with pytest.raises(DataError, match="One of the two files was changed"):
        layer_item_scores(record, path, 3)
