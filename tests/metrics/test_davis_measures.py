"""J, F and their statistics: golden values, the definition by sets of pixels, and laws."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from davis_twins import boundary_f_of_sets, boundary_pixels, dense_j_and_f
from sdssl_bench.metrics.region_boundary import (
    _dilate,
    _pack,
    boundary,
    boundary_f,
    jaccard,
    region_and_boundary,
    score_frame,
    tolerance,
)
from sdssl_bench.video.summary import (
    SequenceScores,
    csv_files,
    score_sequence,
    statistics,
    summarise,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "davis.json").read_text())

Mask = NDArray[np.bool_]


def shapes() -> dict[str, Mask]:
    y, x = np.mgrid[:60, :80]
    edge = (y < 20) & (x < 30)
    return {
        "circ": (y - 30) ** 2 + (x - 40) ** 2 <= 225,
        "pred": (y - 33) ** 2 + (x - 44) ** 2 <= 196,
        "rect": (y >= 10) & (y < 40) & (x >= 20) & (x < 55),
        "edge": edge,
        "shifted": np.roll(edge, 2, axis=1),
        "empty": np.zeros_like(edge),
    }


PAIRS = {
    "circ_vs_circ": ("circ", "pred"),
    "circ_vs_rect": ("circ", "rect"),
    "gt_empty_pred": ("circ", "empty"),
    "empty_vs_pred": ("empty", "pred"),
    "both_empty": ("empty", "empty"),
    "edge_vs_shift": ("edge", "shifted"),
    "self": ("circ", "circ"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_j_and_f_are_the_reference_values(name: str) -> None:
    truth, found = (shapes()[part] for part in PAIRS[name])
    expected = GOLDEN["metrics"]["expected"][name]
    assert jaccard(found, truth) == pytest.approx(expected["J"], abs=1e-6)
    assert boundary_f(found, truth) == pytest.approx(expected["F"], abs=1e-6)


def test_j_and_f_are_the_reference_values_at_480p() -> None:
    y, x = np.mgrid[:480, :854]
    truth = (y - 240) ** 2 + (x - 400) ** 2 <= 10000
    found = (y - 246) ** 2 + (x - 409) ** 2 <= 9025
    j, f = region_and_boundary(found, truth)
    assert j == pytest.approx(GOLDEN["large"]["J"], abs=1e-6)
    assert f == pytest.approx(GOLDEN["large"]["F"], abs=1e-6)


@pytest.mark.parametrize("name", GOLDEN["metrics"]["boundary_pixel_counts"])
def test_boundary_has_the_reference_number_of_pixels(name: str) -> None:
    expected = GOLDEN["metrics"]["boundary_pixel_counts"][name]
    assert boundary(shapes()[name]).sum() == expected


@pytest.mark.parametrize("size", GOLDEN["metrics"]["tolerance_px"])
def test_tolerance_follows_the_diagonal(size: str) -> None:
    height, width = map(int, size.split("x"))
    assert tolerance(height, width) == GOLDEN["metrics"]["tolerance_px"][size]


@pytest.mark.parametrize("radius", [1, 2, 8, 9, 10])
def test_a_pixel_grows_to_the_disk(radius: int) -> None:
    side = 2 * radius + 1
    point = np.zeros((side, side), dtype=bool)
    point[radius, radius] = True
    stride = side + radius
    grown = _dilate(_pack(point, stride), stride, radius)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = y * y + x * x <= radius * radius
    assert disk.sum() == GOLDEN["metrics"]["disk_pixel_counts"][str(radius)]
    assert grown & _pack(np.ones_like(disk), stride) == _pack(disk, stride)


@st.composite
def two_masks(draw: st.DrawFn) -> tuple[Mask, Mask]:
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    seed, density = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.02, 0.2, 0.6, 0.98]))
    rng = np.random.default_rng(seed)
    return rng.random((height, width)) < density, rng.random((height, width)) < density


@settings(max_examples=150, deadline=None)
@given(masks=two_masks(), radius=st.integers(0, 5))
def test_f_is_the_share_of_boundary_pixels_with_one_of_the_other_in_reach(
    masks: tuple[Mask, Mask], radius: int
) -> None:
    found, truth = masks
    on = {(int(y), int(x)) for y, x in np.argwhere(boundary(found))}
    assert on == boundary_pixels(found)
    assert boundary_f(found, truth, radius=radius) == boundary_f_of_sets(found, truth, radius)


@settings(max_examples=60, deadline=None)
@given(masks=two_masks())
def test_j_and_f_are_symmetric_lie_in_0_1_and_are_1_on_equal_masks(
    masks: tuple[Mask, Mask],
) -> None:
    a, b = masks
    assert region_and_boundary(a, b) == region_and_boundary(b, a)
    assert all(0 <= value <= 1 for value in region_and_boundary(a, b))
    assert region_and_boundary(a, a) == (1.0, 1.0)
    union = (a | b).sum()
    assert jaccard(a, b) == (1.0 if not union else (a & b).sum() / union)


def test_objects_of_a_frame_equal_whole_stacks_and_distance_maps() -> None:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 4, (2, 5, 12, 18)).astype(np.uint8)
    found, truth = np.kron(
        coarse, np.ones((1, 1, 11, 11), np.uint8)
    )  # blocks that touch the border
    ours = np.stack([score_frame(a, b, 3) for a, b in zip(found, truth)], axis=-1)
    np.testing.assert_allclose(ours, dense_j_and_f(found, truth, 3), rtol=0, atol=1e-12)


def test_one_pixel_of_an_unknown_object_is_refused_and_one_of_void_is_background() -> None:
    """A prediction has the ids of the first annotation; annotations have 255 where nobody knows."""
    known = np.kron(np.arange(4, dtype=np.uint8).reshape(2, 2), np.ones((9, 9), np.uint8))
    odd = known.copy()
    odd[0, 0] = 4
    with pytest.raises(ValueError, match=r"expected ids 0\.\.3, found 4"):
        score_frame(odd, known, 3)
    odd[0, 0] = 255
    np.testing.assert_array_equal(score_frame(known, odd, 3), score_frame(known, known, 3))


@pytest.mark.parametrize("n", GOLDEN["statistics"]["expected"])
def test_mean_recall_and_decay_are_the_reference_values(n: str) -> None:
    i = np.arange(int(n))
    series = 0.9 - 0.6 * i / int(n) + 0.05 * np.sin(i)
    assert statistics(series) == pytest.approx(GOLDEN["statistics"]["expected"][n], abs=1e-6)


def test_recall_is_strictly_above_one_half() -> None:
    series = GOLDEN["statistics"]["fixed"]
    assert 0.5 in series
    assert statistics(series) == pytest.approx(GOLDEN["statistics"]["fixed_expected"], abs=1e-6)


@pytest.mark.parametrize("n", GOLDEN["metrics"]["decay_bin_edges"])
def test_decay_quarters_share_their_edges(n: str) -> None:
    edges = GOLDEN["metrics"]["decay_bin_edges"][n]
    series = np.random.default_rng(0).random(int(n))
    first, last = series[edges[0] : edges[1] + 1], series[edges[3] : edges[4] + 1]
    assert statistics(series)[2] == pytest.approx(first.mean() - last.mean())


def test_decay_of_a_long_video_is_not_cut_to_8_bits() -> None:
    series = np.linspace(1, 0, 601)
    assert statistics(series)[2] == pytest.approx(0.75)


def test_first_and_last_frame_do_not_count() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (6, 20, 30)).astype(np.uint8)
    truth[0, 0, 0] = 2
    found = rng.integers(0, 3, (6, 20, 30)).astype(np.uint8)
    scores = score_sequence(found, truth).values
    found[0], found[-1] = 7, 9  # ids that would be an error in a frame that counts
    assert np.array_equal(score_sequence(found, truth).values, scores)
    assert scores.shape == (2, 2, 4)


def test_torch_tensors_score_as_numpy_arrays_do() -> None:
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 3, (2, 5, 20, 30)).astype(np.uint8)
    truth[0, 0, 0] = 2
    as_torch = score_sequence(torch.from_numpy(found), torch.from_numpy(truth)).values
    assert np.array_equal(as_torch, score_sequence(found, truth).values)
    masks = torch.from_numpy(found[0] == 1), torch.from_numpy(truth[0] == 1)
    assert region_and_boundary(*masks) == region_and_boundary(found[0] == 1, truth[0] == 1)


def test_void_is_background_and_gives_no_object() -> None:
    truth = np.zeros((4, 10, 10), np.uint8)
    truth[:, 2:5, 2:5], truth[:, 7:, 7:] = 1, 255
    found = np.where(truth == 1, 1, 0)
    assert score_sequence(found, truth).values.tolist() == np.ones((2, 1, 2)).tolist()


def test_an_object_that_is_not_predicted_scores_0_and_an_absent_one_1() -> None:
    truth = np.zeros((4, 10, 10), np.uint8)
    truth[0, 0, 0] = 2
    truth[1, 3:6, 3:6] = 1
    j, f = score_sequence(np.zeros_like(truth), truth).values
    assert j.tolist() == f.tolist() == [[0.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("found", "truth", "message"),
    [
        (np.zeros((4, 5, 5)), np.ones((4, 5, 6)), "one shape"),
        (np.zeros((2, 5, 5)), np.ones((2, 5, 5)), "T >= 3"),
        (np.zeros((4, 5, 5)), np.zeros((4, 5, 5)), "background only"),
        (np.full((4, 5, 5), 2), np.ones((4, 5, 5)), r"ids 0\.\.1, found 2"),
    ],
)
def test_masks_that_do_not_fit_are_refused(
    found: NDArray[np.uint8], truth: NDArray[np.uint8], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score_sequence(found.astype(np.uint8), truth.astype(np.uint8))


def test_binary_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[H, W\]"):
        jaccard(np.zeros((3, 4)), np.zeros((4, 3)))


def test_global_numbers_are_means_over_objects_not_sequences() -> None:
    one = SequenceScores("a", np.full((2, 1, 4), 1.0))
    three = SequenceScores("b", np.full((2, 3, 4), 0.2))
    total = summarise([one, three])
    assert total["J-Mean"] == total["F-Mean"] == total["J&F-Mean"] == pytest.approx(0.4)
    assert total["J-Recall"] == pytest.approx(0.25)
    assert list(total) == [
        "J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay",
    ]  # fmt: skip
    assert csv_files([one, three]) == {
        "global_results-val.csv": "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay\n"
        "0.400,0.400,0.250,0.000,0.400,0.250,0.000\n",
        "per-sequence_results-val.csv": "Sequence,J-Mean,F-Mean\na_1,1.000,1.000\n"
        "b_1,0.200,0.200\nb_2,0.200,0.200\nb_3,0.200,0.200\n",
    }


def test_no_object_is_no_score() -> None:
    with pytest.raises(ValueError, match="at least one object"):
        summarise([])
