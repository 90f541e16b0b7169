"""Alignment and uniformity: golden values, loops over pairs, jackknife by doing it, known answers."""

import math

import numpy as np
import pytest
from PIL import Image

from fakes import plain_images
from sdssl_bench.analysis.pairs import NamedImages, OneView, views
from sdssl_bench.analysis.uniformity import pair_scores, pair_sums, unit
from sdssl_bench.features.loading import load_ahead, load_batch
from twins import literal_pairs
from waves import g, unit_rows

RAW = g(50, 8, 0.37, 0.91, 0.13)
X = unit_rows(RAW)
Y = unit_rows(RAW + 0.3 * g(50, 8, 0.83, 0.41, 0.07))


def test_golden_values() -> None:
    # The golden uniformity and negative alignment are those of the first view.
    assert np.mean(np.linalg.norm(X - Y, axis=1) ** 2) == pytest.approx(0.110272, abs=1e-6)
    two, one = pair_scores(X, Y).metrics, pair_scores(X, Y, gamma=1).metrics
    assert two["alignment"] == pytest.approx(0.110272, abs=1e-6)
    assert one["alignment"] == pytest.approx(0.303193, abs=1e-6)
    n = len(X)
    pairs = n * (n - 1)
    first = pair_sums(X, gamma=2, t=2)
    uniform = math.log(first.energy.sum() / pairs) + first.shift
    negative = first.distance.sum() / pairs
    assert uniform == pytest.approx(-3.215928, abs=1e-6)
    assert negative == pytest.approx(2.039124, abs=1e-6)
    assert pair_sums(X, gamma=1, t=2).distance.sum() / pairs == pytest.approx(1.406892, abs=1e-6)
    assert negative / two["alignment"] == pytest.approx(18.491746, abs=1e-4)
    assert -uniform / two["alignment"] == pytest.approx(29.163559, abs=1e-4)


@pytest.mark.parametrize(("gamma", "t"), [(2, 2), (1, 2), (3, 0.5)])
@pytest.mark.parametrize("tile", [1, 7, 25, 49, 50, 1024])
def test_every_tile_size_gives_the_literal_definitions(gamma: float, t: float, tile: int) -> None:
    found = pair_scores(X, Y, gamma=gamma, t=t, tile=tile).metrics
    for name, value in literal_pairs(X, Y, gamma, t).items():
        assert found[name] == pytest.approx(value, rel=1e-12)


def test_negative_alignment_of_unit_vectors_follows_from_their_mean() -> None:
    n = len(X)
    expected = [2 * (1 - float(v.mean(0) @ v.mean(0))) * n / (n - 1) for v in (X, Y)]
    assert pair_scores(X, Y).metrics["negative_alignment"] == pytest.approx(np.mean(expected))


def test_rotating_both_views_changes_nothing_and_exchanging_them_neither() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    expected = pair_scores(X, Y).metrics
    assert pair_scores(X @ turn, Y @ turn).metrics == pytest.approx(expected)
    assert pair_scores(Y, X).metrics == pytest.approx(expected)


def test_uniformity_of_points_on_a_sphere_is_that_of_the_sphere_and_lowest_there() -> None:
    rng = np.random.default_rng(0)
    x, y = (unit_rows(rng.normal(size=(2000, 3))) for _ in range(2))
    # E exp(-2 d^2) for d^2 = 2 - 2 u, u uniform in [-1, 1].
    expected = math.log((1 - math.exp(-8)) / 8)
    found = pair_scores(x, y)
    assert abs(found.metrics["uniformity"] - expected) < 4 * found.standard_errors["uniformity"]
    gathered = unit_rows(x + np.array([0.5, 0, 0]))
    assert pair_scores(gathered, gathered + 1e-3).metrics["uniformity"] > expected + 0.05


def test_standard_errors_are_those_of_leaving_out_each_image_in_turn() -> None:
    found = pair_scores(X, Y)
    n = len(X)
    keep = [np.arange(n) != i for i in range(n)]
    without = [pair_scores(X[k], Y[k]).metrics for k in keep]
    assert found.standard_errors.keys() == found.metrics.keys()
    for name, error in found.standard_errors.items():
        values = np.array([one[name] for one in without])
        expected = math.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum())
        assert error == pytest.approx(expected, rel=1e-9)


def test_the_stored_parts_give_the_metrics_again() -> None:
    found = pair_scores(X, Y)
    items, metrics = found.items, found.metrics
    assert items["alignment"].mean() == pytest.approx(metrics["alignment"])
    assert items["negative_alignment"].mean() == pytest.approx(metrics["negative_alignment"])
    assert items["view1/energy"].mean() == pytest.approx(1)
    # As results/README.md says: a bootstrap of the parts, times two, is the standard error.
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(X), len(X)) for _ in range(2000)]
    energies = [np.log([items[f"view{v}/energy"][d].mean() for d in draws]) for v in (1, 2)]
    error = 2 * np.std(np.mean(energies, axis=0))
    assert error == pytest.approx(found.standard_errors["uniformity"], rel=0.2)


def test_views_that_agree_have_no_ratios_and_say_why() -> None:
    found = pair_scores(X, X)
    assert found.metrics["alignment"] == 0
    assert set(found.undefined) == {"R", "uniformity_ratio"}
    assert "uniformity" in found.metrics


def test_distances_far_from_the_origin_keep_their_digits() -> None:
    found = pair_scores(X + 1e6, Y + 1e6).metrics
    assert found["uniformity"] == pytest.approx(pair_scores(X, Y).metrics["uniformity"], abs=1e-7)


def test_features_so_far_apart_that_each_exponential_vanishes_have_a_uniformity() -> None:
    x = 1000 * np.eye(5)
    found = pair_scores(x, x + 1).metrics
    assert found["uniformity"] == pytest.approx(-2 * 2e6)
    assert found["negative_alignment"] == pytest.approx(2e6)


def test_normalising_is_safe_for_any_finite_scale() -> None:
    for scale in (1e-300, 1.0, 1e300):
        np.testing.assert_allclose(unit(scale * RAW), X)
    np.testing.assert_allclose(unit(RAW.astype(np.float32)), X, atol=1e-6)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_rows_without_a_direction_are_refused(bad: float) -> None:
    rows = RAW.copy()
    rows[3] = bad
    with pytest.raises(ValueError, match="finite and of non-zero length"):
        unit(rows)


@pytest.mark.parametrize(
    ("x", "y"), [(X[:2], Y[:2]), (X, Y[:-1]), (np.full((5, 2), np.nan), np.ones((5, 2)))]
)
def test_views_that_cannot_be_compared_are_refused(x, y) -> None:
    with pytest.raises(ValueError, match=r"expected two views|finite"):
        pair_scores(x, y)


def photograph(size: tuple[int, int] = (80, 60)) -> Image.Image:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return noise.resize(size, Image.Resampling.BICUBIC)


def test_a_view_is_a_function_of_name_view_and_seed() -> None:
    first, second = views("mocov3", size=32, seed=0)
    image = photograph()
    one = first((image, "a.jpg"))
    assert one.shape == (3, 32, 32)
    assert (one == first((image.copy(), "a.jpg"))).all()
    others = [
        second((image, "a.jpg")),
        first((image, "b.jpg")),
        OneView(first.view, 1, 1)((image, "a.jpg")),
    ]
    assert all((one != other).any() for other in others)


def test_what_happens_to_many_images_happens_at_the_stated_rates() -> None:
    first, second = views("small", size=8, seed=0)
    image = Image.new("RGB", (20, 20), (200, 40, 90))
    grey = [bool((v[0] == v[1]).all()) for v in (first((image, str(i))) for i in range(600))]
    assert abs(np.mean(grey) - 0.2) < 0.05
    gradient = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))).convert("RGB")
    rising = [float(v[0, :, -1].float().mean() - v[0, :, 0].float().mean()) > 0
              for v in (first((gradient, str(i))) for i in range(600))]  # fmt: skip
    assert abs(np.mean(rising) - 0.5) < 0.07
    assert (second((image, "0")) != first((image, "0"))).any()


def test_threads_and_subsets_see_the_same_views() -> None:
    images = NamedImages.of(plain_images(40, size=24), split="view 1")
    assert images.split == "view 1"
    view = views("small", size=8, seed=0)[0]
    whole = load_batch(images, view, np.arange(40)).pixels
    assert whole is not None
    groups = [np.arange(start, start + 4) for start in range(0, 40, 4)]
    threaded = [b.pixels for b in load_ahead(images, view, groups, num_threads=4)]
    for rows, pixels in zip(groups, threaded, strict=True):
        assert pixels is not None
        assert (pixels == whole[rows]).all()
