"""When two copies are the same images, what the table says, and what importing costs."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from mini_data import copy_of, shared_mini
from sdssl_bench.datasets.catalogue import names
from sdssl_bench.datasets.loading import load


@pytest.mark.parametrize("name", names("classification"))
def test_the_fingerprint_knows_neither_place_nor_time(tmp_path: Path, name: str) -> None:
    folder = copy_of(name, tmp_path / "elsewhere")
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9))
    here, there = load(name, data_root=shared_mini()), load(name, data_root=tmp_path / "elsewhere")
    for a, b in ((here.train, there.train), (here.test, there.test)):
        assert a.fingerprint == b.fingerprint
        if a.pixels is None:
            assert a.freshness != b.freshness
        else:
            # Every pixel is hashed, so times add nothing.
            assert a.freshness == b.freshness == a.fingerprint
    assert here.train.fingerprint != here.test.fingerprint


def test_the_fingerprint_knows_sizes_and_the_freshness_knows_times(tmp_path: Path) -> None:
    copy_of("cub", tmp_path)
    before = load("cub", data_root=tmp_path).train
    path = before.root / before.names[7]
    os.utime(path, (1e9, 1e9))
    touched = load("cub", data_root=tmp_path).train
    assert touched.fingerprint == before.fingerprint
    assert touched.freshness != before.freshness
    path.write_bytes(path.read_bytes() + b"\0")
    grown = load("cub", data_root=tmp_path).train
    assert grown.fingerprint != before.fingerprint


def test_the_fingerprint_knows_names(tmp_path: Path) -> None:
    for file in ("train/a/1.png", "test/a/1.png"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_bytes(b"same size")
    before = load(f"folder:{tmp_path}", data_root=None)
    (tmp_path / "train/a/1.png").rename(tmp_path / "train/a/2.png")
    after = load(f"folder:{tmp_path}", data_root=None)
    assert after.train.fingerprint != before.train.fingerprint
    assert after.test.fingerprint == before.test.fingerprint


def test_the_fingerprint_knows_labels_and_pixels(tmp_path: Path) -> None:
    folder = copy_of("cifar10", tmp_path)
    before = load("cifar10", data_root=tmp_path)
    path = folder / "test_batch"
    content = bytearray(path.read_bytes())
    pixels = before.test.pixels
    assert pixels is not None
    at = content.index(pixels.transpose(0, 3, 1, 2).tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    after = load("cifar10", data_root=tmp_path)
    assert after.test.fingerprint != before.test.fingerprint
    assert after.train.fingerprint == before.train.fingerprint

    copy_of("flowers", tmp_path / "f")
    one = load("flowers", data_root=tmp_path / "f").train
    mat = tmp_path / "f/flowers-102/imagelabels.mat"
    labels = loadmat(mat)["labels"]
    first, second = np.flatnonzero(labels[0] == 1)[0], np.flatnonzero(labels[0] == 2)[0]
    labels[0, [first, second]] = labels[0, [second, first]]
    savemat(mat, {"labels": labels})
    swapped = load("flowers", data_root=tmp_path / "f")
    whole = load("flowers", data_root=shared_mini())
    changed = [s.fingerprint for s in (swapped.train, swapped.test)]
    assert changed != [s.fingerprint for s in (whole.train, whole.test)]
    assert one.fingerprint == whole.train.fingerprint


def test_facts_that_belong_beside_a_number_are_in_the_notes() -> None:
    assert "ImageNet train images" in load("dogs", data_root=shared_mini()).notes["remarks"][0]
    assert "2010" in load("cub", data_root=shared_mini()).notes["remarks"][0]
    assert "banner" in " ".join(load("aircraft", data_root=shared_mini()).notes["remarks"])
