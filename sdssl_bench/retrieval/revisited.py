"""Scores of one layer on revisited Oxford/Paris: from features and ground truth to Easy, Medium, Hard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdssl_bench.datasets import GroundTruth
from sdssl_bench.metrics import KS, ProtocolScores, revisited_scores
from sdssl_bench.retrieval.database_ranks import labelled_positions

Features = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class RevisitedScores:
    """Scores against growing numbers of distractors, from one search.

    Attributes:
        num_distractors: [S] ascending.
        protocols: [S] "E" | "M" | "H" -> scores of all queries.
    """

    num_distractors: tuple[int, ...]
    protocols: tuple[Mapping[str, ProtocolScores], ...]

    def metrics(self) -> dict[str, float]:
        """Means with all distractors ("M/mAP", ...), and mAP at each smaller number ("d100/M/mAP").

        A protocol under which no query has a positive has no entry.
        """
        found: dict[str, float] = {}
        for count, protocols in zip(self.num_distractors, self.protocols, strict=True):
            last = count == self.num_distractors[-1]
            for name, scores in protocols.items():
                if not scores.num_queries:
                    continue
                means = scores.means()
                if last:
                    found |= {f"{name}/{metric}": value for metric, value in means.items()}
                if len(self.num_distractors) > 1:
                    found[f"d{count}/{name}/mAP"] = means["mAP"]
        return found

    def items(self) -> dict[str, NDArray[Any]]:
        """Per query what `metrics` averages: "M/ap", "M/p@5", "d100/M/ap"; NaN without positives."""
        found: dict[str, NDArray[Any]] = {}
        for name, scores in self.protocols[-1].items():
            found[f"{name}/ap"] = scores.ap
            found |= {f"{name}/p@{k}": scores.precision[:, i] for i, k in enumerate(scores.ks)}
        if len(self.num_distractors) > 1:
            for count, protocols in zip(self.num_distractors, self.protocols, strict=True):
                found |= {f"d{count}/{name}/ap": one.ap for name, one in protocols.items()}
        return found


def score_layer(
    queries: Features,
    parts: Sequence[Features],
    truth: GroundTruth,
    *,
    curve: Sequence[int] = (),
    ks: Sequence[int] = KS,
    device: str | torch.device = "cpu",
) -> RevisitedScores:
    """Scores of one layer's features.

    Args:
        queries: [Q, D] in the order of the ground truth.
        parts: database [N, D] in the order of the ground truth, then distractors in any number of
            arrays; in memory or mapped, they are streamed.
        truth: what is relevant.
        curve: numbers of distractors to score with besides all of them; larger ones are left out.
        ks: the k of mP@k.
        device: where similarities are computed.
    """
    database = len(parts[0])
    total = sum(map(len, parts)) - database
    counts = sorted({total, *(n for n in curve if n < total)})
    positions = labelled_positions(
        queries,
        parts,
        labelled=[truth.labelled(query) for query in range(len(truth.queries))],
        stops=[database + count for count in counts],
        device=device,
    )
    protocols = tuple(
        revisited_scores(
            [truth.by_label(query, found[step]) for query, found in enumerate(positions)], ks
        )
        for step in range(len(counts))
    )
    return RevisitedScores(tuple(counts), protocols)
