"""The official list files, where this machine has them: counts, class ids, and the real partial sets."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

import real_layouts
from real_layouts import SHARED
from sdssl_bench.datasets import spec
from sdssl_bench.datasets.inspection import inspect
from sdssl_bench.datasets.loading import load
from sdssl_bench.datasets.readers.mat_sets import read_flowers
from sdssl_bench.errors import DataError

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")


@pytest.fixture(scope="module")
def nabirds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tarfile

    root = tmp_path_factory.mktemp("nabirds")
    with tarfile.open(SHARED / "nabirds_metadata/nabirds_txt.tar.xz") as tar:
        tar.extractall(root, filter="data")
    return root


def test_cub_has_the_official_counts() -> None:
    found = inspect(spec("cub"), SHARED / "cub200_metadata")
    assert {k: len(v.present) for k, v in found.splits.items()} == {"train": 5994, "test": 5794}
    assert len(found.class_names) == 200
    assert found.class_names[16] == "017.Cardinal"
    assert not any(facts.present.any() for facts in found.splits.values())
    assert [p.text.split(":")[0] for p in found.problems] == ["train", "test"]
    assert np.bincount(found.splits["train"].listing.targets, minlength=200).min() >= 29


def test_cub_without_images_is_incomplete_and_cannot_be_partial() -> None:
    with pytest.raises(DataError, match="5,994 of 5,994 image files are missing"):
        load("cub", data_root=SHARED / "cub200_metadata")
    with pytest.raises(DataError, match="has no train image at all"):
        load("cub", data_root=SHARED / "cub200_metadata", allow_partial=True)


def test_nabirds_has_555_classes_in_the_numeric_order_of_its_sparse_ids(nabirds: Path) -> None:
    found = inspect(spec("nabirds"), nabirds)
    assert {k: len(v.present) for k, v in found.splits.items()} == {"train": 23929, "test": 24633}
    lines = (nabirds / "nabirds/image_class_labels.txt").read_text().split()[1::2]
    nodes = sorted(int(node) for node in set(lines))
    assert len(nodes) == len(found.class_names) == 555
    for facts in found.splits.values():
        for name, target in zip(facts.listing.names, facts.listing.targets, strict=True):
            assert int(name.split("/")[1]) == nodes[target]


def test_flowers_has_the_official_counts_and_labels() -> None:
    listing = read_flowers(SHARED / "flowers102", 102)
    assert (len(listing.train.targets), len(listing.test.targets)) == (2040, 6149)
    assert np.bincount(listing.train.targets).tolist() == [20] * 102
    assert listing.train.predefined_val is not None
    assert listing.train.predefined_val.tolist() == list(range(1020, 2040))
    everything = {*listing.train.names, *listing.test.names}
    assert everything == {f"jpg/image_{i:05d}.jpg" for i in range(1, 8190)}
    # Another source of labels: the data folder's own table.
    table = (SHARED / "flowers102/subset.csv").read_text().split()[1:]
    labels = dict(zip(listing.train.names, listing.train.targets, strict=True))
    labels |= dict(zip(listing.test.names, listing.test.targets, strict=True))
    for line in table:
        file, label, _ = line.split(",")
        assert labels[f"jpg/{file}"] == int(label) - 1


def test_the_partial_flowers_need_permission_and_record_it() -> None:
    with pytest.raises(DataError, match="found 320 and 192"):
        load("flowers", data_root=SHARED)
    data = load("flowers", data_root=SHARED, allow_partial=True)
    assert (data.variant, len(data.train), len(data.test)) == ("partial", 320, 192)
    assert data.notes["test"]["num_classes_present"] == 16
    assert data.train.num_classes == 102
    assert data.train.predefined_val is not None
    assert len(data.train.predefined_val) == 160


def test_the_official_cars_lists_have_the_official_counts(tmp_path: Path) -> None:
    devkit = SHARED / "stanford_cars20/devkit"
    annotations = loadmat(devkit / "cars_train_annos.mat", squeeze_me=True)["annotations"]
    assert len(annotations) == 8144
    found = inspect(spec("cars"), real_layouts.cars(tmp_path))
    assert len(found.class_names) == 196
    assert found.class_names[0] == "AM General Hummer SUV 2000"
    train = found.splits["train"].listing
    away = len(found.splits["test"].present)
    assert len(train.targets) == 8144 - away
    official = {str(a["fname"]): int(a["class"]) - 1 for a in annotations}
    for facts in found.splits.values():
        for name, target in zip(facts.listing.names, facts.listing.targets, strict=True):
            assert official[name.rpartition("/")[2]] == target


@pytest.mark.parametrize(
    ("name", "train", "test", "classes"),
    [
        ("pets", 90, 60, 3),
        ("cars", 260, 140, 20),
        ("imagenet", 1500, 400, 10),
        ("flowers", 320, 192, 16),
    ],
)
def test_real_partial_sets_load_with_permission_only(
    tmp_path: Path, name: str, train: int, test: int, classes: int
) -> None:
    root = getattr(real_layouts, name)(tmp_path)
    with pytest.raises(DataError, match="--allow-partial"):
        load(name, data_root=root)
    data = load(name, data_root=root, allow_partial=True)
    assert (data.variant, len(data.train), len(data.test)) == ("partial", train, test)
    assert data.notes["train"]["num_classes_present"] == classes
    assert data.test.load(0).mode == "RGB"
    if name == "pets":
        assert data.train.class_names[5] == "Bengal"
        assert set(data.train.targets) == {0, 1, 5}


def test_tiny_imagenet_loads_as_a_folder(tmp_path: Path) -> None:
    data = load(real_layouts.tiny_imagenet(tmp_path), data_root=None)
    assert (len(data.train), len(data.test), data.train.num_classes) == (4000, 1000, 100)
    assert data.notes["test_folder"] == "val"
    assert data.train.load(0).size == (64, 64)
