"""Label propagation: golden values, the dense form, and laws of windows, ties and memory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from davis_twins import dense_propagation, window_mask
from sdssl_bench.system.threads import ThreadTeam
from sdssl_bench.video import propagation
from sdssl_bench.video.affinities import Rule
from sdssl_bench.video.frames import to_mask
from sdssl_bench.video.propagation import Context, propagate, unit

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "davis.json").read_text())[
    "propagation"
]


def waves(a: float, b: float, c: float) -> Tensor:
    i, j = np.mgrid[:20, :6]
    return torch.from_numpy(np.sin(a * i + b * j + c * i * j)).view(4, 5, 6)


def one_hot(step: int, start: int) -> Tensor:
    ids = (step * torch.arange(20) + start) % 3
    return torch.nn.functional.one_hot(ids, 3).float().view(4, 5, 3)


def golden_inputs() -> tuple[Tensor, list[Tensor], list[Tensor]]:
    sources = [waves(0.41, 0.83, 0.09), waves(0.47, 0.79, 0.05)]
    return waves(0.45, 0.85, 0.07), sources, [one_hot(7, 0), one_hot(4, 1)]


def test_soft_labels_and_masks_are_the_reference_values() -> None:
    target, sources, labels = golden_inputs()
    found = propagate(target, sources, labels, rule=Rule(radius=1, topk=3))
    expected = torch.tensor(GOLDEN["expected_soft_labels_CxHxW"]).movedim(0, 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    ids = to_mask(found, (8, 10), (8, 10), minmax=True)
    assert ids.tolist() == GOLDEN["expected_argmax_8x10"]


def test_the_window_of_the_twin_has_the_reference_row_sums() -> None:
    expected = GOLDEN["expected_neighbourhood_row_sums"]
    assert window_mask(4, 5, 1).sum(1).tolist() == expected


def video(
    height: int, width: int, frames: int, *, channels: int = 3, seed: int = 0
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(frames + 1, height, width, 8, generator=generator)
    labels = torch.rand(frames, height, width, channels, generator=generator).softmax(-1)
    return maps[0], list(maps[1:]), list(labels)


@pytest.mark.parametrize(
    ("height", "width", "radius", "tile"),
    [
        (5, 7, 1, None),
        (5, 7, 2, (1, 1)),
        (9, 13, 3, (2, 3)),
        (9, 13, 3, (4, 5)),
        (13, 9, 4, (5, 2)),
        (30, 7, 12, None),
        (6, 40, 12, None),
        (8, 8, 0, None),
        (6, 6, 40, None),
    ],
)
@pytest.mark.parametrize("frames", [1, 3])
def test_tiles_equal_the_dense_form(
    height: int, width: int, radius: int, tile: tuple[int, int] | None, frames: int
) -> None:
    target, sources, labels = video(height, width, frames)
    found = propagate(target, sources, labels, rule=Rule(radius=radius), tile=tile)
    dense = dense_propagation(
        target,
        torch.stack(sources),
        torch.stack(labels),
        mask=window_mask(height, width, radius),
        topk=min(5, frames * height * width),
        temperature=0.1,
    )
    torch.testing.assert_close(found, dense, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.sum(-1), torch.ones(height, width))


@pytest.mark.parametrize("topk", [1, 4, 9])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_constants_of_the_dense_form_are_followed(topk: int, temperature: float) -> None:
    target, sources, labels = video(6, 9, 2, channels=5)
    rule = Rule(radius=2, topk=topk, temperature=temperature)
    dense = dense_propagation(
        target,
        torch.stack(sources),
        torch.stack(labels),
        mask=window_mask(6, 9, 2),
        topk=topk,
        temperature=temperature,
    )
    torch.testing.assert_close(
        propagate(target, sources, labels, rule=rule), dense, atol=1e-5, rtol=0
    )


def test_ties_of_the_kth_are_all_kept() -> None:
    # All patches are alike, so every source in the window ties and the labels are the window's mean.
    ones = torch.ones(5, 6, 4)
    labels = torch.rand(3, 5, 6, 2, generator=torch.Generator().manual_seed(0))
    found = propagate(ones, [ones] * 3, list(labels), rule=Rule(radius=1, topk=5))
    window = window_mask(5, 6, 1)
    mean = torch.einsum("ij,sjc->ic", window, labels.view(3, 30, 2)) / (3 * window.sum(1))[:, None]
    torch.testing.assert_close(found, mean.view(5, 6, 2))


def test_without_ties_exactly_k_count() -> None:
    ones = torch.ones(4, 4, 3)
    marks = torch.eye(16).view(4, 4, 16)  # one channel per source patch
    found = propagate(ones, [ones], [marks], rule=Rule(radius=9, topk=5, keep_ties=False))
    assert ((found > 0).sum(-1) == 5).all()
    torch.testing.assert_close(found[found > 0], torch.full((80,), 0.2))


def test_equal_frames_in_the_context_tie_bit_for_bit() -> None:
    target, sources, labels = video(8, 14, 1)
    twice = propagate(target, sources * 2, labels * 2, rule=Rule(radius=3, topk=1))
    once = propagate(target, sources, labels, rule=Rule(radius=3, topk=1))
    torch.testing.assert_close(twice, once)


def test_distinct_patches_return_their_own_labels() -> None:
    features = torch.eye(20).view(4, 5, 20)
    labels = torch.rand(4, 5, 3)
    rule = Rule(radius=2, topk=1)
    torch.testing.assert_close(propagate(features, [features], [labels], rule=rule), labels)


def test_circle_leaves_out_the_corners_of_the_square() -> None:
    ones, marks = torch.ones(7, 7, 2), torch.eye(49).view(7, 7, 49)
    found = propagate(ones, [ones], [marks], rule=Rule(radius=3, shape="circle", topk=1))
    y, x = np.mgrid[:7, :7] - 3
    assert np.array_equal((found[3, 3] > 0).view(7, 7).numpy(), y * y + x * x <= 9)


def test_the_first_frame_may_be_seen_whole() -> None:
    target, sources, labels = video(6, 10, 3)
    rule = Rule(radius=1, topk=4, keep_ties=False, window_on_first=False)
    found = propagate(target, sources, labels, rule=rule, tile=(2, 3))
    mask = window_mask(6, 10, 1)
    query = unit(target).view(60, -1)
    every = torch.cat(
        [
            query @ unit(s).view(60, -1).T + (0 if n == 0 else mask.log())
            for n, s in enumerate(sources)
        ],
        dim=1,
    )
    values, index = every.topk(4, dim=1)
    weights = (values / rule.temperature).softmax(1)
    expected = (weights[..., None] * torch.cat([la.view(60, -1) for la in labels])[index]).sum(1)
    torch.testing.assert_close(found.view(60, -1), expected, atol=1e-5, rtol=0)


def test_a_context_is_the_first_frame_and_the_last_n_with_their_soft_labels() -> None:
    _, maps, _ = video(5, 7, 7)
    first = one_hot(1, 0).new_zeros(5, 7, 3)
    first[..., 0] = 1
    first[2, 3] = torch.tensor([0.0, 0.0, 1.0])
    rule = Rule(radius=2)
    context = Context(maps[0], first, rule=rule, length=2)
    known = [first]
    for t in range(1, 7):
        sources = [0, *range(max(1, t - 2), t)]
        expected = propagate(
            maps[t], [maps[s] for s in sources], [known[s] for s in sources], rule=rule
        )
        known.append(context.step(maps[t]))
        torch.testing.assert_close(known[t], expected)


def test_a_context_of_length_0_sees_the_first_frame_alone() -> None:
    _, maps, labels = video(5, 7, 3)
    context = Context(maps[0], labels[0], rule=Rule(radius=2), length=0)
    context.step(maps[1])
    alone = propagate(maps[2], maps[:1], labels[:1], rule=Rule(radius=2))
    torch.testing.assert_close(context.step(maps[2]), alone)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("grid", [(3, 5), (9, 17), (26, 40)])
@pytest.mark.parametrize(("radius", "tile"), [(2, None), (12, None), (3, (4, 2)), (1, (16, 40))])
def test_similarities_are_counted_as_they_are_made(
    grid: tuple[int, int],
    radius: int,
    tile: tuple[int, int] | None,
    whole: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rule = Rule(radius=radius, window_on_first=not whole)
    target, sources, labels = video(*grid, 4)
    context = Context(sources[0], labels[0], rule=rule, length=3, tile=tile)
    for known in zip(sources[1:], labels[1:]):
        context.remember(*known)
    first, near = context.similarities
    made, real = 0, propagation._similarity

    def counted(*arguments: Any) -> tuple[Tensor, Tensor]:
        nonlocal made
        found = real(*arguments)
        made += found[0].numel()
        return found

    monkeypatch.setattr(propagation, "_similarity", counted)
    context.step(target)
    assert made == first + 3 * near


def test_workers_change_no_bit() -> None:
    target, sources, labels = video(12, 40, 2)
    alone = Context(sources[0], labels[0], rule=Rule(radius=3), length=7)
    shared = Context(sources[0], labels[0], rule=Rule(radius=3), length=7)
    threads = torch.get_num_threads()
    with ThreadTeam("cpu") as crew:
        for features in (sources[1], target):
            assert torch.equal(alone.step(features), shared.step(features, crew))
    assert torch.get_num_threads() == threads


def test_features_need_no_unit_length_and_labels_no_sum_of_1() -> None:
    target, sources, labels = video(5, 7, 2)
    scaled = propagate(
        9 * target, [3 * s for s in sources], [2 * x for x in labels], rule=Rule(radius=2)
    )
    torch.testing.assert_close(scaled, 2 * propagate(target, sources, labels, rule=Rule(radius=2)))


def test_min_max_stretches_each_channel_and_leaves_empty_ones_alone() -> None:
    labels = torch.zeros(4, 4, 4)
    labels[..., 0] = 0.9
    labels[1, 1, 0], labels[1, 1, 1] = 0.8, 0.1
    labels[..., 3] = 0.3  # constant: becomes 0 instead of 0 / 0
    stretched = to_mask(labels, (4, 4), (4, 4), minmax=True)
    assert stretched[1, 1] == 1
    assert (stretched == 0).sum() == 15
    assert not to_mask(labels, (4, 4), (4, 4), minmax=False).any()


@pytest.mark.parametrize("minmax", [True, False])
@pytest.mark.parametrize("channels", [1, 2, 5, 9])
def test_masks_are_the_argmax_of_whole_stretched_labels(channels: int, minmax: bool) -> None:
    """To the bit, ties included: labels of few values tie in most places."""
    generator = torch.Generator().manual_seed(channels)
    labels = torch.randint(0, 3, (6, 7, channels), generator=generator) / 2
    labels[..., -1] = 0.5 * (channels % 2)
    soft = torch.nn.functional.interpolate(
        labels.movedim(2, 0)[None], (24, 28), mode="bilinear", align_corners=False
    )[0]
    if minmax:
        low, high = soft.amin((1, 2), keepdim=True), soft.amax((1, 2), keepdim=True)
        scale = torch.where(high > low, high - low, 1.0)
        soft = torch.where(high > 0, (soft - low) / scale, soft)
    before = labels.clone()
    found = to_mask(labels, (24, 28), (24, 28), minmax=minmax)
    np.testing.assert_array_equal(found, soft.argmax(0).numpy())
    assert torch.equal(labels, before)
