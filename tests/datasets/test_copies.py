"""Training images in test: counted by `data check`, by bytes without decoding and by pixels with it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from mini_data import copy_of
from sdssl_bench.cli.main import app
from sdssl_bench.datasets import copies
from sdssl_bench.datasets.checking import check, render
from sdssl_bench.datasets.loading import load

SPLITS = ("train", "val")


def write(root: Path, images: dict[str, int]) -> str:
    """Flat grey images by path, of noise that only the number decides."""
    for path, number in images.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (6, 5, 3), np.uint8)
        Image.fromarray(pixels).save(root / path)
    return f"folder:{root}"


@pytest.fixture
def name(tmp_path: Path) -> str:
    return write(
        tmp_path,
        {f"{split}/{c}/{i}.png": 10 * (c == "b") + i + 20 * (split == "val")
         for split in SPLITS for c in "ab" for i in range(3)},
    )  # fmt: skip


def test_a_set_without_copies_says_what_was_compared(name: str) -> None:
    assert "+ no test image is a training image too (bytes" in render(check(name, data_root=None))
    report = check(name, data_root=None, decode=True)
    assert "+ no test image is a training image too (pixels)" in render(report)


@pytest.mark.parametrize("decode", [False, True])
def test_a_copy_under_another_label_is_counted_and_shown(
    name: str, tmp_path: Path, decode: bool
) -> None:
    shutil.copy(tmp_path / "train/a/1.png", tmp_path / "val/b/2.png")
    shutil.copy(tmp_path / "train/a/0.png", tmp_path / "val/a/0.png")
    report = check(name, data_root=None, decode=decode)
    assert report.ok
    assert report.copies is not None
    assert (report.copies.test_images, report.copies.under_another_class) == (2, 1)
    text = render(report)
    assert "! 2 test images are training images too" in text
    assert "val/b/2.png = train/a/1.png" in text
    done = CliRunner().invoke(app, ["data", "check", name, "--json"])
    assert json.loads(done.stdout)[0]["copies"]["test_images"] == 2


def test_a_copy_that_was_saved_again_is_found_by_its_pixels(name: str, tmp_path: Path) -> None:
    with Image.open(tmp_path / "train/a/1.png") as image:
        image.save(tmp_path / "val/b/2.bmp")
    for decode, found in ((False, 0), (True, 1)):
        report = check(name, data_root=None, decode=decode)
        assert report.copies is not None
        assert report.copies.test_images == found


def test_many_files_of_equal_size_are_left_to_decode(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "COMPARED_ROWS", 0)
    assert "! copies between train and test were not looked for" in render(
        check(name, data_root=None)
    )


def test_arrays_are_compared_by_pixels_at_once(tmp_path: Path) -> None:
    copy_of("cifar10", tmp_path)
    report = check("cifar10", data_root=tmp_path)
    assert report.copies is not None
    data = load("cifar10", data_root=tmp_path)
    train = {image.tobytes() for image in data.train.pixels}
    twins = sum(image.tobytes() in train for image in data.test.pixels)
    assert (report.copies.compared, report.copies.test_images) == ("pixels", twins)


@given(
    st.lists(
        st.tuples(st.sampled_from(SPLITS), st.sampled_from("ab"), st.integers(0, 4)), max_size=12
    )
)
@settings(max_examples=20, deadline=None)
def test_counts_equal_a_comparison_of_all_pairs(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, str, int]]
) -> None:
    root = tmp_path_factory.mktemp("set")
    images = {f"{split}/{c}/z{c}.png": 99 + i
              for i, (split, c) in enumerate((s, c) for s in SPLITS for c in "ab")}  # fmt: skip
    images |= {f"{split}/{c}/{i}.png": n for i, (split, c, n) in enumerate(drawn)}
    report = check(write(root, images), data_root=None, decode=True)
    test = [(path.split("/")[1], n) for path, n in images.items() if path.startswith("val")]
    train = [(path.split("/")[1], n) for path, n in images.items() if path.startswith("train")]
    twins = [(c, {d for d, m in train if m == n}) for c, n in test if any(m == n for _, m in train)]
    assert report.copies is not None
    assert report.copies.test_images == len(twins)
    assert report.copies.under_another_class == sum(c not in classes for c, classes in twins)
