"""Scores of one layer on Copydays: whiten, search originals among distractors, AP per block.

Protocol of DINO's eval_copy_detection.py: every copy is a query, the originals and distractors are the
database, a list ends after 20 images, AP is the trapezoid's. Beside it: AP over the whole ranking,
and micro-AP over the lists of all queries of a block (Pizzi et al. 2022).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.copydays import CopydaysData
from sdssl_bench.neighbors import top_k as search
from sdssl_bench.positions import labelled_positions
from sdssl_bench.ranking import micro_ap, single_ap
from sdssl_bench.whitening import FLOOR, Whitening, fit_whitening

Features = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class CopyFeatures:
    """One layer's vectors.

    Attributes:
        originals: [N, D].
        queries: block -> [Q, D].
        targets: block -> [Q] row of the original each query is a copy of.
        distractors: [M, D], or None.
        whitening: [W, D] to learn whitening from, or None.
    """

    originals: Features
    queries: Mapping[str, Features]
    targets: Mapping[str, NDArray[np.int64]]
    distractors: Features | None = None
    whitening: Features | None = None


@dataclass(frozen=True, eq=False)
class CopyScores:
    """What was measured.

    Attributes:
        metrics: "strong/mAP@20", "strong/mAP", "strong/muAP", ...; with distractors also
            "d100/strong/mAP@20" for the first 100 of them.
        positions: block -> [Q] 0-based position of the original among all images; with distractors
            also "d100/BLOCK" among the originals and the first 100 of them.
        similarity: block -> [Q, K] cosines of the first images of each list.
        found: block -> [Q, K] their rows: originals first, then distractors.
        num_floored: eigenvalues that whitening raised to its floor; None without whitening.
    """

    metrics: dict[str, float]
    positions: dict[str, NDArray[np.int64]]
    similarity: dict[str, NDArray[np.float32]]
    found: dict[str, NDArray[np.int64]]
    num_floored: int | None


@dataclass(frozen=True, eq=False)
class Kept:
    """Rows of a bank by block, without images that could not be read and copies of such.

    Attributes:
        rows: block -> [Q] rows of the bank.
        targets: block -> [Q] which row of "original".
    """

    rows: dict[str, NDArray[np.int64]]
    targets: dict[str, NDArray[np.int64]]


def readable(data: CopydaysData, indices: NDArray[np.int64]) -> Kept:
    """The copies among the images that could be read, `indices` [n] of `data.images`."""
    row_of = np.full(len(data.images), -1, np.int64)
    row_of[indices] = np.arange(len(indices))
    originals = row_of[data.rows["original"]]
    new_target = np.where(originals >= 0, np.cumsum(originals >= 0) - 1, -1)
    rows, targets = {}, {}
    for block, members in data.rows.items():
        target = new_target[data.targets[block]]
        good = (row_of[members] >= 0) & (target >= 0)
        if good.any():
            rows[block], targets[block] = row_of[members][good], target[good]
    return Kept(rows, targets)


def score_copies(
    features: CopyFeatures,
    *,
    preset: str = "dino",
    floor: float = FLOOR,
    top_k: int = 20,
    curve: Sequence[int] = (),
    backend: str = "auto",
    device: str = "cpu",
) -> CopyScores:
    """Scores of every block.

    Args:
        features: of one layer.
        preset: "dino" or "centred" whitening; without whitening vectors there is none.
        floor: smallest eigenvalue relative to the largest.
        top_k: length of the list that "mAP@K" and micro-AP see.
        curve: numbers of distractors to score with besides all of them; larger ones are left out.
        backend: search by "auto", "torch" or "faiss".
        device: where it searches.
    """
    whitening: Whitening | None = None
    if features.whitening is not None:
        whitening = fit_whitening(features.whitening, preset, floor=floor)
    originals = _white(features.originals, whitening)
    parts = [originals]
    if features.distractors is not None:
        parts.append(_white(features.distractors, whitening))
    total = sum(map(len, parts)) - len(originals)
    counts = sorted({total, *(n for n in curve if n < total)})
    blocks = list(features.queries)
    ends = np.cumsum([len(features.queries[block]) for block in blocks])[:-1]
    queries = np.concatenate([_white(features.queries[block], whitening) for block in blocks])
    targets = np.concatenate([features.targets[block] for block in blocks])
    located = labelled_positions(
        queries,
        parts,
        labelled=list(targets[:, None]),
        stops=[len(originals) + count for count in counts],
        device=device,
    )
    positions = np.split(np.stack(located)[:, :, 0], ends)  # per block [Q, S]
    bank = np.concatenate(parts)
    kept = min(top_k, len(bank))
    scores, ids = search(queries, bank, k=kept, backend=backend, device=device)
    similarity, found = np.split(scores, ends), np.split(ids, ends)
    metrics: dict[str, float] = {}
    where = {block: positions[i][:, -1] for i, block in enumerate(blocks)}
    for index, block in enumerate(blocks):
        last = positions[index][:, -1]
        copies = features.targets[block]
        metrics[f"{block}/mAP@{top_k}"] = float(single_ap(last, top_k=top_k).mean())
        metrics[f"{block}/mAP"] = float(single_ap(last).mean())
        metrics[f"{block}/muAP"] = micro_ap(
            similarity[index], found[index] == copies[:, None], len(copies)
        )
        for step, count in enumerate(counts if len(counts) > 1 else []):
            short = single_ap(positions[index][:, step], top_k=top_k)
            metrics[f"d{count}/{block}/mAP@{top_k}"] = float(short.mean())
            where[f"d{count}/{block}"] = positions[index][:, step]
    return CopyScores(
        metrics=metrics,
        positions=where,
        similarity=dict(zip(blocks, similarity, strict=True)),
        found=dict(zip(blocks, found, strict=True)),
        num_floored=None if whitening is None else whitening.num_floored,
    )


def _white(features: Features, whitening: Whitening | None) -> Features:
    return np.asarray(features) if whitening is None else whitening.apply(features)
