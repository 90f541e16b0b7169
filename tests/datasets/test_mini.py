"""`data mini`: seconds, megabytes, the same bytes for the same seed, and nobody's files touched."""

import hashlib
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mini_data import shared_mini
from sdssl_bench.datasets import photographs
from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.datasets.catalogue import names
from sdssl_bench.datasets.loading import load
from sdssl_bench.datasets.mini.make import make_mini, miniatures
from sdssl_bench.datasets.specs.specification import MARKER
from sdssl_bench.errors import DataError, TaskError, UsageError


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_every_set_has_a_miniature_of_few_megabytes(tmp_path: Path) -> None:
    make_mini(tmp_path / "mini")
    assert set(miniatures()) == set(names())
    assert sum(p.stat().st_size for p in (tmp_path / "mini").rglob("*")) < 30e6
    assert digests(tmp_path / "mini") == digests(shared_mini())
    assert [path.name for path in tmp_path.iterdir()] == ["mini"]


def test_bytes_depend_on_the_seed_and_not_on_the_company(tmp_path: Path) -> None:
    whole = digests(shared_mini())
    make_mini(tmp_path / "one", names=["cars"])
    alone = digests(tmp_path / "one")
    assert {k: v for k, v in alone.items() if k != MARKER} == {
        k: v for k, v in whole.items() if k.startswith("stanford_cars/")
    }
    make_mini(tmp_path / "two", seed=1, names=["cars"])
    assert digests(tmp_path / "two")["stanford_cars/cars_train/00001.jpg"] not in whole.values()


def test_mat_files_do_not_hold_the_date() -> None:
    for path in shared_mini().rglob("*.mat"):
        assert path.read_bytes().startswith(b"MATLAB 5.0 MAT-file, sdssl-bench miniature  ")


def test_nothing_touches_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    photographs._photograph.cache_clear()
    make_mini(tmp_path / "mini", names=["cifar100"])
    assert load("cifar100", data_root=tmp_path / "mini").variant == "mini"


def test_every_bundled_photograph_is_used_and_its_licence_is_stated() -> None:
    folder = Path(photographs.__file__).with_name("photos")
    bundled = {path.name for path in folder.glob("*.jpg")}
    regions = [region for region in photographs.REGIONS if region.package == "sdssl_bench"]
    assert bundled == {region.file for region in regions}
    rows = [line.split("|") for line in (folder / "README.md").read_text("utf-8").splitlines()]
    licences = {row[1].strip(" `"): row[4].strip() for row in rows if len(row) == 6}
    assert {licences[name] for name in bundled} == {"CC0", "public domain"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 600e3


def overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_train_and_test_come_from_disjoint_parts_of_a_photograph() -> None:
    areas = {
        (region.file, region.name, split): photographs.area(region, split)
        for region in photographs.REGIONS
        for split in ("train", "test")
    }
    for (file, name, split), area in areas.items():
        assert min(area[2] - area[0], area[3] - area[1]) >= 80
        for (other_file, other_name, other_split), other in areas.items():
            if file == other_file and (name, split) != (other_name, other_split):
                assert not overlap(area, other)


def test_crops_use_no_pixel_outside_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    # Left part black, right part white: any leak would show as grey.
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:, 100:] = 255
    monkeypatch.setattr(photographs, "_photograph", lambda *args: Image.fromarray(picture))
    rng = np.random.default_rng(0)
    region = photographs.Region("x", "x")
    for _ in range(50):
        train = photographs.crop(region, "train", size=(32, 24), rng=rng)
        assert train.size == (32, 24)
        assert np.asarray(train).max() == 0
        test = np.asarray(photographs.crop(region, "test", size=(32, 24), rng=rng))
        assert test.min() == test.max() > 150


def tiny(images: ImageSet) -> np.ndarray:
    rows = [np.asarray(images.load(i).resize((8, 8)), float).ravel() for i in range(len(images))]
    return np.stack([row / np.linalg.norm(row) for row in rows])


@pytest.mark.parametrize("name", names("classification"))
def test_nearest_neighbours_on_pixels_learn_something_but_not_everything(name: str) -> None:
    data = load(name, data_root=shared_mini())
    nearest = (tiny(data.test) @ tiny(data.train).T).argmax(1)
    accuracy = float((data.train.targets[nearest] == data.test.targets).mean())
    assert 2 / data.train.num_classes < accuracy < 0.9


def test_an_intact_copy_is_left_alone(tmp_path: Path) -> None:
    make_mini(tmp_path / "mini", names=["cub"])
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    make_mini(tmp_path / "mini", names=["cub"])
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_damaged_copy_is_an_error_and_is_written_again(tmp_path: Path) -> None:
    make_mini(tmp_path / "mini", names=["cub", "dogs"])
    whole = digests(tmp_path / "mini")
    for path in sorted((tmp_path / "mini").rglob("*.jpg"))[::2]:
        path.unlink()
    for name in ("cub", "dogs"):
        with pytest.raises(DataError, match="write it again with 'sdssl-bench data mini DIR'"):
            load(name, data_root=tmp_path / "mini")
    make_mini(tmp_path / "mini", names=["cub", "dogs"])
    assert digests(tmp_path / "mini") == whole


def test_another_seed_or_other_sets_replace_the_old_ones(tmp_path: Path) -> None:
    root = tmp_path / "mini"
    make_mini(root, names=["cub"])
    make_mini(root, seed=3, names=["dogs"])
    assert sorted(p.name for p in root.iterdir()) == [MARKER, "stanford_dogs"]
    assert json.loads((root / MARKER).read_text())["seed"] == 3


def test_an_empty_folder_is_filled_and_parents_are_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    make_mini(tmp_path / "empty", names=["dogs"])
    make_mini(tmp_path / "a/b", names=["dogs"])
    assert digests(tmp_path / "empty") == digests(tmp_path / "a/b")


def test_the_working_folder_may_be_named_relatively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_mini(Path("mini"), names=["dogs"])
    assert load("dogs", data_root=Path("mini")).variant == "mini"


@pytest.mark.parametrize("what", ["foreign", "mixed", "damaged marker", "file", "link"])
def test_foreign_files_are_never_replaced(tmp_path: Path, what: str) -> None:
    root = tmp_path / "mini"
    if what == "file":
        root.write_text("mine")
    elif what == "link":
        (tmp_path / "mine").mkdir()
        root.symlink_to(tmp_path / "mine")
    else:
        root.mkdir()
        if what == "mixed":
            shutil.rmtree(root)
            make_mini(root, names=["dogs"])
        if what == "damaged marker":
            (root / MARKER).write_text("[]")
        (root / "thesis.tex").write_text("mine")
    before = digests(tmp_path)
    with pytest.raises(UsageError):
        make_mini(root, names=["dogs"])
    assert digests(tmp_path) == before


def test_a_failure_leaves_neither_half_a_copy_nor_scraps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "mini"
    make_mini(root, names=["cifar10"])
    before = digests(root)
    shots: Iterator[int] = iter(range(30))

    def full_disk(*args: object) -> None:
        if next(shots, None) is None:
            raise OSError("No space left on device")

    monkeypatch.setattr("sdssl_bench.datasets.mini.classification.save_jpeg", full_disk)
    with pytest.raises(TaskError, match="No space"):
        make_mini(root, names=["cifar10", "dogs"])
    assert digests(root) == before
    assert [path.name for path in tmp_path.iterdir()] == ["mini"]


def test_a_missing_photograph_or_package_is_explained() -> None:
    photographs._photograph.cache_clear()
    with pytest.raises(DataError, match=r"photograph .*nothing\.png.*sklearn"):
        photographs._photograph("sklearn", "nothing.png")
    with pytest.raises(DataError, match="package no_such_package"):
        photographs._photograph("no_such_package", "x.png")


def test_unknown_sets_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'cifar10'"):
        make_mini(tmp_path / "x", names=["cifar1"])
    assert not (tmp_path / "x").exists()
