"""Images of any shape: sizes as Pillow's, batching that changes no number, resuming, bad images."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdssl_bench.api import as_encoder
from sdssl_bench.datasets.readers.images_on_disk import image_files
from sdssl_bench.encoders.encoder import gem_pool, move
from sdssl_bench.errors import UsageError
from sdssl_bench.features import cache
from sdssl_bench.features.bank import FeatureBank
from sdssl_bench.features.extraction import extract_from
from sdssl_bench.features.image_geometry import Geometry, crop_box, thumbnail_size
from sdssl_bench.features.sources import ManySizes
from sdssl_bench.task import RunContext
from tiny_model import build

SHAPES = [(40, 30), (30, 40), (40, 30), (64, 40), (16, 16), (40, 31), (30, 40), (25, 33)]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 200))
def test_sizes_are_those_of_pillows_thumbnail(width, height, longest) -> None:
    image = Image.new("L", (width, height))
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    assert thumbnail_size((width, height), longest) == image.size


def test_pixels_are_those_of_pillows_thumbnail() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (150, 230, 3), dtype=np.uint8))
    loaded = Geometry(48, (1.0,), "crop", 8).load(image)
    image.thumbnail((48, 48), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(loaded, np.asarray(image).transpose(2, 0, 1))


def test_a_query_is_cropped_before_it_is_shrunk() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (150, 230, 3), dtype=np.uint8))
    box = (10.4, 20.0, 90.0, 100.0)
    loaded = Geometry(40, (1.0,), "crop", 8).load(image, box)
    part = image.crop((10, 20, 90, 100))
    part.thumbnail((40, 40), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(loaded, np.asarray(part).transpose(2, 0, 1))
    assert crop_box((50, 50), (-5.0, 10.0, 70.0, 20.0)) == (0, 10, 50, 20)
    with pytest.raises(UsageError, match="outside its image"):
        crop_box((50, 50), (60.0, 0.0, 70.0, 20.0))


@pytest.mark.parametrize("fit", ["crop", "resize", "pad"])
def test_every_view_has_whole_patches(fit) -> None:
    geometry = Geometry(61, (1.0, 0.7071067811865476, 0.5), fit, 8)
    image = Image.new("RGB", (100, 71))
    pixels = torch.from_numpy(geometry.load(image))[None].float()
    views = geometry.views(pixels)
    assert len(views) == 3
    for view, scale in zip(views, geometry.scales, strict=True):
        height, width = (int(side * scale) for side in pixels.shape[-2:])
        expected = {
            "crop": (height // 8 * 8, width // 8 * 8),
            "resize": (height // 8 * 8, width // 8 * 8),
            "pad": (-(-height // 32) * 32, -(-width // 32) * 32),
        }[fit]
        assert tuple(view.shape[-2:]) == expected


def test_crop_drops_the_last_pixels_and_pad_appends_zeros() -> None:
    pixels = torch.rand(2, 3, 21, 35)
    (cropped,) = Geometry(64, (1.0,), "crop", 8).views(pixels)
    (padded,) = Geometry(64, (1.0,), "pad", 8).views(pixels)
    torch.testing.assert_close(cropped, pixels[..., :16, :32])
    torch.testing.assert_close(padded[..., :21, :35], pixels)
    assert padded.shape[-2:] == (32, 64)
    assert padded.sum() == pytest.approx(float(pixels.sum()), rel=1e-5)


def test_impossible_geometries_are_errors() -> None:
    for arguments, message in (
        ((64, (1.0,), "stretch", 8), "fit takes one of"),
        ((64, (), "crop", 8), "positive factors"),
        ((64, (1.0, 0.1), "crop", 8), "below one patch"),
    ):
        with pytest.raises(UsageError, match=message):
            Geometry(*arguments)


def test_a_side_below_one_patch_becomes_one_patch() -> None:
    for fit in ("crop", "resize"):
        (view,) = Geometry(64, (1.0,), fit, 8).views(torch.ones(1, 3, 5, 41))
        assert view.shape[-2:] == (8, 40)
        assert float(view.mean()) == pytest.approx(1)


@pytest.fixture
def photos(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, (width, height) in enumerate(SHAPES):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def job_of(folder: Path, *, pool: str = "cls", scales=(1.0, 0.5), fit: str = "crop") -> ManySizes:
    images = image_files(
        "photos", "all", root=folder, names=[f"{i}.png" for i in range(len(SHAPES))]
    )
    return ManySizes(images, Geometry(32, scales, fit, 8), pool, 3.0)


def extract_all(encoder, source: ManySizes, layers, *, ctx: RunContext) -> FeatureBank:
    return extract_from(source, encoder, layers, poolings=(source.pool,), ctx=ctx)


def context(tmp_path: Path, name: str = "cache", **changes) -> RunContext:
    return replace(RunContext(None, tmp_path / name, device="cpu"), **changes)


@pytest.mark.parametrize("pool", ["cls", "gem", "mean"])
def test_features_are_the_mean_over_scales_of_each_image_alone(photos, tmp_path, pool) -> None:
    encoder = as_encoder(build())
    job = job_of(photos, pool=pool)
    bank = extract_all(encoder, job, [1, 3], ctx=context(tmp_path))
    for index in range(len(SHAPES)):
        pixels = job.preprocess(job.images.load(index))[None]
        image = move(pixels, encoder)
        expected = {1: 0.0, 3: 0.0}
        for scale in (1.0, 0.5):
            view = image
            if scale != 1:
                view = F.interpolate(
                    image, scale_factor=scale, mode="bilinear", align_corners=False
                )
            height, width = (side // 8 * 8 for side in view.shape[-2:])
            view = view[..., :height, :width]
            with torch.no_grad():
                for layer, tokens in encoder.forward_layers(view, [1, 3]).items():
                    patches = tokens.patches.flatten(1, 2)
                    vector = {
                        "cls": tokens.cls,
                        "mean": patches.mean(1),
                        "gem": gem_pool(patches, p=3.0),
                    }[pool]
                    expected[layer] += vector[0] / 2
        for layer in (1, 3):
            np.testing.assert_allclose(
                bank.features(layer, job.pool)[index], expected[layer].numpy(), atol=2e-5
            )


def test_batching_by_shape_does_not_change_the_numbers(photos, tmp_path) -> None:
    encoder = as_encoder(build())
    banks = [
        extract_all(encoder, job_of(photos), [1, 2, 3], ctx=context(tmp_path, n, batch_size=b))
        for n, b in (("one", 1), ("all", 100), ("auto", None))
    ]
    for layer in (1, 2, 3):
        rows = [bank.features(layer, "cls") for bank in banks]
        np.testing.assert_allclose(rows[0], rows[1], atol=2e-5)
        np.testing.assert_allclose(rows[0], rows[2], atol=2e-5)


class Counting:
    """Counts the images a tiny encoder sees, and can fail on the way."""

    def __init__(self, encoder, stop_after: int | None = None) -> None:
        self.seen, self.stop_after, self._forward = 0, stop_after, encoder.forward_points

    def __call__(self, images, *rest):
        if self.stop_after is not None and self.seen >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        return self._forward(images, *rest)


def test_stored_layers_are_not_computed_again_and_a_killed_run_goes_on(
    photos, tmp_path, monkeypatch
) -> None:
    encoder = as_encoder(build())
    job, ctx = job_of(photos, scales=(1.0,)), context(tmp_path, batch_size=1)
    monkeypatch.setattr("sdssl_bench.features.passes.FLUSH_SECONDS", 0.0)
    counting = Counting(encoder, stop_after=5)
    monkeypatch.setattr(encoder, "forward_points", counting)
    with pytest.raises(KeyboardInterrupt):
        extract_all(encoder, job, [1, 3], ctx=ctx)
    counting.stop_after = None
    resumed = extract_all(encoder, job, [1, 3], ctx=ctx)
    assert counting.seen == len(SHAPES)
    extract_all(encoder, job, [3], ctx=ctx)
    assert counting.seen == len(SHAPES)
    more = extract_all(encoder, job, [1, 2, 3], ctx=ctx)
    assert counting.seen == 2 * len(SHAPES)
    fresh = extract_all(as_encoder(build()), job, [1, 2, 3], ctx=context(tmp_path, "fresh"))
    for layer in (1, 3):
        np.testing.assert_allclose(resumed.features(layer), fresh.features(layer), atol=2e-5)
    np.testing.assert_allclose(more.features(2, job.pool), fresh.features(2, job.pool), atol=2e-5)
    (entry,) = cache.ls(ctx.cache_dir)
    assert (entry.complete, entry.layers, entry.rows) == (True, (1, 2, 3), len(SHAPES))


def test_another_geometry_crop_pool_or_image_never_reuses_a_bank(photos, tmp_path) -> None:
    encoder, ctx = as_encoder(build()), context(tmp_path)
    boxes = np.tile([0.0, 0.0, 16.0, 16.0], (len(SHAPES), 1))
    jobs = [
        job_of(photos),
        job_of(photos, scales=(1.0,)),
        job_of(photos, fit="pad"),
        job_of(photos, pool="gem"),
        replace(job_of(photos), boxes=boxes),
    ]
    digests = {
        hashlib.sha256(
            extract_all(encoder, job, [3], ctx=ctx).features(3, job.pool).tobytes()
        ).hexdigest()
        for job in jobs
    }
    assert len(digests) == len(cache.ls(ctx.cache_dir)) == len(jobs)


def test_the_largest_scale_decides_what_is_too_large() -> None:
    """Images are decoded at their own size first: a small scale alone makes none smaller."""
    for longest, scales in ((4096, (1.0, 0.5)), (4096, (0.5,)), (2048, (2.0, 0.5))):
        assert Geometry(longest, scales, "crop", 16)
    for longest, scales in ((4097, (1.0, 0.5)), (4097, (0.5,)), (2049, (2.0, 0.5))):
        with pytest.raises(UsageError, match="at most 4,096 work"):
            Geometry(longest, scales, "crop", 16)


def test_the_tokens_of_an_image_are_counted_at_its_largest_scale_and_never_too_low() -> None:
    geometry = Geometry(96, (1.0, 1.5), "pad", 16)
    assert geometry.tokens((64, 96)) == 2.25 * 4 * 6
    assert geometry.tokens((65, 96)) == 55
