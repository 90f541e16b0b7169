"""Masks at patch resolution and votes as masks, against their definitions."""

import numpy as np
import pytest
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import from_numpy

from sdssl_bench.dense.patches import chosen_patches, mask_of, patch_shares, resized
from sdssl_bench.neighbors import soft_votes

VOID = 255


def mask(seed: int, side: int = 12, classes: int = 4) -> np.ndarray:
    return (
        np.random.default_rng(seed).choice([*range(classes), VOID], (side, side)).astype(np.uint8)
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.sampled_from([(2, 2), (3, 4), (6, 6), (12, 12)]))
def test_shares_are_counted_pixel_by_pixel(seed: int, grid: tuple[int, int]) -> None:
    truth = mask(seed)
    found = patch_shares(truth, grid, 4, void=VOID).reshape(*grid, 4)
    high, wide = 12 // grid[0], 12 // grid[1]
    for row in range(grid[0]):
        for column in range(grid[1]):
            cell = truth[row * high : (row + 1) * high, column * wide : (column + 1) * wide]
            known = cell[cell != VOID]
            expected = [(known == c).mean() if len(known) else 0 for c in range(4)]
            np.testing.assert_allclose(found[row, column], expected, rtol=1e-6)


def test_rare_classes_are_kept_and_unlabelled_patches_come_last() -> None:
    shares = np.zeros((64, 3), np.float32)
    shares[:, 0] = 1
    shares[5] = [0, 1, 0]
    shares[[9, 10]] = 0
    kept = [chosen_patches(shares, 8, np.random.default_rng(seed)) for seed in range(300)]
    assert all((np.diff(one) > 0).all() for one in kept)
    # Weight 1 x u against 61 x u': class 1 loses only to eight patches below u / 61.
    assert np.mean([5 in one for one in kept]) > 0.98
    assert not any({9, 10} & set(one.tolist()) for one in kept)
    rest = np.bincount(np.concatenate(kept), minlength=64)[
        [i for i in range(64) if i not in (5, 9, 10)]
    ]
    assert rest.min() > 0, "every other patch has its chance"
    everything = chosen_patches(shares, 64, np.random.default_rng(0))
    np.testing.assert_array_equal(everything, np.arange(64))
    assert {9, 10} <= set(everything.tolist())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.sampled_from([(8, 8), (7, 11), (2, 3)]))
def test_a_mask_is_the_argmax_of_all_channels_made_bilinear(
    seed: int, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    votes = rng.random((6, 5)).astype(np.float32) * (rng.random(5) < 0.7)
    votes[0, 0] += 0.1
    maps = from_numpy(votes.T.reshape(1, 5, 2, 3).copy())
    whole = F.interpolate(maps, size, mode="bilinear", align_corners=False)[0].numpy()
    np.testing.assert_array_equal(mask_of(votes, (2, 3), size), whole.argmax(0))


def test_ties_go_to_the_lower_class() -> None:
    votes = np.array([[0, 0.5, 0, 0.5]], np.float32)
    assert mask_of(votes, (1, 1), (1, 2)).tolist() == [[1, 1]]


def test_a_mask_keeps_its_size_or_is_squashed_by_nearest_neighbour() -> None:
    truth = mask(0)
    assert resized(truth, 0) is truth
    assert resized(truth, 12) is truth
    np.testing.assert_array_equal(resized(np.repeat(truth, 3, 1), 12), truth)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.sampled_from([0.02, 0.1, 1.0]))
def test_votes_are_the_softmax_mean_of_the_neighbours_labels(seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.dirichlet(np.ones(4), 20).astype(np.float32)
    scores = -np.sort(-rng.uniform(-1, 1, (7, 5)), axis=1)
    ids = rng.integers(0, 20, (7, 5))
    found = soft_votes(scores.astype(np.float32), labels, ids, temperature=temperature)
    for query in range(7):
        weights = np.exp(scores[query] / temperature)
        expected = (
            sum(w * labels[i] for w, i in zip(weights, ids[query], strict=True)) / weights.sum()
        )
        np.testing.assert_allclose(found[query], expected, atol=2e-4)
    assert found.sum(1) == pytest.approx(1, abs=1e-5)
