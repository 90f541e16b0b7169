"""The paired tests of all pairs of many models at once, and which of them Holm rejects.

The p values are those of `paired_tests.paired_test`. Where a test has to be drawn, its least possible p
stands for it until a decision depends on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.statistics.paired_tests import DRAWS, EXACT_UNITS, Floats, sign_flip

DRAWN_BLOCK = 64
"""Drawn tests that are made before the others are looked at again."""


@dataclass(eq=False)
class PairTests:
    """Tests of all pairs of M models, (0, 1), (0, 2), ..., (M - 2, M - 1).

    Attributes:
        models: M.
        p: [M (M - 1) / 2] p values, or the least that they can be.
        made: [M (M - 1) / 2] which of them are p values.
        make: number of a pair -> its p value.
    """

    models: int
    p: Floats
    made: NDArray[np.bool_]
    make: Callable[[int], float] = field(repr=False)

    @staticmethod
    def known(models: int, p: Sequence[float]) -> "PairTests":
        """Of p values that are at hand."""
        values = np.array(p, np.float64)
        return PairTests(
            models, values, np.ones(len(values), bool), lambda pair: float(values[pair])
        )

    def settle(self, pairs: NDArray[np.int64]) -> None:
        """Make these tests."""
        for pair in pairs.tolist():
            if not self.made[pair]:
                self.p[pair], self.made[pair] = self.make(pair), True

    def largest_of_first(self, alpha: float) -> float:
        """The largest p of model 0 against the others, or one that is above alpha as it is."""
        for pair in range(self.models - 1):  # near places are the most alike
            if self.p[: self.models - 1].max() > alpha:
                break
            self.settle(np.array([pair]))
        return float(self.p[: self.models - 1].max())


def model_tests(
    models: int, parts: Sequence[tuple[Sequence[int], NDArray[np.generic], Floats | None]]
) -> PairTests:
    """The tests of models by falling score.

    Args:
        models: M.
        parts: (places, [m, n] scores, [n] weights of the units or None) of the models that were scored
            on the same units; without weights the units are one stratum of right and wrong, by McNemar.
            Models of different parts cannot be told apart: p is 1.
    """
    size = models * (models - 1) // 2
    p, made = np.ones(size), np.ones(size, bool)
    part_of = np.zeros(models, int)
    drawn: dict[int, tuple[list[int], NDArray[np.generic], Floats]] = {}
    for number, (members, scores, per_unit) in enumerate(parts):
        part_of[list(members)] = number
        if per_unit is not None:
            drawn[number] = list(members), scores, per_unit
    for places, scores, weights in parts:
        rows, columns = np.triu_indices(len(places), 1)
        at = np.asarray(places)
        numbers = _number(models, at[rows], at[columns])
        if weights is None:
            p[numbers] = mcnemar_of_all(scores)[rows, columns]
            continue
        differing = _differing(scores)[rows, columns]
        few = differing <= EXACT_UNITS
        p[numbers] = np.where(few, 2.0 ** (1 - np.minimum(differing, EXACT_UNITS)), 1 / (1 + DRAWS))
        p[numbers[differing == 0]] = 1.0
        made[numbers] = differing == 0

    def make(pair: int) -> float:
        first, second = _places(models, pair)
        places, scores, weights = drawn[part_of[first]]
        i, j = places.index(first), places.index(second)
        steps = scores[j].astype(np.float64) - scores[i].astype(np.float64)
        return sign_flip(steps * weights)[0]

    return PairTests(models, p, made, make)


def _number(models: int, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the pairs (first, second), first < second.

    >>> _number(4, np.array([0, 1, 2]), np.array([1, 3, 3])).tolist()
    [0, 4, 5]
    """
    return first * models - first * (first + 1) // 2 + second - first - 1


def _places(models: int, pair: int) -> tuple[int, int]:
    """The inverse of `_number`.

    >>> [_places(3, pair) for pair in range(3)]
    [(0, 1), (0, 2), (1, 2)]
    """
    first = 0
    while pair >= models - 1 - first:
        pair -= models - 1 - first
        first += 1
    return first, first + 1 + pair


def mcnemar_of_all(right: NDArray[np.generic]) -> Floats:
    """[M, M] two-sided exact p values of McNemar's test, from [M, n] right or wrong."""
    from scipy.special import bdtr

    both = _both(right)
    alone = np.diagonal(both)
    only = alone[:, None] - both
    fewer, total = np.minimum(only, only.T), only + only.T
    return np.where(total > 0, np.minimum(1.0, 2 * bdtr(fewer, total, 0.5)), 1.0)


def _both(right: NDArray[np.generic]) -> NDArray[np.int64]:
    """[M, M] units that both models are right about; sums of float32 ones are exact below 2^24."""
    total = np.zeros((len(right), len(right)))
    step = 1 << 13  # bounds the memory
    for start in range(0, right.shape[1], step):
        part = right[:, start : start + step].astype(np.float32)
        total += part @ part.T
    return total.astype(np.int64)


def _differing(scores: NDArray[np.generic]) -> NDArray[np.int64]:
    """[M, M] units in whose scores two models differ."""
    if scores.dtype == np.bool_:
        both = _both(scores)
        alone = np.diagonal(both)
        return np.asarray(alone[:, None] + alone[None, :] - 2 * both)
    return np.stack([(scores != one).sum(axis=1) for one in scores])


def significant(tests: Sequence[PairTests], alpha: float) -> list[NDArray[np.bool_]]:
    """Which pairs differ, p values of all of them adjusted together (Holm 1979).

    Holm goes through the p values from the least and stops at the first that is too large. A test that
    is not made yet has its least possible p; it is made if that does not stop there.

    Args:
        tests: of several benchmarks.
        alpha: level of significance.

    Returns:
        One array [pairs] each.
    """
    size = sum(len(one.p) for one in tests)
    while True:
        # No others can be rejected. Of equal ones all are or none is, so a threshold tells which.
        p = np.sort(np.concatenate([one.p[one.p <= alpha] for one in tests]))
        passing = (size - np.arange(len(p))) * p <= alpha
        stop = np.inf if passing.all() else p[passing.argmin()]
        found = [(one.p <= alpha) & (one.p < stop) for one in tests]
        open_ = [np.flatnonzero(asked & ~one.made) for asked, one in zip(found, tests, strict=True)]
        count = sum(map(len, open_))
        if not count:
            return found
        for one, pairs in zip(tests, open_, strict=True):
            one.settle(pairs[np.argsort(one.p[pairs])][: max(DRAWN_BLOCK, count // 8)])
