"""The paired tests are exact where they say so, keep their level, and see real differences."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sdssl_bench.errors import UsageError
from sdssl_bench.statistics.best_layers import best_layer_test
from sdssl_bench.statistics.items import ItemScores
from sdssl_bench.statistics.paired_tests import (
    Difference,
    agreeing,
    aligned,
    holm,
    holm_factors,
    mcnemar,
    paired_interval,
    paired_proportions,
    paired_test,
    sign_flip,
)

EXPERIMENTS = 1_000
LEVEL = (0.03, 0.073)
"""0.05 plus or minus what 1,000 experiments leave open at 99.9 %: 3.3 x 0.0069."""


def units(
    scores: NDArray[np.float64],
    *,
    strata: NDArray[np.int64] | None = None,
    sizes: NDArray[np.float64] | None = None,
    binary: bool = False,
) -> ItemScores:
    n = len(scores)
    return ItemScores(
        scores,
        np.ones(n) if sizes is None else sizes,
        np.zeros(n, np.int64) if strata is None else strata,
        np.arange(n),
        "images" if binary else "queries",
        binary,
    )


def compare(a: ItemScores, b: ItemScores, draws: int = 999) -> Difference:
    return paired_test(a, b, layers=(1, 1), draws=draws)


# Exactness, against enumeration


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 5), (3, 3), (2, 9), (7, 4)])
def test_mcnemar_counts_all_assignments_of_the_disputed_images(only_a: int, only_b: int) -> None:
    total = only_a + only_b
    gap = abs(only_a - only_b)
    ways = [abs(2 * k - total) >= gap for k in range(total + 1) for _ in range(math.comb(total, k))]
    assert mcnemar(only_a, only_b) == pytest.approx(np.mean(ways))


def test_mcnemar_is_the_sign_flip_test_of_images() -> None:
    steps = np.array([1.0] * 9 + [-1.0] * 3 + [0.0] * 30)
    p, exact = sign_flip(steps)
    assert exact
    assert p == pytest.approx(mcnemar(3, 9))


def test_sign_flip_goes_through_every_pattern() -> None:
    steps = np.random.default_rng(0).normal(0.4, 1, 9)
    sums = [abs(np.dot(steps, signs)) for signs in itertools.product((-1, 1), repeat=9)]
    p, exact = sign_flip(np.append(steps, [0.0, 0.0]))
    assert exact
    assert p == pytest.approx(np.mean(np.array(sums) >= abs(steps.sum()) - 1e-12))


def test_twenty_units_are_gone_through_and_twenty_one_are_drawn() -> None:
    steps = np.random.default_rng(0).normal(0.2, 1, 21)
    assert [sign_flip(steps[:n], draws=9)[1] for n in (19, 20, 21)] == [True, True, False]
    assert sign_flip(np.append(steps[:20], [0.0] * 9), draws=9)[1], "units without a difference"


def test_drawn_signs_approach_the_exact_p_value() -> None:
    steps = np.append(np.random.default_rng(1).normal(0.5, 1, 21), [])
    p, exact = sign_flip(steps, draws=40_000)
    assert not exact
    sums = np.zeros(1)
    for step in steps:
        sums = np.concatenate([sums - step, sums + step])
    truth = float((np.abs(sums) >= abs(steps.sum()) - 1e-12).mean())
    assert p == pytest.approx(truth, abs=4 * math.sqrt(truth / 40_000))


@pytest.mark.parametrize("draws", [1, 1_999, 2_000, 2_001, 5_000])
def test_as_many_signs_are_drawn_as_were_asked_for(draws: int) -> None:
    """Every pattern is at least as extreme as a sum of 0."""
    assert sign_flip(np.tile([1.0, -1.0], 15), draws=draws) == (1.0, False)


def test_drawn_signs_never_give_p_zero_and_repeat_themselves() -> None:
    steps = np.ones(60)
    assert sign_flip(steps, draws=99) == (0.01, False)
    noise = np.random.default_rng(0).normal(0.1, 1, 60)
    assert sign_flip(noise, seed=3) == sign_flip(noise, seed=3)


def test_equal_models_differ_in_nothing() -> None:
    ap = np.random.default_rng(0).random(70)
    found = compare(units(ap), units(ap))
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
    right = units((ap > 0.5).astype(float), binary=True)
    found = compare(right, right)
    assert (found.p, found.only_a, found.only_b) == (1, 0, 0)
    assert found.low < 0 < found.high  # 70 images cannot prove that there is no difference


def test_holm_is_the_textbooks_step_down() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        p = generator.random(6).round(2)
        order = np.argsort(p, kind="stable")
        twin = np.empty(6)
        for rank, index in enumerate(order):
            twin[index] = max(min(1.0, (6 - j) * p[order[j]]) for j in range(rank + 1))
        assert holm(p.tolist()) == pytest.approx(twin)
    assert holm([]) == []


def test_mean_per_class_weighs_an_image_of_a_rare_class_more() -> None:
    strata = np.array([0] * 40 + [1] * 4)
    a, b = np.zeros(44), np.zeros(44)
    b[40:] = 1  # four images of the rare class
    found = compare(units(a, strata=strata, binary=True), units(b, strata=strata, binary=True))
    assert found.difference == 0.5
    assert (found.only_a, found.only_b) == (0, 4)
    assert found.p == 2 / 2**4


def test_sequences_count_as_often_as_they_have_objects() -> None:
    sizes = np.array([1.0, 3.0])
    found = compare(
        units(np.array([0.5, 1.5]), sizes=sizes), units(np.array([0.9, 1.8]), sizes=sizes)
    )
    assert found.a == 0.5
    assert found.difference == pytest.approx(0.7 / 4)
    assert found.p == 0.5


# The same units


def test_units_are_matched_by_their_ids_whatever_their_order() -> None:
    one = units(np.array([0.1, 0.2, 0.3]))
    other = ItemScores(
        np.array([0.3, 0.1, 0.2]), one.sizes, one.strata, np.array([2, 0, 1]), "queries", False
    )
    assert compare(one, other).p == 1
    assert aligned(one, other)[1].scores.tolist() == [0.1, 0.2, 0.3]


def test_other_units_are_refused() -> None:
    one = units(np.random.default_rng(0).random(5))
    fewer = units(np.random.default_rng(0).random(4))
    with pytest.raises(UsageError, match="1 of them were scored on one side only"):
        compare(one, fewer)
    moved = ItemScores(one.scores, one.sizes, one.strata, one.ids + 1, "queries", False)
    with pytest.raises(UsageError, match="2 of them were scored on one side only"):
        best_layer_test({1: one}, {1: moved})
    classes = ItemScores(
        one.scores, one.sizes, np.array([0, 0, 0, 1, 1]), one.ids, "queries", False
    )
    with pytest.raises(UsageError, match="differ in their classes"):
        compare(one, classes)


# Levels: 1,000 experiments in which there is no difference


def level(p_values: list[float]) -> float:
    return float((np.array(p_values) <= 0.05).mean())


def test_mcnemar_keeps_its_level() -> None:
    generator = np.random.default_rng(0)
    disputed = generator.binomial(2_000, 0.2, EXPERIMENTS)
    only_a = generator.binomial(disputed, 0.5)
    found = level([mcnemar(int(a), int(n - a)) for a, n in zip(only_a, disputed, strict=True)])
    assert 0.02 <= found <= LEVEL[1]  # an exact test of counts stays a little below 5 %


def test_the_sign_flip_test_of_queries_keeps_its_level() -> None:
    draws = np.random.default_rng(1).beta(2, 2, (EXPERIMENTS, 2, 30))
    found = level([compare(units(a), units(b)).p for a, b in draws])
    assert LEVEL[0] <= found <= LEVEL[1]


def test_the_test_of_mean_per_class_keeps_its_level() -> None:
    strata = np.repeat(np.arange(12), np.arange(4, 16))
    draws = np.random.default_rng(2).random((EXPERIMENTS, 2, len(strata))) < 0.7
    p = [
        compare(
            units(a.astype(float), strata=strata, binary=True),
            units(b.astype(float), strata=strata, binary=True),
        ).p
        for a, b in draws
    ]
    assert LEVEL[0] <= level(p) <= LEVEL[1]


def test_the_test_of_sequences_keeps_its_level() -> None:
    generator = np.random.default_rng(3)
    sizes = generator.integers(1, 6, 30).astype(float)
    p = []
    for _ in range(EXPERIMENTS):
        level_of_sequence = generator.random(30)
        a, b = (sizes * (level_of_sequence + generator.normal(0, 0.1, 30)) for _ in range(2))
        p.append(compare(units(a, sizes=sizes), units(b, sizes=sizes)).p)
    assert LEVEL[0] <= level(p) <= LEVEL[1]


def layers_of(
    scores: NDArray[np.float64], *, binary: bool = False, strata: NDArray[np.int64] | None = None
) -> dict[int, ItemScores]:
    return {layer + 1: units(row, binary=binary, strata=strata) for layer, row in enumerate(scores)}


def test_choosing_the_best_layer_keeps_its_level_only_with_the_choice_inside() -> None:
    """Model b has twelve layers of equal worth; picking its best flatters it against a fixed layer."""
    generator = np.random.default_rng(4)
    inside, naive = [], []
    for seed in range(EXPERIMENTS):
        a, b = generator.beta(2, 2, (2, 12, 40))
        found = best_layer_test(layers_of(a), layers_of(b), draws=199, seed=seed)
        inside.append(found.p)
        best = int(b.mean(1).argmax())
        naive.append(compare(units(a[0]), units(b[best]), draws=199).p)
    assert LEVEL[0] <= level(inside) <= LEVEL[1]
    assert level(naive) > LEVEL[1]


@pytest.mark.parametrize("strata", [None, np.arange(60) % 7])
def test_the_best_layer_test_of_images_keeps_its_level(strata: NDArray[np.int64] | None) -> None:
    generator = np.random.default_rng(5)
    p = []
    for seed in range(EXPERIMENTS):
        a, b = (
            layers_of(scores.astype(float), binary=True, strata=strata)
            for scores in generator.random((2, 3, 60)) < 0.7
        )
        p.append(best_layer_test(a, b, draws=99, seed=seed).p)
    assert 0.02 <= level(p) <= LEVEL[1]


def test_the_interval_of_best_layers_covers_where_the_best_is_clear() -> None:
    generator = np.random.default_rng(13)
    strata, hits = np.arange(200) % 8, []
    for seed in range(300):
        a = generator.random((2, 200)) < np.array([[0.5], [0.7]])
        b = generator.random((2, 200)) < np.array([[0.8], [0.6]])
        both = [layers_of(one.astype(float), binary=True, strata=strata) for one in (a, b)]
        found = best_layer_test(*both, draws=300, seed=seed)
        hits.append(found.low <= 0.1 <= found.high)
    assert 0.9 <= np.mean(hits) <= 0.985  # 0.95 plus or minus what 300 experiments leave open


def test_holm_keeps_the_chance_of_any_false_alarm() -> None:
    p = np.random.default_rng(6).random((EXPERIMENTS, 12))
    alarms = [min(holm(row.tolist())) <= 0.05 for row in p]
    assert LEVEL[0] <= np.mean(alarms) <= LEVEL[1]
    assert (p.min(1) <= 0.05).mean() > 0.4


# Power and intervals


def test_a_real_difference_is_found_and_covered() -> None:
    generator = np.random.default_rng(7)
    a = generator.beta(2, 2, 200)
    b = np.clip(a + 0.05 + generator.normal(0, 0.1, 200), 0, 1)
    found = compare(units(a), units(b))
    assert found.p <= 0.002
    assert found.low < found.difference < found.high
    assert found.low > 0


def test_intervals_of_differences_cover() -> None:
    generator = np.random.default_rng(8)
    hits = []
    for _ in range(EXPERIMENTS):
        a = generator.beta(2, 2, 70)
        b = a + generator.normal(0.03, 0.1, 70)
        found = paired_test(units(a), units(b), layers=(1, 1), draws=1, seed=0)
        hits.append(found.low <= 0.03 <= found.high)
    assert 0.927 <= np.mean(hits) <= 0.973
    cells = generator.multinomial(300, [0.06, 0.1, 0.84], EXPERIMENTS)
    ends = [paired_proportions(int(x), int(y), 300, 0.95) for x, y, _ in cells]
    assert 0.927 <= np.mean([low <= 0.04 <= high for low, high in ends]) <= 0.98


def test_intervals_of_differences_of_mean_per_class_cover() -> None:
    generator = np.random.default_rng(9)
    strata = np.repeat(np.arange(20), generator.integers(5, 30, 20))
    hits = []
    for _ in range(EXPERIMENTS):
        a = generator.random(len(strata)) < 0.7
        b = np.where(generator.random(len(strata)) < 0.3, generator.random(len(strata)) < 0.9, a)
        found = paired_test(
            units(a.astype(float), strata=strata, binary=True),
            units(b.astype(float), strata=strata, binary=True),
            layers=(1, 1),
            draws=1,
        )
        hits.append(found.low <= 0.06 <= found.high)
    assert 0.92 <= np.mean(hits) <= 0.975


def test_the_best_layer_test_says_which_layers_and_sees_a_real_difference() -> None:
    generator = np.random.default_rng(10)
    base = generator.beta(2, 2, 80)
    a = np.stack([base - 0.2, base, base - 0.1])
    b = np.stack([base - 0.2, base - 0.3, base + generator.normal(0.08, 0.1, 80)])
    found = best_layer_test(layers_of(a), layers_of(b))
    assert found.layers == (2, 3)
    assert found.p < 0.01
    assert found.difference == pytest.approx(b[2].mean() - base.mean())
    assert found.low < found.difference < found.high


def test_models_of_different_depth_are_compared_at_their_best_by_the_bootstrap() -> None:
    generator = np.random.default_rng(11)
    base = generator.beta(2, 2, 80)
    found = best_layer_test(layers_of(np.stack([base, base / 2])), layers_of(base[None] + 0.1))
    assert found.test.startswith("bootstrap")
    assert found.p < 0.01


@pytest.mark.parametrize("sign", [1, -1])
def test_the_bootstrap_over_depths_counts_both_sides(sign: int) -> None:
    """A difference of one standard error has p = 0.317 whichever model is ahead."""
    generator = np.random.default_rng(3)
    noise = generator.normal(0, 0.1, 600)
    noise = (noise - noise.mean()) / noise.std()
    moved = 0.02 * (noise + sign / np.sqrt(600)) + 0.5
    one = np.full(600, 0.5)
    found = best_layer_test(layers_of(np.stack([one, one / 4])), layers_of(moved[None]))
    assert found.difference == pytest.approx(sign * 0.02 / np.sqrt(600))
    assert found.p == pytest.approx(0.317, abs=0.04)


def test_groups_of_equal_images_change_nothing() -> None:
    """The permutation over groups of equal units has the law of one over single units."""
    generator = np.random.default_rng(12)
    a = (generator.random((2, 300)) < 0.6).astype(float)
    b = (generator.random((2, 300)) < 0.66).astype(float)
    found = best_layer_test(
        layers_of(a, binary=True), layers_of(b, binary=True), draws=5_000, seed=1
    )
    gap = b.mean(1).max() - a.mean(1).max()
    extreme = []
    for _ in range(2_000):
        swap = generator.random(300) < 0.5
        x, y = np.where(swap, b, a), np.where(swap, a, b)
        extreme.append(abs(y.mean(1).max() - x.mean(1).max()) >= abs(gap) - 1e-12)
    assert found.p == pytest.approx(np.mean(extreme), abs=0.045)


# Interval and p adjusted alike


@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=12), st.floats(0.001, 0.2))
def test_holm_divides_the_level_as_it_multiplies_p(p_values, alpha) -> None:
    for p, adjusted, factor in zip(p_values, holm(p_values), holm_factors(p_values), strict=True):
        assert 1 - 1e-9 <= factor <= len(p_values) + 1e-9
        assert adjusted == pytest.approx(min(1, factor * p))
        if abs(factor * p - alpha) > 1e-12:
            assert (adjusted <= alpha) == (p <= alpha / factor)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kind", ["classes", "queries"])
def test_no_interval_goes_beyond_all_right_against_all_wrong(sign: int, kind: str) -> None:
    classes = np.array([0, 0, 1, 1, 1, 2]) if kind == "classes" else None
    scores = [np.array([0.0] * 6), np.array([1.0] * 5 + [1.0 if classes is not None else 0.6])]
    a, b = (units(one, strata=classes, binary=classes is not None) for one in scores[::sign])
    found = compare(a, b)
    assert -1 <= found.low < found.high <= 1
    assert (found.high if sign == 1 else -found.low) == 1


def test_weights_make_the_metric_of_the_scores() -> None:
    rng = np.random.default_rng(0)
    strata, sizes = np.array([0, 2, 1, 2, 0, 2]), rng.integers(1, 5, 6).astype(float)
    one = units(sizes * rng.random(6), strata=strata, sizes=sizes)
    means = [one.scores[strata == s].sum() / sizes[strata == s].sum() for s in range(3)]
    assert one.value == pytest.approx(np.mean(means))
    assert one.weights @ one.scores == pytest.approx(one.value)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.sampled_from([0.5, 0.95]))
def test_an_interval_of_paired_images_holds_what_was_found_and_no_impossible_difference(
    only_a, only_b, both, confidence
) -> None:
    n = only_a + only_b + both
    if n:
        low, high = paired_proportions(only_a, only_b, n, confidence)
        assert -1 <= low <= (only_b - only_a) / n <= high <= 1
        assert paired_proportions(only_b, only_a, n, confidence) == pytest.approx((-high, -low))


@given(st.integers(-250, 250), st.floats(0, 0.4), st.integers(500, 1000), st.booleans())
def test_an_interval_excludes_0_exactly_if_the_test_rejects(step, width, n, rejected) -> None:
    difference = step / n
    low, high = agreeing(
        difference - width, difference + width, difference=difference, n=n, rejected=rejected
    )
    assert low <= difference <= high
    assert (low > 0 or high < 0) == (rejected and difference != 0)


def test_classes_in_which_models_never_disagree_leave_a_symmetric_interval() -> None:
    """Half an item in each of four cells (Agresti and Min): spread 1 / (n + 2)."""
    scores, strata = np.arange(60) % 2.0, np.arange(60) % 6
    one = units(scores, strata=strata, binary=True)
    half = 1.959963984540054 / (60 + 2)
    assert paired_interval(one, one, confidence=0.95) == pytest.approx((-half, half))


def test_one_unit_says_nothing_of_the_best_layers() -> None:
    a, b = layers_of(np.array([[0.2], [0.4]])), layers_of(np.array([[0.3], [0.9]]))
    found = best_layer_test(a, b, draws=99)
    assert found.difference == pytest.approx(0.5)
    assert (found.low, found.high) == (-1.0, 1.0)
