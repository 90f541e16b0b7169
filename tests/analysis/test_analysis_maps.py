"""Ranks, t-SNE maps and samples: known answers, definitions, determinism, too little data."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fakes import plain_images
from sdssl_bench.analysis import embedding, samples
from sdssl_bench.analysis.panels import COLOURS, Panel, write_panels
from sdssl_bench.analysis.rank import RANKME_EPSILON, effective_rank, rankme, singular_values
from sdssl_bench.datasets.base import ClassificationData
from sdssl_bench.errors import DataError
from waves import g

FEATURES = g(60, 12, 0.37, 0.91, 0.13) + 3.0


@pytest.mark.parametrize("block", [1, 7, 60, 4096])
@pytest.mark.parametrize("shape", [(60, 12), (9, 12)])
def test_singular_values_are_those_of_the_whole_matrix(block: int, shape: tuple[int, int]) -> None:
    x = FEATURES[: shape[0]]
    for centred in (False, True):
        expected = np.linalg.svd(x - centred * x.mean(0), compute_uv=False)
        found = singular_values(x, centred=centred, block=block)
        np.testing.assert_allclose(found, expected, atol=1e-11 * expected[0])


def test_small_singular_values_survive() -> None:
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.normal(size=(100, 4)))[0]
    right = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    values = np.array([1.0, 1e-3, 1e-9, 1e-12])
    found = singular_values(left * values @ right, block=30)
    np.testing.assert_allclose(found, values, rtol=1e-3)


def test_ranks_are_exponentials_of_the_literal_entropy() -> None:
    values = np.linalg.svd(FEATURES, compute_uv=False)
    shares = [v / values.sum() + RANKME_EPSILON for v in values]
    assert rankme(values) == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))
    shares = [v / values.sum() for v in values]
    assert effective_rank(values) == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))


def test_equal_directions_count_one_each_and_missing_ones_nothing() -> None:
    for count in (1, 5, 12):
        values = np.array([2.5] * count + [0.0] * (12 - count))
        assert effective_rank(values) == pytest.approx(count)
        assert rankme(values) == pytest.approx(count, rel=1e-4)


def test_ranks_ignore_scale_and_rotation_and_the_centred_one_a_shift() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    moved = 7.0 * FEATURES @ turn
    assert rankme(singular_values(moved)) == pytest.approx(rankme(singular_values(FEATURES)))
    one, two = (singular_values(x, centred=True) for x in (FEATURES, moved - 5.0))
    assert effective_rank(one) == pytest.approx(effective_rank(two))
    assert rankme(singular_values(FEATURES)) < effective_rank(one)


def test_features_of_zeros_have_no_rank() -> None:
    with pytest.raises(ValueError, match="all zero"):
        rankme(np.zeros(3))


def clouds(m: int = 60, classes: int = 3, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = np.arange(m, dtype=np.int64) % classes
    return (rng.normal(size=(m, 20)) + 12 * np.eye(20)[targets]).astype(np.float32), targets


def test_principal_components_are_the_rotated_features_largest_first() -> None:
    x, _ = clouds()
    found = embedding.principal_components(x, 20)
    centred = x.astype(float) - x.astype(float).mean(0)
    np.testing.assert_allclose(found @ found.T, centred @ centred.T, atol=1e-9)
    assert (np.diff(found.std(0)) <= 0).all()
    np.testing.assert_allclose(
        embedding.principal_components(x + 100.0, 2), found[:, :2], atol=1e-3
    )
    assert embedding.principal_components(x[:5], 50).shape == (5, 5)


def test_classes_that_lie_apart_lie_apart_in_the_map_and_again_the_same() -> None:
    x, targets = clouds()
    one = embedding.tsne_map(x, perplexity=10, iterations=400)
    two = embedding.tsne_map(x, perplexity=10, iterations=400)
    np.testing.assert_array_equal(one.points, two.points)
    assert one.points.shape == (60, 2)
    assert one.points.dtype == np.float32
    assert embedding.purity(one.points, targets, k=5) == 1.0
    assert embedding.silhouette(one.points, targets, metric="euclidean") > 0.5
    assert np.isfinite(one.divergence)


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_the_scale_of_features_is_of_no_matter(factor: float) -> None:
    x, targets = clouds()
    made = embedding.tsne_map(x.astype(float) * factor, perplexity=10, iterations=400)
    assert embedding.purity(made.points, targets, k=5) == 1.0


def test_purity_is_a_loop_over_neighbours() -> None:
    rng = np.random.default_rng(0)
    points, targets = rng.normal(size=(40, 2)), rng.integers(0, 4, 40)
    hits = 0
    for i in range(40):
        order = sorted((math.dist(points[i], points[j]), j) for j in range(40) if j != i)
        hits += sum(targets[j] == targets[i] for _, j in order[:7])
    assert embedding.purity(points, targets, k=7) == hits / 280


def test_silhouette_is_its_definition() -> None:
    x, targets = clouds(24)
    unit = x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    total = 0.0
    for i in range(24):
        means = {
            c: distance[i, (targets == c) & (np.arange(24) != i)].mean() for c in np.unique(targets)
        }
        own = means.pop(targets[i])
        other = min(means.values())
        total += (other - own) / max(own, other)
    assert embedding.silhouette(x, targets, metric="cosine") == pytest.approx(total / 24, abs=1e-6)


def test_too_few_or_equal_points_make_no_map() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        embedding.tsne_map(np.eye(7))
    with pytest.raises(ValueError, match="differ"):
        embedding.tsne_map(np.ones((20, 4)), perplexity=5)


def data(num_test: int = 50) -> ClassificationData:
    test = plain_images(num_test, split="test")
    return ClassificationData("colours", "folder", "top1", plain_images(5), test)


def test_a_sample_is_seeded_ascending_and_without_repeats() -> None:
    one, two = (samples.draw(data(), num_images=20, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.rows, two.rows)
    assert one.images.fingerprint == two.images.fingerprint
    assert (np.diff(one.rows) > 0).all()
    other = samples.draw(data(), num_images=20, seed=4)
    assert one.images.fingerprint != other.images.fingerprint
    assert len(samples.draw(data(), num_images=5000, seed=0).rows) == 50
    assert len(samples.draw(data(), num_images=5000, seed=0, limit=9).rows) == 9


def test_a_sample_holds_the_images_of_its_rows() -> None:
    whole = data().test
    found = samples.draw(data(), num_images=20, seed=0)
    for place, row in enumerate(found.rows.tolist()):
        assert found.images.names[place] == whole.names[row]
        assert found.images.targets[place] == whole.targets[row]
        assert found.images.load(place).tobytes() == whole.load(row).tobytes()


def test_maps_show_few_classes_in_equal_parts_and_the_rest_is_not_computed_twice() -> None:
    found = samples.draw(data(70), num_images=20, seed=0, map_classes=3, map_images=24)
    targets = data(70).test.targets[found.mapped]
    assert np.unique(targets, return_counts=True)[1].tolist() == [8, 8, 8]
    apart, sample = set(found.further.tolist()), set(found.rows.tolist())
    assert apart
    assert not apart & sample
    assert apart | sample >= set(found.mapped.tolist())
    whole = samples.draw(data(70), num_images=70, seed=0, map_classes=3, map_images=24)
    assert not len(whole.further)
    np.testing.assert_array_equal(whole.mapped, found.mapped)


def test_too_few_images_for_an_analysis_are_refused() -> None:
    with pytest.raises(DataError, match="at least 8 test images, found 7"):
        samples.draw(data(7), num_images=5000, seed=0)
    with pytest.raises(DataError, match="--limit 3"):
        samples.draw(data(), num_images=5000, seed=0, limit=3)


def test_a_panel_shows_every_point_in_the_colour_of_its_class(tmp_path: Path) -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    targets = np.array([4, 4, 7, 9])
    panels = [Panel(f"layer {n}", points * n) for n in range(1, 7)]
    names = {4: "cat", 7: "dog", 9: "cow"}
    path = write_panels(tmp_path / "x" / "t.png", panels, targets, names=names, heading="model")
    with Image.open(path) as page:
        pixels = np.asarray(page.convert("RGB")).reshape(-1, 3)
    counts = [int((pixels == np.array(COLOURS[i])).all(1).sum()) for i in range(3)]
    assert counts[0] > 1.5 * counts[1]
    assert counts[1] > 0
    assert counts[1] == counts[2]
