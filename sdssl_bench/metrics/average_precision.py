"""Scores of a ranking: trapezoid AP, the revisited Oxford/Paris protocols, micro-AP.

Pure arithmetic on 0-based positions. Sources: Philbin et al. 2007 (AP as the area under the
precision-recall curve by the trapezoid rule), Radenovic et al. 2018 (revisited protocols, mP@k),
Pizzi et al. 2022 (micro-AP in copy detection).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

KS = (1, 5, 10)
"""The k of mP@k; Radenovic et al. 2018."""

PROTOCOLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "E": (("easy",), ("junk", "hard")),
    "M": (("easy", "hard"), ("junk",)),
    "H": (("hard",), ("junk", "easy")),
}
"""Protocol -> (labels that are positives, labels that are removed from the ranking)."""

Positions = NDArray[np.int64]


def trapezoid_ap(positions: Positions, num_positives: int) -> float:
    """Area under the precision-recall curve by the trapezoid rule (Oxford/Paris, Holidays, Copydays).

    Args:
        positions: [P] 0-based positions of the positives found, strictly increasing, junk removed.
        num_positives: positives there are, P <= num_positives; those not found add nothing.

    Returns:
        A fraction in [0, 1]; never above the usual step-wise AP.

    Raises:
        ValueError: if num_positives < max(P, 1): a query without positives is left out by the
            caller, never scored 0.

    >>> round(trapezoid_ap(np.array([0, 2, 5]), 3), 4)
    0.6778
    """
    found = len(positions)
    if num_positives < max(found, 1):
        raise ValueError(f"{found} positives found of {num_positives}")
    order = np.arange(found)
    # Precision just before a positive at position 0 is 1 by convention, not 0/0.
    before = np.where(positions == 0, 1.0, order / np.maximum(positions, 1))
    after = (order + 1) / (positions + 1)
    return float((before + after).sum() / (2 * num_positives))


def single_ap(positions: Positions, *, top_k: int | None = None) -> NDArray[np.float64]:
    """[Q] trapezoid AP of queries with exactly one positive, 0 where it lies beyond `top_k`.

    Args:
        positions: [Q] 0-based position of the positive.
        top_k: length of the list that counts; None counts the whole ranking.

    >>> single_ap(np.array([0, 1, 3, 20]), top_k=20)
    array([1.   , 0.25 , 0.125, 0.   ])
    """
    scores = np.where(positions == 0, 1.0, 0.5 / (positions + 1))
    return scores if top_k is None else np.where(positions < top_k, scores, 0.0)


def precision_at(positions: Positions, ks: Sequence[int] = KS) -> NDArray[np.float64]:
    """[K] precision at each k of the revisited protocol.

    k never reaches past the last positive: a query with three positives in the first three places
    has precision 1 at 5 and at 10.

    Args:
        positions: [P] 0-based positions of all positives, strictly increasing, P >= 1.
        ks: numbers of places.

    >>> precision_at(np.array([0, 2]), (1, 5))
    array([1.        , 0.66666667])
    """
    places = np.minimum(np.asarray(ks), positions[-1] + 1)
    scores: NDArray[np.float64] = np.searchsorted(positions, places - 1, side="right") / places
    return scores


def without_junk(positions: Positions, junk: Positions) -> Positions:
    """Positions after the junk is deleted from the ranking.

    Args:
        positions: [P] strictly increasing.
        junk: [J] positions of the junk, strictly increasing.

    >>> without_junk(np.array([1, 4]), np.array([0, 2]))
    array([0, 2])
    """
    return positions - np.searchsorted(junk, positions)


@dataclass(frozen=True, eq=False)
class ProtocolScores:
    """Scores of all queries under one protocol; NaN for a query without positives.

    Attributes:
        ap: [Q] average precision.
        precision: [Q, K] precision at each k.
        ks: the K numbers of places.
    """

    ap: NDArray[np.float64]
    precision: NDArray[np.float64]
    ks: tuple[int, ...]

    @property
    def num_queries(self) -> int:
        """Queries with at least one positive: what the means are over."""
        return int(np.isfinite(self.ap).sum())

    def means(self) -> dict[str, float]:
        """Mean AP and mP@k over the queries that have positives.

        Raises:
            ValueError: if no query has any; such a protocol has no score.
        """
        kept = np.isfinite(self.ap)
        if not kept.any():
            raise ValueError("no query has positives")
        precision = self.precision[kept].mean(0)
        return {
            "mAP": float(self.ap[kept].mean()),
            **{f"mP@{k}": float(p) for k, p in zip(self.ks, precision, strict=True)},
        }


def revisited_scores(
    labelled: Sequence[Mapping[str, Positions]], ks: Sequence[int] = KS
) -> dict[str, ProtocolScores]:
    """Easy, Medium and Hard scores from the positions of the labelled images.

    Args:
        labelled: per query, the 0-based positions of its "easy", "hard" and "junk" images in the
            ranking of the whole database, in any order.
        ks: the k of mP@k.

    Returns:
        {"E" | "M" | "H": scores of all queries}.
    """
    ks = tuple(ks)
    scores = {
        name: ProtocolScores(
            np.full(len(labelled), np.nan), np.full((len(labelled), len(ks)), np.nan), ks
        )
        for name in PROTOCOLS
    }
    for query, positions in enumerate(labelled):
        for name, (positive_labels, junk_labels) in PROTOCOLS.items():
            positives = _merged(positions, positive_labels)
            if not len(positives):
                continue
            cleaned = without_junk(positives, _merged(positions, junk_labels))
            scores[name].ap[query] = trapezoid_ap(cleaned, len(cleaned))
            scores[name].precision[query] = precision_at(cleaned, ks)
    return scores


def _merged(positions: Mapping[str, Positions], labels: Sequence[str]) -> Positions:
    return np.sort(np.concatenate([positions[label] for label in labels]))


def micro_ap(
    scores: NDArray[np.floating[Any]], correct: NDArray[np.bool_], num_positives: int
) -> float:
    """AP of all (query, image) pairs in one list: does one threshold serve all queries?

    Step-wise: the sum over distinct scores of precision x gain in recall. Pairs of equal score
    enter together, so their order cannot matter.

    Args:
        scores: [P] similarity of each retrieved pair, of any shape.
        correct: likewise, whether the pair is a copy.
        num_positives: pairs that should have been found, retrieved or not.

    >>> micro_ap(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 2)
    0.8333333333333333
    """
    if num_positives < max(int(correct.sum()), 1):
        raise ValueError(f"{int(correct.sum())} positives found of {num_positives}")
    order = np.argsort(-scores.ravel(), kind="stable")
    ranked, hits = scores.ravel()[order], correct.ravel()[order]
    last_of_score = np.append(ranked[1:] != ranked[:-1], True)
    found = np.cumsum(hits)[last_of_score]
    retrieved = np.arange(1, len(ranked) + 1)[last_of_score]
    return float((np.diff(found, prepend=0) * found / retrieved).sum() / num_positives)
