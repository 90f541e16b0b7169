"""mIoU against its definition, and the scores of images against what an image does to it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from sdssl_bench.metrics import class_counts, class_iou, overlap_scores

VOID = 9


def masks(seed: int, images: int = 4, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true [N, 5, 6]."""
    rng = np.random.default_rng(seed)
    true = rng.choice([*range(classes), VOID], (images, 5, 6))
    predicted = np.where(
        rng.random(true.shape) < 0.6, true % classes, rng.integers(0, classes, true.shape)
    )
    return predicted, true


def counted(predicted: np.ndarray, true: np.ndarray, classes: int = 3) -> np.ndarray:
    return np.stack(
        [
            class_counts(one, other, num_classes=classes, void=VOID)
            for one, other in zip(predicted, true, strict=True)
        ]
    )


def miou(predicted: np.ndarray, true: np.ndarray, classes: int = 3) -> float:
    """By the definition: one pixel at a time, over all images."""
    found = []
    for c in range(classes):
        inter = union = occurs = 0
        for ours, theirs in zip(predicted.ravel(), true.ravel(), strict=True):
            if theirs == VOID:
                continue
            inter += ours == c and theirs == c
            union += ours == c or theirs == c
            occurs += theirs == c
        if occurs:
            found.append(inter / union)
    return float(np.mean(found))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 5))
def test_scores_of_images_average_to_the_definition(seed: int, images: int, classes: int) -> None:
    predicted, true = masks(seed, images, classes)
    scores = overlap_scores(counted(predicted, true, classes))
    assert scores["mIoU"].mean() == pytest.approx(miou(predicted, true, classes), abs=1e-12)
    known = true != VOID
    accuracy = (predicted == true)[known].mean()
    assert scores["accuracy"].mean() == pytest.approx(accuracy, abs=1e-12)
    assert np.nanmean(class_iou(counted(predicted, true, classes))) == pytest.approx(
        scores["mIoU"].mean(), abs=1e-12
    )


def test_where_all_classes_occur_it_is_scikit_learns_macro_jaccard() -> None:
    predicted, true = masks(1, images=8)
    known = true != VOID
    expected = jaccard_score(true[known], predicted[known], average="macro")
    assert overlap_scores(counted(predicted, true))["mIoU"].mean() == pytest.approx(expected)


def test_an_images_score_is_how_it_moves_the_metric() -> None:
    counts = counted(*masks(2, images=7)).astype(np.float64)
    scores = overlap_scores(counts)["mIoU"]

    def metric(weights: np.ndarray) -> float:
        true, called, both = np.einsum("n,nrc->rc", weights, counts)
        return float((both / (true + called - both)).mean())

    for image in range(7):
        step = np.zeros(7)
        step[image] = 1e-6
        slope = (metric(1 + step) - metric(1 - step)) / 2e-6
        assert (scores[image] - scores.mean()) / 7 == pytest.approx(slope, abs=1e-8)


def test_a_class_that_occurs_nowhere_does_not_count_and_calling_it_costs_the_true_one() -> None:
    true = np.array([[[0, 0, 1, 1]]])
    called = np.array([[[0, 2, 1, 1]]])
    counts = counted(called, true)
    np.testing.assert_allclose(class_iou(counts), [0.5, 1.0, np.nan])
    assert overlap_scores(counts)["mIoU"].mean() == pytest.approx(0.75)


def test_perfect_masks_score_exactly_1_and_shapes_must_agree() -> None:
    _, true = masks(3)
    perfect = counted(np.where(true == VOID, 0, true), true)
    assert (overlap_scores(perfect)["mIoU"] == 1).all()
    with pytest.raises(ValueError, match="one shape"):
        class_counts(np.zeros((2, 2)), np.zeros((2, 3)), num_classes=2, void=VOID)


def test_the_spread_of_the_scores_is_that_of_the_metric_over_samples() -> None:
    """Standard error from one sample against the spread over 400 samples of 150 images."""
    rng = np.random.default_rng(0)

    def sample() -> np.ndarray:
        quality = rng.beta(4, 2, 150)
        first = rng.integers(20, 60, 150)
        true = np.stack([first, 64 - first], 1)
        wrong = rng.binomial(true, 0.5 * (1 - quality)[:, None])
        called = true - wrong + wrong[:, ::-1]
        return np.stack([true, called, true - wrong], 1)

    values = [overlap_scores(sample())["mIoU"] for _ in range(400)]
    spread = np.std([one.mean() for one in values])
    stated = np.mean([one.std(ddof=1) / 150**0.5 for one in values])
    assert stated == pytest.approx(spread, rel=0.12)
    inside = [
        abs(one.mean() - np.mean([v.mean() for v in values])) < 1.96 * one.std(ddof=1) / 150**0.5
        for one in values
    ]
    assert 0.92 < np.mean(inside) < 0.98
