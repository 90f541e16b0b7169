"""Accuracies against definitions by eye: loops over items and classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdssl_bench.metrics.accuracy import class_ranks, mean_per_class, top1_accuracy, topk_accuracy


@given(seed=st.integers(0, 2**32), classes=st.integers(1, 8))
def test_ranks_are_positions_in_a_stable_descending_sort(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    values, targets = rng.integers(0, 3, (6, classes)), rng.integers(0, classes, 6)
    for row, target, rank in zip(values, targets, class_ranks(values, targets)):
        assert sorted(range(classes), key=lambda c: (-row[c], c)).index(target) == rank
    assert top1_accuracy(values, targets) == np.mean(values.argmax(1) == targets)


def test_accuracy_grows_with_k_up_to_one() -> None:
    rng = np.random.default_rng(0)
    values, targets = rng.normal(size=(50, 6)), rng.integers(0, 6, 50)
    curve = [topk_accuracy(values, targets, k=k) for k in range(1, 7)]
    assert curve == sorted(curve)
    assert curve[-1] == 1.0
    assert curve[0] < 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_accuracy_of_non_finite_values_is_an_error(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        top1_accuracy(np.array([[bad, 0.0]]), np.array([0]))


def test_accuracy_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no items"):
        top1_accuracy(np.zeros((0, 2)), np.zeros(0, int))


def test_every_class_weighs_the_same() -> None:
    targets = np.array([0] * 90 + [1] * 10)
    correct = targets == 0
    assert correct.mean() == 0.9
    assert mean_per_class(correct, targets, num_classes=2) == 0.5


def test_balanced_classes_give_plain_accuracy() -> None:
    rng = np.random.default_rng(1)
    targets, correct = np.repeat(np.arange(4), 5), rng.random(20) < 0.6
    assert mean_per_class(correct, targets, num_classes=4) == pytest.approx(correct.mean())


def test_a_class_without_items_is_an_error_unless_left_out() -> None:
    targets, correct = np.array([0, 2, 2]), np.array([True, False, True])
    with pytest.raises(ValueError, match="without one: 1"):
        mean_per_class(correct, targets, num_classes=3)
    assert mean_per_class(correct, targets, num_classes=3, classes=[2, 0]) == 0.75


@pytest.mark.parametrize("classes", [[0], []])
def test_items_may_not_be_left_out_silently(classes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"some items are|every class"):
        mean_per_class(
            np.ones(2, bool), np.array([0, 1]), num_classes=2, classes=np.array(classes, int)
        )


def test_a_target_outside_the_classes_is_an_error() -> None:
    with pytest.raises(ValueError, match="below 2"):
        mean_per_class(np.ones(2, bool), np.array([0, 2]), num_classes=2)
