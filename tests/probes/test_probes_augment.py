"""Training images: the crops are torchvision's, and depend on nothing but seed, epoch and position."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from fakes import plain_images
from sdssl_bench.features.loading import batches
from sdssl_bench.probes.augment import (
    EpochImages,
    RandomCropFlip,
    epoch_order,
    random_box,
    steps_of,
)


def photograph(width: int = 90, height: int = 60) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


class Fixed:
    """A generator whose flips are known; everything else is a real one's."""

    def __init__(self, seed: int, flip: bool) -> None:
        self.rng, self.flip = np.random.default_rng(seed), flip
        self.uniform, self.integers = self.rng.uniform, self.rng.integers

    def random(self) -> float:
        return 0.0 if self.flip else 1.0


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pixels_are_torchvisions_for_the_same_box(flip: bool, interpolation: str) -> None:
    image = photograph()
    for seed in range(5):
        left, top, right, bottom = random_box(image.size, (0.08, 1.0), np.random.default_rng(seed))
        expected = v2.functional.resized_crop(
            image, top, left, bottom - top, right - left, [32, 32],
            interpolation=v2.InterpolationMode(interpolation), antialias=True,
        )  # fmt: skip
        expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else expected
        ours = RandomCropFlip(32, interpolation=interpolation)((image, Fixed(seed, flip)))
        assert ours.dtype == torch.uint8
        np.testing.assert_array_equal(ours.permute(1, 2, 0).numpy(), np.asarray(expected))


def test_boxes_follow_torchvisions_distribution() -> None:
    rng = np.random.default_rng(0)
    ours = np.array([random_box((90, 60), (0.08, 1.0), rng) for _ in range(4000)])
    torch.manual_seed(0)
    image = torch.zeros(3, 60, 90)
    theirs = np.array(
        [
            (j, i, j + w, i + h)
            for i, j, h, w in (
                v2.RandomResizedCrop.make_params(  # type: ignore[attr-defined]
                    v2.RandomResizedCrop(32), [image]
                ).values()
                for _ in range(4000)
            )
        ]
    )
    for measure in (
        lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) / 5400,
        lambda b: np.log((b[:, 2] - b[:, 0]) / (b[:, 3] - b[:, 1])),
        lambda b: (b[:, 0] + b[:, 2]) / 180,
        lambda b: (b[:, 1] + b[:, 3]) / 120,
    ):
        one, two = measure(ours), measure(theirs)
        assert abs(one.mean() - two.mean()) < 4 * np.sqrt((one.var() + two.var()) / 4000)
        assert one.std() == pytest.approx(two.std(), rel=0.08)


def test_boxes_stay_inside_and_keep_area_and_aspect() -> None:
    rng = np.random.default_rng(1)
    for size in ((90, 60), (7, 7), (200, 20), (20, 200), (1, 1)):
        for _ in range(200):
            left, top, right, bottom = random_box(size, (0.05, 1.0), rng)
            assert 0 <= left < right <= size[0]
            assert 0 <= top < bottom <= size[1]
    # No crop of a permitted aspect has 90 % of so long an image: the central one is taken.
    assert random_box((200, 20), (0.9, 1.0), rng) == (86, 0, 113, 20)
    assert random_box((20, 200), (0.9, 1.0), rng) == (0, 86, 20, 113)
    # Nor is any crop larger than its image, which is then whole unless it is too long.
    for size in ((60, 60), (80, 60), (60, 80), (3, 4)):
        assert random_box(size, (1.5, 2.0), rng) == (0, 0, *size)
    assert random_box((90, 60), (1.5, 2.0), rng) == (5, 0, 85, 60)


def test_an_epoch_is_the_same_whoever_loads_it(tmp_path: Path) -> None:
    images = plain_images(12, size=16)
    order = epoch_order(np.arange(12), seed=3, epoch=2)
    source = EpochImages(images, order, 3, 2)
    augment = RandomCropFlip(8)

    def load(groups: list[np.ndarray], workers: int) -> torch.Tensor:
        found = batches(
            source,
            augment,
            groups,
            device=torch.device("cpu"),
            num_workers=workers,  # type: ignore[arg-type]
        )
        return torch.cat([batch.pixels for batch in found if batch.pixels is not None])

    whole = load([np.arange(12)], 0)
    assert torch.equal(whole, load(list(np.arange(12).reshape(3, 4)), 0))
    assert torch.equal(whole, load(list(np.arange(12).reshape(6, 2)), 2))
    shares = [load([np.arange(12)[rank::2]], 0) for rank in (0, 1)]
    assert torch.equal(whole, torch.stack(shares, 1).flatten(0, 1))


def test_an_image_is_cropped_anew_in_every_epoch_seed_and_place(tmp_path: Path) -> None:
    """All items are one image, so that nothing but the crop can tell them apart."""
    images, order = plain_images(1, size=16), np.zeros(6, np.int64)

    def boxes(seed: int, epoch: int) -> list[tuple[int, int, int, int]]:
        source = EpochImages(images, order, seed, epoch)
        return [random_box((224, 224), (0.08, 1.0), source.load(place)[1]) for place in range(6)]

    assert boxes(3, 2) == boxes(3, 2)
    assert len({*boxes(3, 2), *boxes(3, 1), *boxes(4, 2)}) == 18


def test_epochs_and_seeds_differ_and_every_image_comes_once() -> None:
    indices = np.arange(50, 90)
    orders = [epoch_order(indices, seed=s, epoch=e) for s in (0, 1) for e in (0, 1)]
    assert all(sorted(order) == list(indices) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    np.testing.assert_array_equal(orders[0], epoch_order(indices, seed=0, epoch=0))


def test_long_epochs_repeat_whole_permutations() -> None:
    order = epoch_order(np.arange(10), seed=0, epoch=0, count=25)
    assert len(order) == 25
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10))
    assert len(set(order[20:])) == 5


def test_steps_cover_the_epoch() -> None:
    assert list(steps_of(10, 4)) == [slice(0, 4), slice(4, 8), slice(8, 10)]
