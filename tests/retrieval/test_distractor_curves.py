"""Retrieval and copy detection against growing numbers of distractors, each by sorting one ranking."""

from typing import Any

import numpy as np
import pytest

from sdssl_bench.datasets.readers.ground_truth import GroundTruth
from sdssl_bench.metrics.average_precision import trapezoid_ap
from sdssl_bench.retrieval.copy_detection import CopyFeatures, score_copies
from sdssl_bench.retrieval.database_ranks import labelled_positions
from sdssl_bench.retrieval.revisited import score_layer

CURVE = (0, 1, 5, 11, 12, 13, 100)
"""Of 12 distractors: none, one, some, all but one, all, and more than there are."""


def place(query: Any, bank: Any, row: int) -> int:
    """0-based place of a row in the whole ranking: float64 cosines, ties by lower row."""
    cosines = bank @ query / (np.linalg.norm(bank, axis=1) * np.linalg.norm(query))
    return int(
        (cosines > cosines[row] + 1e-13).sum() + (abs(cosines - cosines[row]) <= 1e-13)[:row].sum()
    )


def features(seed: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    # Small whole numbers: many exact ties between images of the set, distractors and the answer.
    return tuple(rng.integers(1, 4, (count, 3)).astype(float) for count in (6, 8, 12))


@pytest.mark.parametrize("seed", range(4))
def test_copies_at_every_number_of_distractors_by_hand(seed: int) -> None:
    originals, copies, distractors = features(seed)
    targets = np.random.default_rng(seed).integers(0, 6, 8)
    scores = score_copies(
        CopyFeatures(originals, {"strong": copies}, {"strong": targets}, distractors),
        top_k=4,
        curve=CURVE,
    )
    whole = np.concatenate([originals, distractors])
    counts = [0, 1, 5, 11, 12]
    assert {name for name in scores.metrics if name.startswith("d")} == {
        f"d{count}/strong/mAP@4" for count in counts
    }
    for count in counts:
        places = [place(q, whole[: 6 + count], t) for q, t in zip(copies, targets, strict=True)]
        cut = [trapezoid_ap(np.array([p] if p < 4 else [], np.int64), 1) for p in places]
        assert scores.metrics[f"d{count}/strong/mAP@4"] == pytest.approx(np.mean(cut))
        assert scores.positions[f"d{count}/strong"].tolist() == places
    every = [trapezoid_ap(np.array([p]), 1) for p in places]
    assert scores.metrics["strong/mAP@4"] == pytest.approx(np.mean(cut))
    assert scores.metrics["strong/mAP"] == pytest.approx(np.mean(every))
    assert scores.positions["strong"].tolist() == places
    assert len({round(scores.metrics[f"d{count}/strong/mAP@4"], 9) for count in counts}) > 2


@pytest.mark.parametrize("seed", range(4))
def test_revisited_at_every_number_of_distractors_by_hand(seed: int) -> None:
    """One easy image for each query: its place in the ranking is all there is to it."""
    database, queries, distractors = features(seed)
    easy = np.random.default_rng(seed).integers(0, 6, 8)
    none = tuple(np.zeros(0, np.int64) for _ in easy)
    truth = GroundTruth(
        tuple("abcdef"),
        tuple(map(str, range(8))),
        np.zeros((8, 4)),
        {"easy": tuple(easy[:, None]), "hard": none, "junk": none},
    )
    found = score_layer(queries, [database, distractors], truth, curve=CURVE)
    whole = np.concatenate([database, distractors])
    assert found.num_distractors == (0, 1, 5, 11, 12)
    metrics = found.metrics()
    for count in found.num_distractors:
        aps = [
            trapezoid_ap(np.array([place(q, whole[: 6 + count], row)]), 1)
            for q, row in zip(queries, easy, strict=True)
        ]
        assert metrics[f"d{count}/M/mAP"] == pytest.approx(np.mean(aps))
    assert metrics["M/mAP"] == metrics["d12/M/mAP"] == metrics["E/mAP"]
    assert not any(name.startswith(("H/", "d0/H")) for name in metrics), "no query has a hard image"
    alone = score_layer(queries, [database, distractors[:0]], truth, curve=CURVE)
    assert alone.num_distractors == (0,)
    assert not any(name.startswith("d") for name in alone.metrics())


def test_images_of_one_direction_tie_whatever_their_length() -> None:
    """Their cosines differ in the last bit; the lower row comes first all the same."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        one = rng.standard_normal(7)
        bank = (one * rng.uniform(0.1, 9, (30, 1))).astype(np.float64)
        (found,) = labelled_positions(
            rng.standard_normal((1, 7)), [bank[:11], bank[11:]], labelled=[np.arange(30)]
        )
        assert found[0].tolist() == list(range(30))
