"""Linear CKA: golden values, literal definitions in loops, invariances, an estimate without bias."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sdssl_bench.analysis import cka as module
from sdssl_bench.analysis.cka import biased_cka, minibatch_cka, random_batches, u_centred
from twins import hsic1, literal_cka
from waves import g

Matrix = NDArray[np.float64]

X = g(64, 10, 0.37, 0.91, 0.13)
Y = g(64, 6, 0.53, 0.71, 0.19) + 0.5 * X[:, :6]
ALL = [np.arange(64)]
SIXTEENS = np.array_split(np.arange(64), 4)


def hsic0(x: Matrix, y: Matrix) -> float:
    """Gretton et al. (2005): tr(K H L H) / (n - 1)^2 with Gram matrices."""
    n = len(x)
    h = np.eye(n) - 1 / n
    return float(np.trace(x @ x.T @ h @ y @ y.T @ h)) / (n - 1) ** 2


def cka(x: Matrix, y: Matrix, batches: list[NDArray[np.int64]]) -> float:
    return float(minibatch_cka([x], [y], batches).values[0, 0])


def test_golden_values() -> None:
    assert float(biased_cka([X], [Y])[0, 0]) == pytest.approx(0.417477, abs=1e-6)
    assert cka(X, Y, ALL) == pytest.approx(0.343767, abs=1e-6)
    assert cka(X, Y, SIXTEENS) == pytest.approx(0.680844, abs=1e-6)


@pytest.mark.parametrize("batches", [ALL, SIXTEENS, [np.arange(4), np.arange(5, 64)]])
def test_unbiased_cka_is_the_literal_definition(batches: list[NDArray[np.int64]]) -> None:
    assert cka(X, Y, batches) == pytest.approx(literal_cka(X, Y, batches), rel=1e-10)


def test_biased_cka_is_the_literal_definition() -> None:
    expected = hsic0(X, Y) / np.sqrt(hsic0(X, X) * hsic0(Y, Y))
    assert float(biased_cka([X], [Y])[0, 0]) == pytest.approx(expected, rel=1e-12)


class OnDisk:
    """Features of which nobody may hold more than so many rows."""

    def __init__(self, rows: Matrix, most: int) -> None:
        self.rows, self.most = rows, most

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, where: slice) -> Matrix:
        assert len(self.rows[where]) <= self.most
        return self.rows[where]


@pytest.mark.parametrize("others", [None, [Y[:, 2:], np.full((64, 3), 0.7)]])
def test_biased_cka_of_many_rows_holds_few(
    others: list[Matrix] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = [X, Y, np.ones((64, 2)) + 1e-9 * X[:, :2]]
    whole = biased_cka(mine, others)
    monkeypatch.setattr(module, "ROWS", 7)
    few = [None if side is None else [OnDisk(one, 7) for one in side] for side in (mine, others)]
    np.testing.assert_allclose(biased_cka(*few), whole, rtol=1e-12)  # type: ignore[arg-type]
    assert np.isnan(whole[2]).all()


def test_the_inner_product_of_u_centred_matrices_is_the_unbiased_hsic() -> None:
    x, y = X[:12], Y[:12]
    inner = float((u_centred(x) * u_centred(y)).sum()) / (12 * 9)
    assert inner == pytest.approx(hsic1(x, y), rel=1e-10)
    np.testing.assert_allclose(u_centred(x).sum(0), 0, atol=1e-12)


def rotation(width: int, seed: int) -> Matrix:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]


def test_orthogonal_maps_scale_and_shift_change_nothing() -> None:
    expected = cka(X, Y, SIXTEENS)
    moved = 37.0 * X @ rotation(10, 1) + 11.0
    assert cka(moved, 0.002 * Y @ rotation(6, 2) - 3.0, SIXTEENS) == pytest.approx(expected)
    assert float(biased_cka([moved], [Y])[0, 0]) == pytest.approx(0.417477, abs=1e-6)


def test_a_map_that_is_not_orthogonal_does_change_it() -> None:
    assert abs(cka(X * np.linspace(1, 9, 10), Y, SIXTEENS) - cka(X, Y, SIXTEENS)) > 0.01


def test_a_set_is_similar_to_itself_by_exactly_one_and_the_matrix_is_symmetric() -> None:
    found = minibatch_cka([X, Y, X**2], None, SIXTEENS)
    np.testing.assert_array_equal(found.values, found.values.T)
    np.testing.assert_array_equal(np.diag(found.values), 1.0)
    np.testing.assert_array_equal(found.standard_errors, found.standard_errors.T)
    np.testing.assert_array_equal(np.diag(found.standard_errors), 0.0)


def test_comparing_a_list_with_itself_equals_comparing_it_with_a_copy() -> None:
    within = minibatch_cka([X, Y], None, SIXTEENS)
    across = minibatch_cka([X, Y], [X.copy(), Y.copy()], SIXTEENS)
    np.testing.assert_allclose(within.values, across.values, rtol=1e-12)


def test_exchanging_the_lists_transposes_the_matrix() -> None:
    one, two = minibatch_cka([X, Y], [Y], SIXTEENS), minibatch_cka([Y], [X, Y], SIXTEENS)
    np.testing.assert_allclose(one.values, two.values.T, rtol=1e-12)


def test_images_in_another_order_are_other_features() -> None:
    order = np.random.default_rng(0).permutation(64)
    assert abs(cka(X, Y[order], ALL)) < 0.1 < cka(X, Y, ALL)
    assert cka(X[order], Y[order], ALL) == pytest.approx(cka(X, Y, ALL))


def test_unrelated_features_average_zero_without_bias_and_more_with_it() -> None:
    rng = np.random.default_rng(0)
    free, biased = [], []
    for _ in range(100):
        x, y = rng.normal(size=(2, 64, 40))
        free.append(cka(x, y, random_batches(64, 32, seed=0)))
        biased.append(float(biased_cka([x], [y])[0, 0]))
    assert abs(np.mean(free)) < 4 * np.std(free) / 10
    assert min(free) < 0 < max(free)
    assert np.mean(biased) > 0.3


def test_the_batch_size_moves_the_estimate_by_noise_only() -> None:
    """The mean of the batches' own CKAs would fall with the batch; numerator and denominators do not."""
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(1200, 8))
    x = shared + rng.normal(size=(1200, 8))
    y = shared + rng.normal(size=(1200, 8))
    found = [minibatch_cka([x], [y], random_batches(1200, b, seed=0)) for b in (20, 60, 240)]
    for one in found[:2]:
        gap = abs(one.values[0, 0] - found[2].values[0, 0])
        assert gap < 4 * one.standard_errors[0, 0]


def test_the_standard_error_is_the_spread_of_the_estimate() -> None:
    rng = np.random.default_rng(2)
    values, errors = [], []
    for _ in range(60):
        shared = rng.normal(size=(200, 6))
        x, y = (shared + rng.normal(size=(200, 6)) for _ in range(2))
        found = minibatch_cka([x], [y], np.array_split(np.arange(200), 10))
        values.append(found.values[0, 0])
        errors.append(found.standard_errors[0, 0])
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.3)


def test_one_batch_has_no_standard_error() -> None:
    assert np.isnan(minibatch_cka([X], [Y], ALL).standard_errors).all()


def test_a_large_mean_costs_no_digits_of_float32_features() -> None:
    exact = cka(X, Y, SIXTEENS)
    shifted = (X + 1000.0).astype(np.float32)
    assert cka(shifted, Y.astype(np.float32), SIXTEENS) == pytest.approx(exact, abs=2e-4)


@pytest.mark.parametrize("constant", [np.zeros((64, 3)), np.full((64, 3), 7.1, np.float32)])
def test_constant_features_give_no_number(constant: Matrix) -> None:
    found = minibatch_cka([X, constant], None, SIXTEENS)
    assert np.isnan(found.values[1]).all()
    assert np.isnan(found.values[:, 1]).all()
    assert found.values[0, 0] == 1.0
    assert np.isnan(biased_cka([constant], [X])[0, 0])
    noise = 1e-7 * np.random.default_rng(0).normal(size=constant.shape).astype(np.float32)
    assert np.isnan(minibatch_cka([constant + noise + 1], [X], ALL).values[0, 0])


def test_tiny_and_huge_features_neither_vanish_nor_overflow() -> None:
    assert cka(1e-60 * X, 1e60 * Y, SIXTEENS) == pytest.approx(cka(X, Y, SIXTEENS))


@pytest.mark.parametrize(("count", "size"), [(5000, 256), (8, 8), (9, 8), (17, 8), (257, 256)])
def test_batches_hold_every_row_once_in_equal_parts_in_a_seeded_order(
    count: int, size: int
) -> None:
    batches = random_batches(count, size, seed=3)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(count))
    lengths = [len(batch) for batch in batches]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    np.testing.assert_array_equal(batches[0], random_batches(count, size, seed=3)[0])
    if len(batches) > 1:
        assert (np.diff(batches[0]) < 0).any()
        assert (batches[0][:4] != random_batches(count, size, seed=4)[0][:4]).any()


@pytest.mark.parametrize(("count", "size"), [(3, 8), (0, 8), (10, 3), (10, 0)])
def test_too_few_images_are_refused(count: int, size: int) -> None:
    with pytest.raises(ValueError, match="at least 4 images"):
        random_batches(count, size, seed=0)
