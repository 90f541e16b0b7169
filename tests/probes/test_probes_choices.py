"""What is chosen on validation, by which rule, and the small arithmetic around the probes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.scheduler import CosineLRScheduler

from records import entry, head
from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.probes.finetuning.mixing import Mixing, cut_and_paste, smoothed
from sdssl_bench.probes.linear.inputs import Joined, needed, parts_of
from sdssl_bench.probes.linear.schedules import cosine, deit_lr
from sdssl_bench.probes.linear.sweep import CLIP, CLIP_START, best, clip_search
from sdssl_bench.probes.multi_exit import area, exit_report
from sdssl_bench.probes.scores import Graded, grade, ranks_of
from sdssl_bench.probes.val_split import hashed_mask, validation_mask


def images(targets: list[int], predefined: list[int] | None = None) -> ImageSet:
    return ImageSet(
        dataset="x",
        split="train",
        class_names=("a", "b", "c"),
        targets=np.array(targets, np.int64),
        names=[f"{i}.jpg" for i in range(len(targets))],
        root=Path(),
        fingerprint="",
        freshness="",
        predefined_val=None if predefined is None else np.array(predefined, np.int64),
    )


def test_the_split_is_the_same_for_any_order_of_the_files() -> None:
    names, targets = [f"img{i}" for i in range(100)], np.arange(100) % 3
    mask = hashed_mask(names, targets, fraction=0.2)
    order = np.random.default_rng(0).permutation(100)
    again = hashed_mask([names[i] for i in order], targets[order], fraction=0.2)
    np.testing.assert_array_equal(mask[order], again)


def test_the_split_takes_its_share_of_every_class() -> None:
    targets = np.repeat([0, 1, 2, 3], [100, 10, 2, 1])
    mask = hashed_mask([str(i) for i in range(113)], targets, fraction=0.2)
    assert [int(mask[targets == c].sum()) for c in range(4)] == [20, 2, 1, 0]


@pytest.mark.parametrize(
    ("members", "fraction", "count"),
    [
        (8, 0.2, 2), (7, 0.2, 1), (3, 0.2, 1), (2, 0.2, 1),
        (17, 0.1, 2), (14, 0.1, 1), (4, 0.9, 3), (13, 0.5, 6),
    ],
)  # fmt: skip
def test_a_share_is_rounded_to_the_nearest_and_leaves_something_on_either_side(
    members: int, fraction: float, count: int
) -> None:
    names = [str(i) for i in range(members)]
    assert hashed_mask(names, np.zeros(members, int), fraction=fraction).sum() == count


def test_the_split_is_pinned() -> None:
    """Another rule is another split: results of the tasks' present versions would not be comparable."""
    mask = hashed_mask([f"train/{i}.jpg" for i in range(20)], np.zeros(20, int), fraction=0.2)
    assert np.flatnonzero(mask).tolist() == [4, 8, 11, 14]


def test_official_validation_images_are_taken_where_there_are_some() -> None:
    mask = validation_mask(images([0, 1, 0, 1], [1, 2]), np.arange(4))
    assert mask.tolist() == [False, True, True, False]
    part = validation_mask(images([0, 1, 0, 1], [1, 2]), np.array([0, 2, 3]), fraction=0.5)
    assert part.tolist() == [False, True, False]


@pytest.mark.parametrize("predefined", [[], [0, 1, 2, 3], [1, 3]])
def test_a_split_that_cannot_choose_is_an_error(predefined: list[int]) -> None:
    with pytest.raises(DataError, match="--limit"):
        validation_mask(images([0, 1, 0, 1], predefined), np.arange(4))
    with pytest.raises(DataError, match="for validation"):
        validation_mask(images([0, 1, 2]), np.arange(3))


def test_equal_scores_choose_the_strongest_penalty() -> None:
    assert best({10.0: 0.5, 0.1: 0.5, 1.0: 0.4}) == 0.1


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=4))
def test_clips_search_finds_the_peak_of_a_curve_with_one(peaks: list[float]) -> None:
    asked: list[float] = []

    def evaluate(cs: Any) -> list[dict[float, float]]:
        asked.extend(c for one in cs for c in one)
        return [
            {c: -abs(np.log10(c) - peak) for c in one} for one, peak in zip(cs, peaks, strict=True)
        ]

    found = clip_search(evaluate, len(peaks))
    for scores, peak in zip(found, peaks, strict=True):
        nearest = min(CLIP, key=lambda c: abs(np.log10(c) - peak))
        assert abs(CLIP.index(best(scores)) - CLIP.index(nearest)) <= 1
        assert len(CLIP_START) <= len(scores) <= 15
    assert len(asked) == sum(map(len, found)), "nothing is solved twice"


@pytest.mark.parametrize(
    ("kind", "layer", "parts"),
    [
        ("cls", 5, [(5, "cls")]),
        ("mean", 5, [(5, "mean")]),
        ("cls+mean", 5, [(5, "cls"), (5, "mean")]),
        ("last4", 12, [(9, "cls"), (10, "cls"), (11, "cls"), (12, "cls")]),
        ("last4", 2, [(1, "cls"), (2, "cls")]),
        ("last2+mean", 3, [(2, "cls"), (3, "cls"), (3, "mean")]),
    ],
)
def test_inputs_are_made_of_these_features(kind: str, layer: int, parts: list[Any]) -> None:
    assert parts_of(kind, layer) == parts


@pytest.mark.parametrize("kind", ["", "gem", "cls+cls", "mean+mean", "last", "last0", "last4+cls"])
def test_unknown_inputs_are_refused(kind: str) -> None:
    with pytest.raises(UsageError, match="--features"):
        parts_of(kind, 3)


def test_needed_layers_and_poolings() -> None:
    assert needed(["last2", "mean"], [4]) == ([3, 4], ["cls", "mean"])


def test_joined_arrays_read_as_their_concatenation() -> None:
    one, two = np.arange(12.0).reshape(4, 3), -np.arange(8.0).reshape(4, 2)
    both, rows = Joined([one, two]), np.array([2, 0])
    assert both.shape == (4, 5)
    np.testing.assert_array_equal(both[rows], np.hstack([one, two])[rows])


@pytest.mark.parametrize("epochs", [10, 100])
def test_the_schedule_is_timms_as_deits_trainer_steps_it(epochs: int) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=6e-4)
    scheduler = CosineLRScheduler(
        optimizer, t_initial=epochs, lr_min=1e-5, warmup_t=3, warmup_lr_init=1e-6
    )
    for epoch in range(epochs):
        expected = optimizer.param_groups[0]["lr"]
        assert deit_lr(epoch, lr=6e-4, epochs=epochs) == pytest.approx(expected, rel=1e-9)
        scheduler.step(epoch)


def test_the_cosine_falls_from_one_to_zero() -> None:
    values = [cosine(step, 90) for step in range(91)]
    assert (values[0], values[-1]) == (1.0, pytest.approx(0.0))
    assert values == sorted(values, reverse=True)


def test_smoothed_targets_are_those_of_torchs_cross_entropy() -> None:
    logits, targets = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 3])
    ours = -(smoothed(targets, 4, 0.1) * logits.log_softmax(-1)).sum(1).mean()
    theirs = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.1)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_mixed_targets_weigh_images_as_the_pixels_do(mixup: float, cutmix: float) -> None:
    """Image i is the constant i, so its mean tells which share of it is image i."""
    pixels = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 3, 16, 16)
    mixing = Mixing(mixup, cutmix, smoothing=0.0)
    for seed in range(20):
        mixed, soft = mixing(
            pixels, torch.tensor([0, 1]), num_classes=2, rng=np.random.default_rng(seed)
        )
        torch.testing.assert_close(mixed.mean((1, 2, 3)), soft[:, 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(soft.sum(1), torch.ones(2))


def test_without_mixing_images_stay_as_they_are() -> None:
    pixels = torch.randn(3, 3, 4, 4)
    mixed, soft = Mixing(smoothing=0.0)(
        pixels, torch.tensor([0, 1, 1]), num_classes=2, rng=np.random.default_rng(0)
    )
    assert mixed is pixels
    assert soft.tolist() == [[1, 0], [0, 1], [0, 1]]


def test_cut_boxes_have_the_share_on_average() -> None:
    rng = np.random.default_rng(0)
    pixels = torch.arange(2.0)[:, None, None, None].expand(2, 1, 32, 32)
    shares = [cut_and_paste(pixels, 0.75, rng)[1] for _ in range(300)]
    assert 0.75 < np.mean(shares) < 0.9, "clipped at the border, so more stays"
    assert min(shares) >= 0.75


def test_ranks_count_classes_ahead_and_equal_ones_by_id() -> None:
    logits = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    assert ranks_of(logits, torch.tensor([2, 1, 0])).tolist() == [1, 1, 0]


def test_a_head_that_predicts_nothing_is_wrong_everywhere() -> None:
    logits = torch.tensor([[torch.nan, 1.0], [torch.inf, 0.0], [2.0, 1.0]])
    assert ranks_of(logits, torch.tensor([1, 0, -1])).tolist() == [2, 2, 2]


def test_both_metrics_are_given_for_every_set() -> None:
    graded = grade(np.array([0, 0, 0, 7]), np.array([0, 0, 0, 1]), num_classes=2, whole=True)
    assert graded.metrics() == {"top1": 0.75, "top5": 0.75, "mean_per_class": 0.5}


def curve_record(values: list[float], val: list[float] | None = None) -> dict[str, Any]:
    record = head(model__depth=len(values), headline="top1")
    layers = {}
    for layer, value in enumerate(values, start=1):
        metrics = {"top1": value} | ({} if val is None else {"val/top1": val[layer - 1]})
        layers[str(layer)] = {**entry(0.0), "metrics": metrics}
    return {**record, "layers": layers}


def test_the_exit_report_reads_the_layer_curve() -> None:
    report = exit_report(curve_record([0.2, 0.69, 0.71, 0.7], [0.1, 0.9, 0.8, 0.7]))
    assert (report.best, report.best_on_validation, report.earliest, report.last) == (3, 2, 2, 4)
    assert report.area == pytest.approx((0.2 / 2 + 0.69 + 0.71 + 0.7 / 2) / 3)
    assert exit_report(curve_record([0.2, 0.69, 0.71, 0.7]), within=0.0).earliest == 3
    assert exit_report(curve_record([0.2, 0.69, 0.71, 0.7])).best_on_validation is None


def test_the_area_is_the_trapezoids() -> None:
    values = np.random.default_rng(0).random(12).tolist()
    assert area(values) == pytest.approx(np.trapezoid(values, dx=1 / 11))
    assert area([0.3]) == 0.3


def test_a_curve_with_a_gap_has_no_report() -> None:
    record = curve_record([0.1, 0.2, 0.3])
    del record["layers"]["2"]
    with pytest.raises(DataError, match="lacks 2"):
        exit_report(record)


def test_five_classes_count_for_top5_and_one_for_top1() -> None:
    graded = Graded(np.array([0, 0, 1, 4, 5, 6, 9]), np.zeros(7, int), 10, np.array([0]))
    found = graded.metrics()
    assert (found["top1"], found["top5"]) == (2 / 7, 4 / 7)
