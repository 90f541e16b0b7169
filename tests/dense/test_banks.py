"""Where patches are compared, and the votes of pixels, against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score
from sklearn.preprocessing import StandardScaler

from sdssl_bench.dense.bank import moments_of, space_of
from sdssl_bench.dense.patches import mask_of_pixels, patch_pixels, pixel_votes
from sdssl_bench.metrics import class_counts, overlap_scores
from sdssl_bench.neighbors import top_k


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.sampled_from([0.01, 1.0, 30.0]), st.booleans())
def test_the_nearest_by_distance_are_found_by_angle(
    seed: int, spread: float, standardised: bool
) -> None:
    rng = np.random.default_rng(seed)
    centre = 3 * rng.standard_normal(12)
    bank, queries = (
        (centre + spread * rng.standard_normal((rows, 12))).astype(np.float32) for rows in (90, 7)
    )
    bank[40:50] = bank[:10]  # ties
    fitted = [bank[:31], bank[31:60]] if standardised else []
    space = space_of([bank[:50], bank[50:50], bank[50:]], moments_of(fitted), "euclidean")
    _, found = top_k(space.queries(queries), space.bank_rows(bank), k=20)
    rows, asked = (space.standardised(one).astype(np.float64) for one in (bank, queries))
    squares = ((asked[:, None] - rows) ** 2).sum(2)
    np.testing.assert_array_equal(found, np.argsort(squares, axis=1, kind="stable")[:, :20])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999))
def test_features_are_standardised_as_scikit_learn_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = (100 + 0.1 * rng.standard_normal((60, 5))).astype(np.float32)
    rows[:, 2] = 7
    rows[:, 3] = 0
    space = space_of([rows], moments_of([rows[:17], rows[17:45]]), "cosine")
    expected = StandardScaler().fit(rows[:45].astype(np.float64)).transform(rows)
    np.testing.assert_allclose(space.standardised(rows), expected, atol=1e-4)
    assert space_of([rows], moments_of([]), "cosine").queries(rows) is rows


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(1, 9))
def test_each_pixel_takes_its_most_frequent_class_and_ties_go_to_the_lower(
    seed: int, k: int
) -> None:
    neighbours = np.random.default_rng(seed).integers(0, 4, (5, k, 6)).astype(np.uint8)
    expected = [[np.bincount(neighbours[q, :, p]).argmax() for p in range(6)] for q in range(5)]
    np.testing.assert_array_equal(pixel_votes(neighbours), expected)


@pytest.mark.parametrize("grid", [(2, 2), (3, 4), (6, 1)])
def test_pixels_of_patches_come_back_where_they_were(grid: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).integers(0, 9, (12, 8)).astype(np.uint8)
    cells = patch_pixels(mask, grid)
    high, wide = 12 // grid[0], 8 // grid[1]
    np.testing.assert_array_equal(cells[-1], mask[-high:, -wide:].ravel())
    np.testing.assert_array_equal(mask_of_pixels(cells, grid, (12, 8)), mask)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999))
def test_absent_classes_that_were_called_count_as_scikit_learn_counts_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.choice([0, 1, 2, 9], (4, 5, 5)).astype(np.uint8)
    called = rng.choice(6, (4, 5, 5), p=[0.4, 0.3, 0.2, 0.05, 0.05, 0]).astype(np.uint8)
    true[0, 0, 0] = 0
    counts = np.stack(
        [class_counts(a, b, num_classes=6, void=9) for a, b in zip(called, true, strict=True)]
    )
    known = true != 9
    expected = jaccard_score(true[known], called[known], average="macro")
    assert overlap_scores(counts, absent="zero")["mIoU"].mean() == pytest.approx(expected)
