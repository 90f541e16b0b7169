"""One image of a set: RGB or an error that names the file, never something in between."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from mini_data import declare
from sdssl_bench.datasets.base import ImageError, ImageSet, values_within
from sdssl_bench.datasets.loading import load

RGB = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)


def one_file(path: Path, *, tolerated: bool = False) -> ImageSet:
    return ImageSet(
        dataset="test",
        split="test",
        class_names=("a",),
        targets=np.zeros(1, np.int64),
        names=[path.name],
        root=path.parent,
        fingerprint="",
        freshness="",
        tolerated=frozenset({path.name}) if tolerated else frozenset(),
    )


def saved(path: Path, image: Image.Image, format: str) -> Path:
    image.save(path, format)
    return path


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        *(("RGB", "PNG"), ("L", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("1", "PNG")),
        *(("P", "GIF"), ("CMYK", "JPEG"), ("L", "JPEG"), ("P", "PNG")),
    ],
)
def test_every_8_bit_mode_is_read_as_rgb(tmp_path: Path, mode: str, format: str) -> None:
    source = Image.fromarray(RGB).convert(mode)
    image = one_file(saved(tmp_path / "x.jpg", source, format)).load(0)
    assert image.mode == "RGB"
    assert image.size == (50, 40)
    if format != "JPEG":
        assert np.array_equal(np.asarray(image), np.asarray(source.convert("RGB")))


def test_palette_images_with_transparency_keep_their_colours_without_a_warning(
    tmp_path: Path,
) -> None:
    source = Image.fromarray(RGB).quantize(16)
    source.info["transparency"] = bytes(range(16))
    path = tmp_path / "x.png"
    source.save(path, transparency=bytes(range(16)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = one_file(path).load(0)
    assert np.array_equal(
        np.asarray(image), np.asarray(Image.fromarray(RGB).quantize(16).convert("RGB"))
    )


def test_16_bit_images_are_an_error_instead_of_nearly_white(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(path)
    with pytest.raises(ImageError, match="8-bit") as caught:
        one_file(path).load(0)
    assert caught.value.source == str(path)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_a_range_makes_values_of_any_width_bytes(tmp_path: Path, kind: type) -> None:
    values = np.array([[0, 100, 150, 200], [300, 50, 125, 175]], kind)
    path = tmp_path / ("x.png" if kind is np.uint16 else "x.tif")
    Image.fromarray(values).save(path)
    with pytest.raises(ImageError, match=r"from 0 to 300 .* --image-range 0,65535"):
        one_file(path).load(0)
    with values_within((100, 200)):
        images = one_file(path)
    expected = np.rint(np.clip((values.astype(float) - 100) / 100, 0, 1) * 255)
    image = np.asarray(images.load(0))
    assert image.shape == (2, 4, 3)
    assert all(np.array_equal(image[..., c], expected) for c in range(3))
    eight = tmp_path / "y.png"
    Image.fromarray(RGB).save(eight)
    with values_within((100, 200)):
        assert np.array_equal(np.asarray(one_file(eight).load(0)), RGB), "8-bit images stay"


def test_values_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(tmp_path / "x.tif")
    with values_within((0, 1)), pytest.raises(ImageError, match="NaN"):
        one_file(tmp_path / "x.tif").load(0)


def truncated_jpeg(path: Path) -> Path:
    buffer = io.BytesIO()
    Image.fromarray(RGB.repeat(6, 0).repeat(6, 1)).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    return path


@pytest.mark.parametrize("others", [False, True])
def test_a_truncated_image_is_an_error_even_if_a_library_asked_pillow_to_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", others)
    path = truncated_jpeg(tmp_path / "x.jpg")
    with pytest.raises(ImageError, match="truncated") as caught:
        one_file(path).load(0)
    assert caught.value.source == str(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is others


def test_a_damaged_official_image_is_decoded_as_far_as_it_goes(tmp_path: Path) -> None:
    path = truncated_jpeg(tmp_path / "x.jpg")
    image = np.asarray(one_file(path, tolerated=True).load(0))
    whole = RGB.repeat(6, 0).repeat(6, 1)
    assert image.shape == whole.shape
    upper = slice(0, len(whole) // 4)
    assert np.abs(image[upper].astype(int) - whole[upper]).mean() < 25
    # libjpeg fills what is missing with one colour per block row.
    assert image[-8:].std(axis=(0, 1)).max() < 1


def test_tolerance_covers_early_ends_only(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(b"no image at all")
    with pytest.raises(ImageError, match=r"x\.jpg"):
        one_file(path, tolerated=True).load(0)
    path.unlink()
    with pytest.raises(ImageError, match="FileNotFoundError"):
        one_file(path, tolerated=True).load(0)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"hello"]
)
def test_files_that_are_no_images_are_errors_that_name_them(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        one_file(path).load(0)


def test_arrays_are_handed_out_as_they_are() -> None:
    images = ImageSet(
        "test", "test", ("a",), np.zeros(1, np.int64), ["x:0"], Path(), "", "", pixels=RGB[None]
    )
    assert np.array_equal(np.asarray(images.load(0)), RGB)


def test_only_the_known_damaged_pets_are_tolerated(tmp_path: Path) -> None:
    images = tmp_path / "oxford-iiit-pet/images"
    lists = tmp_path / "oxford-iiit-pet/annotations"
    images.mkdir(parents=True)
    lists.mkdir()
    for name in ("Abyssinian_1", "Abyssinian_2", "Abyssinian_34"):
        truncated_jpeg(images / f"{name}.jpg")
    (lists / "trainval.txt").write_text("Abyssinian_1 1 1 1\nAbyssinian_34 1 1 1\n")
    (lists / "test.txt").write_text("Abyssinian_2 1 1 1\n")
    declare(tmp_path, "pets", classes=1, train=2, test=1)
    data = load("pets", data_root=tmp_path)
    assert data.train.tolerated == {"images/Abyssinian_34.jpg"}
    assert data.notes["damaged_images_tolerated"] == ["images/Abyssinian_34.jpg"]
    assert data.train.load(1).mode == "RGB"
    with pytest.raises(ImageError, match="Abyssinian_1"):
        data.train.load(0)
