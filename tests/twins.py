"""Definitions written out in loops, for the tests of several rooms."""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def drawn_area(relevant: list[bool], num_positives: int) -> float:
    """The precision-recall polygon, point by point, and the area under its straight lines."""
    points = [(0.0, 1.0)]
    hits = 0
    for place, hit in enumerate(relevant, start=1):
        hits += hit
        before = (hits - hit) / (place - 1) if place > 1 else 1.0
        if hit:
            points += [(points[-1][0], before), (hits / num_positives, hits / place)]
    area = 0.0
    for (r0, p0), (r1, p1) in pairwise(points):
        area += (r1 - r0) * (p0 + p1) / 2
    return area


def hsic1(x: Matrix, y: Matrix) -> float:
    """Song et al. (2012), eq. 5, entry by entry."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    trace = sum(k[i, j] * m[j, i] for i, j in pairs)
    sums = sum(k[i, j] for i, j in pairs) * sum(m[i, j] for i, j in pairs)
    cross = sum(k[i, j] * m[j, q] for i, j in pairs for q in range(n) if q != j)
    return (trace + sums / ((n - 1) * (n - 2)) - 2 / (n - 2) * cross) / (n * (n - 3))


def literal_cka(x: Matrix, y: Matrix, batches: list[NDArray[np.int64]]) -> float:
    """Minibatch CKA (Nguyen et al. 2021) by its formula."""
    parts = [[hsic1(x[b], y[b]), hsic1(x[b], x[b]), hsic1(y[b], y[b])] for b in batches]
    inner, left, right = np.mean(parts, axis=0)
    return float(inner / np.sqrt(left * right))


def literal_pairs(x, y, gamma: float, t: float) -> dict[str, float]:
    """The definitions, pair by pair."""
    n = len(x)
    align = sum(math.dist(a, b) ** gamma for a, b in zip(x, y, strict=True)) / n
    negative, uniform = [], []
    for view in (x, y):
        distances = [math.dist(view[i], view[j]) for i in range(n) for j in range(i + 1, n)]
        negative.append(np.mean([d**gamma for d in distances]))
        uniform.append(math.log(np.mean([math.exp(-t * d * d) for d in distances])))
    return {
        "alignment": align,
        "uniformity": np.mean(uniform),
        "negative_alignment": np.mean(negative),
        "R": np.mean(negative) / align,
        "uniformity_ratio": -np.mean(uniform) / align,
    }
