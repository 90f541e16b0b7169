"""Is a difference between two models real? Paired tests on the same images, queries or sequences.

mcnemar     accuracy: of the images that only one model gets right, does either get more? Exact binomial
            (McNemar 1947); interval of the difference by Agresti and Min (2005).
sign-flip   mean per class, mean AP, J, F, means over draws of few labels: if the models were alike, every
            unit's difference would be as likely with the other sign. All sign patterns up to 20 units that
            differ, else 20,000 seeded draws, p = (1 + hits) / (1 + draws), which is never 0 (Phipson, Smyth
            2010). Interval: paired bootstrap; by strata for the mean per class.

Holm (1979) makes p values of many layers and tasks hold together. Best layers: see `best_layers`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import UsageError
from sdssl_bench.statistics.intervals import (
    equal_strata_items,
    normal_quantile,
    ratio_bounds,
    stratified_variance,
)
from sdssl_bench.statistics.items import ItemScores

DRAWS = 20_000
EXACT_UNITS = 20
"""Up to 2^20 sign patterns are all gone through."""
SLACK = 1e-12
"""Sums that differ by less are equal; equal ones count as at least as extreme."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """What paired scores say of model b against model a.

    Attributes:
        a: score of model a, a fraction.
        b: score of model b.
        low: lower end of the interval of b - a.
        high: upper end.
        p: two-sided p value of "no difference".
        n: units that both models were scored on.
        unit: "images", "queries" or "sequences".
        test: how p was computed.
        layers: (layer of a, layer of b).
        only_a: units that only a gets right; -1 where units are not right or wrong.
        only_b: likewise.
    """

    a: float
    b: float
    low: float
    high: float
    p: float
    n: int
    unit: str
    test: str
    layers: tuple[int, int]
    only_a: int = -1
    only_b: int = -1

    @property
    def difference(self) -> float:
        """Score of b minus score of a."""
        return self.b - self.a


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p value of McNemar's test.

    Args:
        only_a: items that only the first is right about.
        only_b: items that only the second is right about.

    >>> round(mcnemar(10, 2), 6)
    0.038574
    """
    from scipy.special import bdtr

    total = only_a + only_b
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), total, 0.5))) if total else 1.0


def sign_flip(differences: Floats, *, draws: int = DRAWS, seed: int = 0) -> tuple[float, bool]:
    """Two-sided p value of a sum under random signs of its terms, and whether it is exact.

    Args:
        differences: [n] weighted differences of the units.
        draws: sign patterns drawn where there are too many to go through.
        seed: of the draws.

    >>> sign_flip(np.array([1.0, 2.0, 3.0]))
    (0.25, True)
    """
    sizes, count = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    limit = abs(float(differences.sum())) - SLACK
    if count.sum() <= EXACT_UNITS:
        sums = np.zeros(1)
        for size in np.repeat(sizes, count):
            sums = np.concatenate([sums - size, sums + size])
        return float((np.abs(sums) >= limit).mean()), True
    generator, hits = np.random.default_rng(seed), 0
    for start in range(0, draws, 2_000):
        # Of m equal terms as many are positive as m coins show heads.
        heads = coins(count, min(2_000, draws - start), generator)
        hits += int((np.abs((2 * heads - count) @ sizes) >= limit).sum())
    return (1 + hits) / (1 + draws), False


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values that hold together, in the same order (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    return [min(1.0, value) for value, _ in _stepped_up(p_values)]


def holm_factors(p_values: Sequence[float]) -> list[float]:
    """What Holm multiplies each p value by, before the cap at 1: from 1 to the number of tests.

    A test is significant at `alpha` after Holm exactly if its own p is at most alpha / factor.

    >>> holm_factors([0.01, 0.04, 0.03])
    [3.0, 1.5, 2.0]
    """
    stepped = _stepped_up(p_values)
    return [
        value / p if p else float(tests)
        for (value, tests), p in zip(stepped, p_values, strict=True)
    ]


def _stepped_up(p_values: Sequence[float]) -> list[tuple[float, int]]:
    """Holm's adjusted values without the cap at 1, and how many tests each is adjusted for itself."""
    adjusted, highest = [(0.0, 0)] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        tests = len(order) - rank
        highest = max(highest, tests * p_values[index])
        adjusted[index] = highest, tests
    return adjusted


def agreeing(
    low: float, high: float, *, difference: float, n: int, rejected: bool
) -> tuple[float, float]:
    """An interval that excludes 0 exactly if the test has rejected "no difference".

    Test and interval are made by different formulas and can disagree about 0 alone, near the level. The
    test decides: its verdict on 0 replaces the interval's, which costs no coverage of any difference.

    Args:
        low: lower end.
        high: upper end, at the level of the test.
        difference: found.
        n: units.
        rejected: by the test.
    """
    if not rejected or difference == 0:
        return min(low, 0.0), max(high, 0.0)
    least = min(abs(difference), 1 / n) / 2
    return (max(low, least), high) if difference > 0 else (low, min(high, -least))


def aligned(a: ItemScores, b: ItemScores) -> tuple[ItemScores, ItemScores]:
    """Both models' units in the order of their ids.

    Raises:
        UsageError: if they are not the same units.
    """
    first, second = a.ordered(), b.ordered()
    if len(first) != len(second) or not np.array_equal(first.ids, second.ids):
        missing = len(np.setxor1d(first.ids, second.ids))
        raise UsageError(
            f"A paired comparison needs the same {a.kind} on both sides; {missing} of them were scored "
            f"on one side only (of {len(first)} and {len(second)}). Unreadable images may have been "
            "skipped in one run; run both again on the same data."
        )
    if not (
        np.array_equal(first.sizes, second.sizes) and np.array_equal(first.strata, second.strata)
    ):
        raise UsageError(f"The {a.kind} of both sides differ in their classes or objects.")
    return first, second


def paired_test(
    a: ItemScores,
    b: ItemScores,
    *,
    layers: tuple[int, int],
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """Test and interval of b - a.

    Args:
        a: of the first model.
        b: of the second.
        layers: they come from, for the result.
        confidence: of the interval.
        draws: of the sign-flip test.
        seed: of draws and resamples.

    Raises:
        UsageError: if the units are not the same.
    """
    a, b = aligned(a, b)
    steps = b.scores - a.scores
    only_a, only_b = -1, -1
    if a.binary:
        only_a, only_b = int((steps < 0).sum()), int((steps > 0).sum())
    if a.binary and not a.strata.any():
        p, test = mcnemar(only_a, only_b), "McNemar, exact"
    else:
        p, exact = sign_flip(steps * a.weights, draws=draws, seed=seed)
        test = "sign-flip, exact" if exact else f"sign-flip, {draws:,} draws"
    low, high = paired_interval(a, b, confidence=confidence, seed=seed)
    return Difference(a.value, b.value, low, high, p, len(a), a.kind, test, layers, only_a, only_b)


def paired_interval(
    a: ItemScores, b: ItemScores, *, confidence: float, seed: int = 0
) -> tuple[float, float]:
    """Interval of b - a; arguments and errors of `paired_test`."""
    a, b = aligned(a, b)
    steps = b.scores - a.scores
    if a.strata.any():
        return _stratified_bounds(a, steps, confidence, seed)
    if not a.binary:
        return _bootstrap_bounds(a, steps, confidence, seed)
    return paired_proportions(int((steps < 0).sum()), int((steps > 0).sum()), len(a), confidence)


def paired_proportions(
    only_a: int, only_b: int, n: float, confidence: float
) -> tuple[float, float]:
    """Interval of a difference of paired proportions: Wald's, half an item added to each of four cells.

    Agresti and Min 2005; its width is not 0 where the models never disagree.

    >>> [round(end, 3) for end in paired_proportions(5, 15, 100, 0.95)]
    [0.012, 0.184]
    """
    plus, minus, total = only_b + 0.5, only_a + 0.5, n + 2
    centre = (plus - minus) / total
    spread = math.sqrt(plus + minus - (plus - minus) ** 2 / total) / total
    half = normal_quantile(confidence) * spread
    found = (only_b - only_a) / n
    return max(-1.0, min(found, centre - half)), min(1.0, max(found, centre + half))


def _stratified_bounds(
    units: ItemScores, steps: Floats, confidence: float, seed: int
) -> tuple[float, float]:
    """Normal interval with the variance within classes; see `intervals` for the degenerate case."""
    difference, variance = float(steps @ units.weights), stratified_variance(steps, units.strata)
    if variance > 0:
        half = normal_quantile(confidence) * math.sqrt(variance)
    else:
        half = paired_proportions(0, 0, equal_strata_items(units.strata), confidence)[1]
    return max(-1.0, difference - half), min(1.0, difference + half)


def _bootstrap_bounds(
    units: ItemScores, steps: Floats, confidence: float, seed: int
) -> tuple[float, float]:
    difference = float(steps @ units.weights)
    if len(steps) < 2:
        return -1.0, 1.0
    low, high, _, _ = ratio_bounds(difference, steps, units.sizes, confidence=confidence, seed=seed)
    return max(-1.0, low), min(1.0, high)


def coins(count: NDArray[np.int64], draws: int, generator: np.random.Generator) -> Floats:
    """[draws, G] heads among `count` fair coins of each group."""
    heads, single = np.empty((draws, len(count))), count == 1
    # Single coins are far faster as random bits.
    heads[:, single] = generator.integers(0, 2, (draws, int(single.sum())), dtype=np.uint8)
    heads[:, ~single] = generator.binomial(count[~single], 0.5, (draws, int((~single).sum())))
    return heads
