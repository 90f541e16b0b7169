"""How far a stored number would move on other test items: intervals from the per-item scores.

Computed from the records alone, without encoder; the recomputed value must be the stored one. What is
resampled is the independent unit of each task (see `items`): images, queries, sequences.

wilson             accuracy over images: the score interval (Wilson 1927), whose coverage is right near 0
                   and 1 too (Brown, Cai, DasGupta 2001).
wilson-stratified  mean per class: images are a sample within each class, so the variance is the mean of
                   the classes' (unbiased, Cochran 1977, section 5.4), and the score interval is taken
                   at the number of images that would have this variance (Korn, Graubard 1998). A
                   bootstrap would give a width of 0 to a class that is wholly right.
bootstrap          mean AP, J, F, and accuracy in the mean over draws of few labels: percentiles of
                   10,000 seeded resamples of queries, sequences or images, taken a little further out so
                   that few units do not make the interval too narrow (Hesterberg 2015, expanded percentile
                   interval). The mean over objects of DAVIS is a ratio; both sums are resampled together
                   (cluster bootstrap).
student            Student's interval, where resamples cannot stand for fewer than ten of these, and need not
                   for more than 2,000; variance of a ratio by linearisation (Cochran 1977).
jackknife          descriptions of the task `analysis`, which are no means over images: normal, from the
                   standard error that the task stored.

What these intervals do not hold: another training seed, another split, the choice of the layer. Of few
labels they are of the mean over the draws that were made; what another draw would change, the standard
deviation over the draws says, which is stored and shown beside it.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.records import Record
from sdssl_bench.statistics.items import ItemScores, layer_entry, layer_item_scores

RESAMPLES = 10_000
FEW, MANY = 10, 2_000
"""Fewer or more queries or sequences than this are left to Student's t."""
WHOLE = 1e-6
"""How far value x n of an accuracy may lie from a whole number."""


@dataclass(frozen=True)
class Interval:
    """A measured number with its uncertainty.

    Attributes:
        value: as stored, a fraction.
        low: lower end, at the confidence asked for.
        high: upper end.
        se: standard error.
        n: independent units.
        unit: "images", "queries" or "sequences".
        method: "wilson", "wilson-stratified", "bootstrap", "student" or "jackknife"; see this
            module.
    """

    value: float
    low: float
    high: float
    se: float
    n: int
    unit: str
    method: str


def layer_interval(
    record: Record,
    record_path: Path,
    layer: int,
    metric: str | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """The interval of one stored number.

    Args:
        record: as read from `record_path`.
        record_path: its file; per-item scores lie beside it.
        layer: 1..L.
        metric: None is the headline.
        confidence: of the interval, between 0 and 1.
        seed: of the bootstrap.

    Returns:
        None where the record holds no per-item scores of this metric, or of a single query or
        sequence, from which no spread can be told.

    Raises:
        UsageError: for a layer or metric that the record does not have, or an impossible confidence.
        DataError: if the per-item scores are missing or do not give the stored number.
    """
    if not 0 < confidence < 1:
        raise UsageError(f"The confidence lies between 0 and 1, found {confidence}.")
    units = layer_item_scores(record, record_path, layer, metric)
    entry = layer_entry(record, layer)
    name = metric if metric is not None else str(record["headline"])
    value = float(entry["metrics"][name])
    if not math.isfinite(value):
        raise DataError(
            f"{record_path}, layer {layer}: {name} is {value}. Delete the record and run it again."
        )
    stored = entry["notes"].get("standard_errors", {})
    if name in stored:
        se, half = float(stored[name]), normal_quantile(confidence) * float(stored[name])
        return Interval(value, value - half, value + half, se, entry["n"], "images", "jackknife")
    if units is not None:
        found = interval(units, confidence=confidence, seed=seed)
        return None if found is None else replace(found, value=value)
    several = "tries" in entry["notes"]  # the mean of several counts is none
    if name.rpartition("/")[2] == "top5" and "target" in entry["items"] and not several:
        # Who was among five is not stored; how many were is, and images are all alike to Wilson.
        hits = value * entry["n"]
        if abs(hits - round(hits)) > WHOLE:
            raise DataError(
                f"{record_path}, layer {layer}: {name} = {value!r} is no share of {entry['n']} images. "
                "Delete the record and run that evaluation again."
            )
        return _wilson(value, entry["n"], confidence)
    return None


def interval(units: ItemScores, *, confidence: float = 0.95, seed: int = 0) -> Interval | None:
    """The interval of the mean of these units; None of a single query or sequence."""
    if units.strata.any():
        return _stratified(units, confidence)
    if units.binary:
        return _wilson(units.value, len(units), confidence)
    n = len(units)
    if n < 2:
        return None
    per_member = units.scores / units.sizes
    if per_member.min() == per_member.max() and per_member[0] in (0.0, 1.0):
        # All at one end: resamples cannot leave it, but other items could. The share of units that are
        # exactly there bounds the mean, so Wilson's interval of that share holds.
        low, high = score_interval(units.value, n, confidence)
        low = -high if units.signed else low
        return Interval(units.value, low, high, 0.0, n, units.kind, "wilson")
    low, high, se, method = ratio_bounds(
        units.value, units.scores, units.sizes, confidence=confidence, seed=seed
    )
    low, high = max(-1.0 if units.signed else 0.0, low), min(1.0, high)
    return Interval(units.value, low, high, se, n, units.kind, method)


def ratio_bounds(
    value: float,
    scores: NDArray[np.float64],
    sizes: NDArray[np.float64],
    *,
    confidence: float,
    seed: int,
) -> tuple[float, float, float, str]:
    """Interval of sum(scores) / sum(sizes) over two independent units or more.

    Args:
        value: the ratio.
        scores: [n] sums of the units, of one model or differences of two.
        sizes: [n] members of the units.
        confidence: of the interval.
        seed: of the bootstrap.

    Returns:
        Lower end, upper end, standard error, and "student" or "bootstrap"; see this module.
    """
    n = len(scores)
    if not FEW <= n <= MANY:
        se = ratio_se(scores, sizes)
        half = student_quantile(n, confidence) * se
        return value - half, value + half, se, "student"
    counts = resample_counts(n, RESAMPLES, seed)
    means = (counts @ scores) / (counts @ sizes)
    low, high = percentile_bounds(means, n, confidence)
    return low, high, float(means.std(ddof=1)) * math.sqrt(n / (n - 1)), "bootstrap"


def percentile_bounds(
    resampled: NDArray[np.float64], n: int, confidence: float
) -> tuple[float, float]:
    """Ends of the expanded percentile interval from resamples of n units (Hesterberg 2015)."""
    tail = expanded_tail(n, confidence)
    low, high = map(float, np.quantile(resampled, [tail, 1 - tail]))
    return low, high


def _wilson(value: float, n: int, confidence: float) -> Interval:
    low, high = score_interval(value, n, confidence)
    return Interval(value, low, high, math.sqrt(value * (1 - value) / n), n, "images", "wilson")


def _stratified(units: ItemScores, confidence: float) -> Interval:
    value, variance = units.value, stratified_variance(units.scores, units.strata)
    effective = equal_strata_items(units.strata)
    if variance > 0:  # not every class is wholly right or wholly wrong
        effective = value * (1 - value) / variance
    low, high = score_interval(value, effective, confidence)
    n, se = len(units), math.sqrt(variance)
    return Interval(value, low, high, se, n, units.kind, "wilson-stratified")


def stratified_variance(scores: NDArray[np.float64], strata: NDArray[np.int64]) -> float:
    """Variance of the mean over strata of the strata's means, unbiased.

    A stratum of one unit shows no spread of its own; it gets that of all units together, which can
    only be too large on average.

    Args:
        scores: [n] of single items.
        strata: [n] 0..S-1, each with at least one item.
    """
    counts = np.bincount(strata)
    means = np.bincount(strata, weights=scores) / counts
    squares = np.bincount(strata, weights=(scores - means[strata]) ** 2)
    pooled = float(((scores - means.mean()) ** 2).sum()) / max(len(scores) - 1, 1)
    within = np.where(counts > 1, squares / np.maximum(counts - 1, 1), pooled)
    return float((within / counts).sum()) / len(counts) ** 2


def equal_strata_items(strata: NDArray[np.int64]) -> float:
    """Items of one sample that tell as much as these strata would if all had the same mean.

    >>> equal_strata_items(np.array([0, 0, 1, 1]))
    4.0
    """
    counts = np.bincount(strata)
    return len(counts) ** 2 / float((1 / counts).sum())


def ratio_se(scores: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """Standard error of sum(scores) / sum(sizes) over independent units, by linearisation.

    >>> round(ratio_se(np.array([1.0, 2.0, 3.0]), np.ones(3)), 4)  # of a mean: sd / sqrt(n)
    0.5774
    """
    n, ratio = len(scores), float(scores.sum() / sizes.sum())
    residuals = (scores - ratio * sizes) / sizes.mean()
    return math.sqrt(float((residuals**2).sum()) / (n * (n - 1)))


def score_interval(value: float, n: float, confidence: float) -> tuple[float, float]:
    """Wilson's interval of a proportion found among n items; n need not be whole.

    >>> [round(end, 4) for end in score_interval(0.9, 10, 0.95)]
    [0.5958, 0.9821]
    """
    z2 = normal_quantile(confidence) ** 2
    centre = (value + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (value * (1 - value) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # Rounding may leave the ends a hair inside a value of exactly 0 or 1.
    return max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half))


def normal_quantile(confidence: float) -> float:
    """Half-width of the normal interval in standard errors."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def expanded_tail(n: int, confidence: float) -> float:
    """Share of resamples to cut off at each end so that n units give the confidence asked for.

    A percentile interval is too narrow by sqrt((n - 1) / n) and lacks Student's correction
    (Hesterberg 2015, section 5.2).
    """
    return NormalDist().cdf(-math.sqrt(n / (n - 1)) * student_quantile(n, confidence))


def student_quantile(n: int, confidence: float) -> float:
    """Half-width in standard errors of Student's interval from n units.

    >>> round(student_quantile(30, 0.95), 3)
    2.045
    """
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, (1 + confidence) / 2))


@lru_cache(maxsize=4)
def resample_counts(n: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """[resamples, n] how often each of n units is drawn; the same for all layers and models."""
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    counts.setflags(write=False)
    return counts
