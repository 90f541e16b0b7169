"""The weighted vote of the nearest neighbours (Wu et al. 2018; constants of DINO's eval_knn.py)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import UsageError
from sdssl_bench.metrics import class_ranks

BLOCK_VOTES = 4 * 2**20
"""Votes [queries x classes] held at a time (32 MB)."""


def weighted_knn_vote(
    scores: NDArray[np.float32],
    neighbor_targets: NDArray[np.int64],
    targets: NDArray[np.int64],
    *,
    ks: Sequence[int],
    temperature: float,
    num_classes: int,
) -> dict[int, NDArray[np.int64]]:
    """How many classes the vote puts before the true one, for every k from one search.

    Each of the first k neighbours votes exp(score / temperature) for its class.

    Args:
        scores: [Q, K] cosines in descending order, K >= max(ks).
        neighbor_targets: [Q, K] classes of the neighbours.
        targets: [Q] true classes.
        ks: numbers of neighbours that vote.
        temperature: scale of the weights; 0.07 in DINO's eval_knn.py.
        num_classes: C.

    Returns:
        {k: [Q]} ranks: 0 is a correct prediction, below n is among the first n classes. Classes with
        equal votes rank by class id, those without a vote too.

    >>> found = np.array([[0.9, 0.8, 0.7]], np.float32), np.array([[1, 0, 0]])
    >>> weighted_knn_vote(*found, np.array([0]), ks=[1, 3], temperature=0.1, num_classes=2)
    {1: array([1]), 3: array([1])}
    """
    if not ks or not 1 <= min(ks) <= max(ks) <= scores.shape[1]:
        raise UsageError(
            f"k must be in 1..{scores.shape[1]}, the neighbours found: k = {list(ks)}."
        )
    ranks = {k: np.empty(len(scores), np.int64) for k in ks}
    step = max(1, BLOCK_VOTES // num_classes)
    for start in range(0, len(scores), step):
        part = slice(start, start + step)
        for k in ks:
            votes = class_votes(
                scores[part, :k],
                neighbor_targets[part, :k],
                temperature=temperature,
                num_classes=num_classes,
            )
            ranks[k][part] = class_ranks(votes, targets[part])
    return ranks


def class_votes(
    scores: NDArray[np.float32],
    neighbor_targets: NDArray[np.int64],
    *,
    temperature: float,
    num_classes: int,
) -> NDArray[np.float64]:
    """[Q, C] sums of exp(score / temperature), up to a positive factor per query.

    Weights are relative to the best neighbour's, so that no temperature overflows (exp(1 / 0.03) is
    3e14). They are float32, as the references compute them.

    >>> scores, classes = np.array([[0.9, 0.8, 0.7]], np.float32), np.array([[1, 0, 0]])
    >>> class_votes(scores, classes, temperature=0.1, num_classes=2).round(3)
    array([[0.503, 1.   ]])
    """
    logits = scores.astype(np.float32) / np.float32(temperature)
    weights = np.exp(logits - logits[:, :1])
    rows = np.arange(len(scores), dtype=np.int64)[:, None] * num_classes
    # bincount adds in float64 in the order of the neighbours: the same sums on every machine.
    flat = np.bincount(
        (rows + neighbor_targets).ravel(),
        weights=weights.ravel(),
        minlength=len(scores) * num_classes,
    )
    return flat.astype(np.float64, copy=False).reshape(len(scores), num_classes)


def soft_votes(
    scores: NDArray[np.float32],
    labels: NDArray[np.float32],
    neighbours: NDArray[np.int64],
    *,
    temperature: float,
) -> NDArray[np.float32]:
    """[Q, C] mean of the neighbours' label shares, weighted by the softmax of score / temperature.

    Args:
        scores: [Q, K] cosines in descending order.
        labels: [N, C] shares of each class in a row of the bank; rows sum to 1.
        neighbours: [Q, K] rows of the bank.
        temperature: of the softmax; 0.02 in Balazevic et al. 2023.

    >>> shares = np.array([[1, 0], [0.5, 0.5]], np.float32)
    >>> soft_votes(np.array([[0.9, 0.9]], np.float32), shares, np.array([[0, 1]]), temperature=0.1)
    array([[0.75, 0.25]], dtype=float32)
    """
    votes = np.empty((len(scores), labels.shape[1]), np.float32)
    step = max(1, BLOCK_VOTES // (scores.shape[1] * labels.shape[1]))
    for start in range(0, len(scores), step):
        part = slice(start, start + step)
        logits = scores[part] / np.float32(temperature)
        weights = np.exp(logits - logits[:, :1])
        weights /= weights.sum(1, keepdims=True)
        votes[part] = np.einsum("qk,qkc->qc", weights, labels[neighbours[part]])
    return votes
