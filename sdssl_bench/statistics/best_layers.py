"""Is one model's best layer better than the other's, when the best layers were chosen on the same test set?

The best of L layers flatters, and a test that ignores the choice errs. So the choice is made anew in
every resample (the interval) and in every permutation (p), which swaps a unit's scores of all layers
between the models. Models of different depth cannot be swapped layer by layer; their p is the bootstrap's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.statistics.intervals import percentile_bounds
from sdssl_bench.statistics.items import ItemScores
from sdssl_bench.statistics.paired_tests import SLACK, Difference, Floats, aligned, coins

RESELECTIONS = 2_000
"""Resamples and permutations in which the best layer is chosen anew."""
CELLS = 4_000_000
"""Counts held in memory at a time."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Units that agree in stratum, size and all scores of both models: G groups.

    Attributes:
        count: [G] units of each group.
        strata: [G] their stratum.
        sizes: [G] their size.
        weights: [G] of one unit in the metric.
        a: [G, La] scores of the first model by layer.
        b: [G, Lb] scores of the second.
    """

    count: NDArray[np.int64]
    strata: NDArray[np.int64]
    sizes: Floats
    weights: Floats
    a: Floats
    b: Floats

    @staticmethod
    def of(a: Mapping[int, ItemScores], b: Mapping[int, ItemScores]) -> "Groups":
        """Of two models' layers.

        Raises:
            UsageError: if the units are not the same in all layers.
        """
        one = next(iter(a.values())).ordered()
        columns = [aligned(one, units)[1].scores for units in (*a.values(), *b.values())]
        rows, first, count = np.unique(
            np.column_stack([one.strata, one.sizes, *columns]),
            axis=0, return_index=True, return_counts=True,
        )  # fmt: skip
        return Groups(
            count=count,
            strata=rows[:, 0].astype(np.int64),
            sizes=rows[:, 1],
            weights=one.weights[first],
            a=rows[:, 2 : 2 + len(a)],
            b=rows[:, 2 + len(a) :],
        )

    def gaps(self, counts: Floats) -> Floats:
        """[draws] best of b minus best of a, from [draws, G] how often each group was drawn."""
        if self.strata.any():  # sizes are 1, so the sums of the strata's sizes stay as they are
            a, b = (counts @ (one * self.weights[:, None]) for one in (self.a, self.b))
        else:
            total = (counts @ self.sizes)[:, None]
            a, b = counts @ self.a / total, counts @ self.b / total
        return np.asarray(b.max(axis=1) - a.max(axis=1))

    def parts(self, draws: int) -> list[int]:
        """Draws in portions that fit into memory."""
        step = max(1, CELLS // len(self.count))
        return [min(step, draws - start) for start in range(0, draws, step)]

    def resampled(self, draws: int, generator: np.random.Generator) -> Floats:
        """[draws, G] how often each group is drawn, within its stratum."""
        drawn = np.zeros((draws, len(self.count)))
        for stratum in np.unique(self.strata):
            members = np.flatnonzero(self.strata == stratum)
            total = int(self.count[members].sum())
            drawn[:, members] = generator.multinomial(
                total, self.count[members] / total, size=draws
            )
        return drawn


def best_layer_test(
    a: Mapping[int, ItemScores],
    b: Mapping[int, ItemScores],
    *,
    confidence: float = 0.95,
    draws: int = RESELECTIONS,
    seed: int = 0,
) -> Difference:
    """The difference of `best_layer_difference`; same arguments and errors."""
    found, _ = best_layer_difference(a, b, confidence=confidence, draws=draws, seed=seed)
    return found


def best_layer_difference(
    a: Mapping[int, ItemScores],
    b: Mapping[int, ItemScores],
    *,
    confidence: float,
    draws: int = RESELECTIONS,
    seed: int,
) -> tuple[Difference, Callable[[float], tuple[float, float]]]:
    """Test and interval of (best layer of b) - (best layer of a), with the choice inside.

    Args:
        a: layer -> units of the first model.
        b: layer -> units of the second.
        confidence: of the interval.
        draws: resamples, and permutations.
        seed: of both.

    Returns:
        What was found, and its interval at any other confidence from the same resamples.

    Raises:
        UsageError: if the units are not the same in all layers.
    """
    one, groups = next(iter(a.values())), Groups.of(a, b)
    generator = np.random.default_rng(seed)
    parts = groups.parts(draws)
    gaps = np.concatenate([groups.gaps(groups.resampled(part, generator)) for part in parts])

    def interval(level: float) -> tuple[float, float]:
        return percentile_bounds(gaps, len(one), level) if len(one) > 1 else (-1.0, 1.0)

    low, high = interval(confidence)
    mean_a, mean_b = ((groups.count * groups.weights) @ scores for scores in (groups.a, groups.b))
    best_a, best_b = float(mean_a.max()), float(mean_b.max())
    if list(a) == list(b):
        steps, hits = (groups.b - groups.a) * groups.weights[:, None], 0
        for part in parts:
            moved = coins(groups.count, part, generator) @ steps
            swapped = (mean_b - moved).max(axis=1) - (mean_a + moved).max(axis=1)
            hits += int((np.abs(swapped) >= abs(best_b - best_a) - SLACK).sum())
        p = (1 + hits) / (1 + draws)
        test = f"swaps with the choice of layers inside, {draws:,} draws"
    else:
        beyond = min(int((gaps <= 0).sum()), int((gaps >= 0).sum()))
        p = min(1.0, 2 * (1 + beyond) / (1 + draws))
        test = f"bootstrap with the choice of layers inside, {draws:,} draws"
    layers = (list(a)[int(mean_a.argmax())], list(b)[int(mean_b.argmax())])
    found = Difference(best_a, best_b, low, high, p, len(one), one.kind, test, layers)
    return found, interval
