"""Whitening against the reference's vectors and against what whitening means."""

import numpy as np
import pytest

from sdssl_bench.errors import TaskError, UsageError
from sdssl_bench.retrieval.whitening import BLOCK_ROWS, FLOOR, fit_whitening

DINO = [
    [0.75767, 0.94431, 0.36927, -0.52725, -0.03553],
    [0.43822, 0.95389, 0.72559, -0.19245, -0.12507],
    [-0.1252, 0.63621, 0.96428, 0.34269, -0.24653],
    [-0.61186, 0.08745, 0.81645, 0.80691, -0.13206],
]
CENTRED = [
    [0.16771, 0.96126, 0.61954, -0.07305, 0.32794],
    [-0.21434, 0.95254, 0.8808, 0.29028, 0.40644],
    [-0.5297, 0.7767, 0.98516, 0.6004, 0.36583],
    [-0.76047, 0.41818, 0.88782, 0.86842, 0.32312],
]


def g(n: int, d: int, a: float, b: float, c: float) -> np.ndarray:
    i, j = np.arange(n)[:, None], np.arange(d)
    return np.sin(a * i + b * j + c * i * j)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(("preset", "expected"), [("dino", DINO), ("centred", CENTRED)])
def test_cosines_after_whitening_equal_the_reference(preset, expected) -> None:
    train = g(40, 6, 0.37, 0.91, 0.23) + 0.2 * np.arange(6)
    whitening = fit_whitening(train.astype(np.float32), preset)
    database, queries = (
        unit(whitening.apply(rows.astype(np.float32)))
        for rows in (g(5, 6, 0.5, 0.4, 0.3), g(4, 6, 0.21, 0.77, 0.19))
    )
    np.testing.assert_allclose(queries @ database.T, expected, atol=1e-4)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((500, 12)) @ rng.standard_normal((12, 12)) + 3).astype(np.float32)


def test_centred_whitening_gives_its_training_rows_identity_covariance(rows) -> None:
    white = fit_whitening(rows, "centred").apply(rows).astype(float)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(12), atol=1e-3)


def test_dino_whitening_gives_uncentred_rows_identity_second_moment(rows) -> None:
    whitening = fit_whitening(rows, "dino")
    raw = rows.astype(float) @ whitening.matrix.T
    np.testing.assert_allclose(raw.T @ raw / len(raw), np.eye(12), atol=1e-3)
    # It is applied to centred rows all the same, as DINO does: their second moment is not identity.
    white = whitening.apply(rows).astype(float)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-4)
    assert np.abs(white.T @ white / len(white) - np.eye(12)).max() > 0.1


@pytest.mark.parametrize("floor", [1e-5, 1e-3])
def test_directions_below_the_floor_get_its_gain_and_those_above_their_own(floor: float) -> None:
    """Variances that are known: 1, twice and half the floor, and nearly nothing."""
    variances = np.array([1.0, 2 * floor, floor / 2, 1e-9])
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    white = (
        np.linalg.qr(np.random.default_rng(1).standard_normal((64, 4)))[0] * 8
    )  # second moment 1
    whitening = fit_whitening(white * np.sqrt(variances) @ axes, "dino", floor=floor)
    gains = np.linalg.norm(whitening.matrix, axis=1)
    np.testing.assert_allclose(gains, np.array([1, 2 * floor, floor, floor]) ** -0.5, rtol=1e-6)
    assert whitening.num_floored == 2


def test_small_eigenvalues_are_raised_to_the_floor(rows) -> None:
    flat = rows.copy()
    flat[:, -1] = flat[:, 0]  # a direction without any variance
    whitening = fit_whitening(flat, "centred")
    assert whitening.num_floored == 1
    largest = np.linalg.eigvalsh(np.cov(flat.astype(float).T, bias=True))[-1]
    gain = np.linalg.norm(whitening.matrix, axis=1)
    assert gain[-1] == pytest.approx((FLOOR * largest) ** -0.5, rel=1e-6)
    assert np.isfinite(whitening.matrix).all()


def test_rows_come_by_descending_eigenvalue_and_all_are_kept(rows) -> None:
    gain = np.linalg.norm(fit_whitening(rows).matrix, axis=1)
    assert len(gain) == 12
    assert (np.diff(gain) >= 0).all()


def test_cosines_do_not_depend_on_the_basis_of_the_features(rows) -> None:
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))[0]
    turned = (rows @ turn).astype(np.float32)
    a, b = (unit(fit_whitening(r, "dino").apply(r)[:20]) for r in (rows, turned))
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-3)


@pytest.mark.parametrize("preset", ["dino", "centred"])
def test_rows_are_streamed_and_the_blocks_do_not_matter(preset, monkeypatch) -> None:
    rows = np.random.default_rng(2).standard_normal((BLOCK_ROWS + 10, 4)).astype(np.float32)
    whole = fit_whitening(rows, preset)
    monkeypatch.setattr("sdssl_bench.retrieval.whitening.BLOCK_ROWS", 100)
    parts = fit_whitening(rows, preset)
    np.testing.assert_allclose(whole.mean, parts.mean, atol=1e-12)
    np.testing.assert_allclose(np.abs(whole.matrix), np.abs(parts.matrix), atol=1e-9)
    np.testing.assert_allclose(whole.apply(rows), whole.apply(rows[:]), atol=0)


def test_what_cannot_be_whitened_is_an_error(rows) -> None:
    with pytest.raises(UsageError, match="Did you mean 'centred'"):
        fit_whitening(rows, "centered")
    with pytest.raises(UsageError, match="at least 2 vectors"):
        fit_whitening(rows[:1])
    with pytest.raises(TaskError, match="differ from image to image"):
        fit_whitening(np.tile(rows[:1], (5, 1)), "centred")
    with pytest.raises(TaskError, match="differ from image to image"):
        fit_whitening(np.zeros((5, 3), np.float32), "dino")
    broken = rows.copy()
    broken[3, 1] = np.nan
    with pytest.raises(TaskError, match="finite"):
        fit_whitening(broken)


@pytest.mark.parametrize("count", [3, 7, 41])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_rows_equal_but_for_rounding_have_no_direction(
    rows: np.ndarray, count: int, scale: float
) -> None:
    """The mean of equal rows in float64 rarely is that row; what is left is no covariance."""
    equal = np.tile(scale * rows[:1].astype(np.float64) / 3, (count, 1))
    with pytest.raises(TaskError, match="differ from image to image"):
        fit_whitening(equal, "centred")
    equal[0] *= 1 + 1e-4
    assert np.isfinite(fit_whitening(equal, "centred").matrix).all()
