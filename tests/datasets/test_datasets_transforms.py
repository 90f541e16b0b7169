"""The preprocessing variants equal torchvision's compositions, pixel for pixel."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode as Mode

from sdssl_bench.datasets.transforms import IDS, preprocess, short_side
from sdssl_bench.errors import UsageError

SHAPES = [
    (500, 375),
    (375, 500),
    (333, 333),
    (101, 97),
    (97, 640),
    (257, 256),
    (40, 31),
    (224, 224),
]


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Noise over a gradient: every pixel matters."""
    rng = np.random.default_rng([seed, *size])
    ramp = np.linspace(0, 128, size[0])[None, :, None]
    return Image.fromarray((rng.integers(0, 128, (size[1], size[0], 3)) + ramp).astype(np.uint8))


def reference(id: str, size: int) -> T.Compose:
    enlarged = {224: 256, 32: 36, 96: 109, 518: 592}[size]
    steps = {
        "A": [T.Resize(enlarged, Mode.BICUBIC), T.CenterCrop(size)],
        "B": [T.Resize(enlarged, Mode.BILINEAR), T.CenterCrop(size)],
        "C": [T.Resize((enlarged, enlarged), Mode.BICUBIC), T.CenterCrop(size)],
        "D": [T.Resize((size, size), Mode.BICUBIC)],
        "E": [T.Resize(size, Mode.BICUBIC), T.CenterCrop(size)],
    }
    return T.Compose([*steps[id], T.PILToTensor()])


@pytest.mark.parametrize("id", IDS)
def test_every_variant_equals_the_torchvision_composition(id: str) -> None:
    for size, shape in itertools.product((224, 32, 96), SHAPES):
        image = picture(shape)
        out = preprocess(id, size)(image)
        assert out.dtype == torch.uint8
        assert out.shape == (3, size, size)
        assert torch.equal(out, reference(id, size)(image)), (size, shape)


def test_the_resize_follows_the_input_size_at_256_to_224() -> None:
    """MoCo v3 transfer writes it int(256 / 224 * size)."""
    for id, size in itertools.product("ABC", (224, 32, 96, 518)):
        assert preprocess(id, size).resize == int(256 / 224 * size)


def test_variants_are_told_apart_by_their_pixels() -> None:
    image = picture((300, 200))
    outs = [preprocess(id, 96)(image) for id in IDS]
    for i, first in enumerate(outs):
        for second in outs[:i]:
            assert not torch.equal(first, second)


@pytest.mark.parametrize("id", IDS)
def test_a_32_pixel_encoder_sees_cifar_as_it_is(id: str) -> None:
    image = picture((32, 32))
    expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal(preprocess(id, 32)(image), expected)
    assert preprocess(id, 32).describe()["native_if_already_size"] is True


def test_a_224_pixel_encoder_sees_cifar_upsampled_and_cropped() -> None:
    image = picture((32, 32))
    upsampled = image.resize((256, 256), Image.Resampling.BICUBIC).crop((16, 16, 240, 240))
    expected = torch.from_numpy(np.array(upsampled)).permute(2, 0, 1)
    assert torch.equal(preprocess("A", 224)(image), expected)
    assert preprocess("A", 224).describe()["native_if_already_size"] is False


def test_an_image_of_224_is_still_resized_for_a_224_pixel_encoder() -> None:
    image = picture((224, 224))
    assert not torch.equal(preprocess("A", 224)(image), T.PILToTensor()(image))


def test_the_result_is_contiguous_and_owns_writable_memory() -> None:
    image = picture((32, 32))
    out = preprocess("A", 32)(image)
    assert out.is_contiguous()
    out.zero_()
    assert np.array(image).any()


def test_the_description_is_resolved_and_complete() -> None:
    assert preprocess("B", 224).describe() == {
        "id": "B",
        "size": 224,
        "resize": 256,
        "resize_mode": "short side",
        "crop": "centre",
        "interpolation": "bilinear",
        "library": "pillow, antialiased",
        "native_if_already_size": False,
    }
    assert preprocess("D", 320).describe()["crop"] == "none"
    assert preprocess("C", 224).describe()["resize_mode"] == "squash"


def test_unknown_ids_and_sizes_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="A, B, C, D, E"):
        preprocess("a", 224)
    with pytest.raises(UsageError, match="found 0"):
        preprocess("A", 0)


@pytest.mark.parametrize("size", [(7, 1000), (1000, 7), (341, 512), (513, 340)])
def test_the_long_side_is_rounded_down_as_torchvision_does(size: tuple[int, int]) -> None:
    resized = T.Resize(256)(Image.new("RGB", size))
    assert short_side(size, 256) == resized.size
