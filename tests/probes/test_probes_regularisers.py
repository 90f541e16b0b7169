"""RandAugment and random erasing are timm's, but drawn from an image's or batch's own generator."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor

from sdssl_bench.probes.augment import RandomCropFlip, epoch_order
from sdssl_bench.probes.linear.regularisers import erase, rand_augment

BICUBIC = Image.Resampling.BICUBIC


def photograph(side: int = 64) -> Image.Image:
    y, x = np.mgrid[:side, :side]
    channels = [128 + 100 * np.sin(x / 9), 128 + 100 * np.cos(y / 7), 2 * x + y]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def test_randaugment_is_timms_under_the_same_draws() -> None:
    """DeiT's string as timm's own factory reads it; every draw of twenty agrees, and they differ."""
    theirs = rand_augment_transform(
        "rand-m9-mstd0.5-inc1",
        {"translate_const": 28, "img_mean": (124, 116, 104), "interpolation": BICUBIC},
    )
    outputs = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        ours = rand_augment(photograph(), rng, magnitude=9, resample=BICUBIC)
        rng = np.random.default_rng(seed)
        random.seed(int(rng.integers(2**32)))
        np.random.seed(int(rng.integers(2**32)))  # noqa: NPY002
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs(photograph())))
        outputs.add(ours.tobytes())
    assert len(outputs) > 10


def test_an_image_that_loses_every_bit_is_black() -> None:
    """Posterize at magnitude 10, which one draw in 43 reaches and Pillow refuses."""
    image = photograph(8)
    lost = sum(
        not np.asarray(
            rand_augment(image, np.random.default_rng(seed), magnitude=9, resample=BICUBIC)
        ).any()
        for seed in range(3000)
    )
    assert 1 <= lost < 15


def test_threads_draw_for_their_own_images_and_leave_the_global_generators_alone() -> None:
    augment = RandomCropFlip(32, interpolation="bicubic", randaugment=9)
    image = photograph()

    def augmented(seed: int) -> bytes:
        return augment((image, np.random.default_rng(seed))).numpy().tobytes()

    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = random.random(), float(np.random.random())  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    alone = [augmented(seed) for seed in range(60)]
    assert expected == (random.random(), float(np.random.random()))  # noqa: NPY002
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(augmented, range(60))) == alone
    plain = RandomCropFlip(32, interpolation="bicubic")
    same = [
        plain((image, np.random.default_rng(seed))).numpy().tobytes() == alone[seed]
        for seed in range(60)
    ]
    # Each of two operations is skipped half the time.
    assert 5 <= sum(same) <= 30


def erased(pixels: Tensor, probability: float) -> Tensor:
    torch.manual_seed(0)
    return erase(pixels.clone(), np.random.default_rng(0), probability=probability)


def test_a_quarter_of_the_images_lose_a_box_of_2_to_33_percent_to_noise() -> None:
    pixels = torch.full((800, 3, 32, 32), 7.0)
    found = erased(pixels, 0.25)
    assert torch.equal(found, erased(pixels, 0.25))
    changed = (found != pixels).any(1)
    hit = changed.flatten(1).any(1)
    assert float(hit.float().mean()) == pytest.approx(0.25, abs=0.05)
    for box in changed[hit]:
        rows, columns = torch.nonzero(box.any(1))[:, 0], torch.nonzero(box.any(0))[:, 0]
        area = len(rows) * len(columns)
        assert int(box.sum()) == area == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert 0.015 < area / 1024 < 0.36
    noise = found[found != 7.0]
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1, abs=0.02), "standard normal for each pixel"
    assert erased(pixels, 0.0).equal(pixels)


def test_repeated_images_follow_each_other_in_an_epoch_of_whole_256() -> None:
    order = epoch_order(np.arange(1000), seed=0, epoch=3, repeats=3)
    assert len(order) == 768
    np.testing.assert_array_equal(order[0::3], order[1::3])
    np.testing.assert_array_equal(order[0::3], order[2::3])
    assert len(set(order)) == 256, "as many images as fit, once each but for the copies"
    np.testing.assert_array_equal(order[::3], epoch_order(np.arange(1000), seed=0, epoch=3)[:256])
    assert len(epoch_order(np.arange(100), seed=0, epoch=0, repeats=3)) == 100
