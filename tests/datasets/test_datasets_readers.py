"""Each official layout, its traps, and its common variants, on miniatures and hand-written lists."""

from pathlib import Path

import numpy as np
import pytest

from mini_data import copy_of, mini_of, shared_mini
from sdssl_bench.datasets import spec
from sdssl_bench.datasets.base import ClassificationData
from sdssl_bench.datasets.catalogue import names
from sdssl_bench.datasets.loading import load
from sdssl_bench.datasets.mini.photographs import REGIONS
from sdssl_bench.errors import DataError

HEADLINES = {"flowers": "mean_per_class", "pets": "mean_per_class", "aircraft": "mean_per_class"}


@pytest.mark.parametrize("name", names("classification"))
def test_every_miniature_loads_complete_through_the_official_reader(name: str) -> None:
    data = load(name, data_root=shared_mini())
    mini = mini_of(name)
    assert (data.variant, data.name) == ("mini", name)
    assert data.headline == HEADLINES.get(name, "top1") == spec(name).headline
    for images, per_class in ((data.train, mini.train), (data.test, mini.test)):
        assert np.bincount(images.targets).tolist() == [per_class] * mini.classes
        assert len(images) == images.expected == len(images.names) == len(set(images.names))
        assert images.num_classes == mini.classes
        assert images.targets.dtype == np.int64
        assert images.load(len(images) - 1).mode == "RGB"
    assert not set(data.train.names) & set(data.test.names)


def mean_colour(data: ClassificationData, split: str, target: int) -> np.ndarray:
    images = data.train if split == "train" else data.test
    rows = np.flatnonzero(images.targets == target)
    return np.mean([np.asarray(images.load(int(i))).mean((0, 1)) for i in rows], axis=0)


@pytest.mark.parametrize("name", [n for n in names("classification") if not n.startswith("cifar")])
def test_labels_are_not_shifted(name: str) -> None:
    # Class c of a miniature is photograph first + c, and grey textures differ from flowers in colour.
    mini = mini_of(name)
    data = load(name, data_root=shared_mini())
    files = [Path(REGIONS[(mini.first + c) % len(REGIONS)].file).stem for c in range(mini.classes)]
    grey = {"brick", "grass", "camera", "gravel", "text", "cell"}
    for target, file in enumerate(files):
        if file in grey | {"flower", "coffee", "retina", "rocket", "chelsea"}:
            for split in ("train", "test"):
                colour = mean_colour(data, split, target)
                assert (np.ptp(colour) < 4) == (file in grey), (file, split, colour)


def test_pets_disguised_as_jpg_are_read_as_what_they_are() -> None:
    data = load("pets", data_root=shared_mini())
    root = shared_mini() / "oxford-iiit-pet"
    heads = {name: (root / name).read_bytes()[:4] for name in (*data.train.names, *data.test.names)}
    gif = [name for name, head in heads.items() if head == b"GIF8"]
    png = [name for name, head in heads.items() if head == b"\x89PNG"]
    assert (len(gif), len(png)) == (1, 1)
    assert data.train.load(list(data.train.names).index(gif[0])).mode == "RGB"
    assert data.test.load(list(data.test.names).index(png[0])).mode == "RGB"


def test_pets_classes_are_the_breeds_and_underscores_survive() -> None:
    names = load("pets", data_root=shared_mini()).train.class_names
    assert names[:3] == ("Chelsea", "brick", "coffee")
    dogs = load("dogs", data_root=shared_mini()).train.class_names
    assert dogs[0] == "n92000000-astronaut_face"


def test_pets_breeds_that_contradict_their_class_id_are_an_error(tmp_path: Path) -> None:
    path = copy_of("pets", tmp_path) / "annotations/test.txt"
    path.write_text(path.read_text().replace("brick_201 2 ", "brick_201 3 "))
    with pytest.raises(DataError, match="class id 3 is coffee in one line and brick"):
        load("pets", data_root=tmp_path)


def test_cub_splits_by_the_flag_and_class_ids_start_at_1() -> None:
    data = load("cub", data_root=shared_mini())
    assert data.train.class_names[0] == "001.Hubble"
    for images in (data.train, data.test):
        for name, target in zip(images.names, images.targets, strict=True):
            assert int(name.split("/")[1][:3]) == target + 1


def test_a_shifted_bird_label_is_an_error(tmp_path: Path) -> None:
    path = copy_of("cub", tmp_path) / "image_class_labels.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0].replace(" 1", " 2"), *lines[1:]]))
    with pytest.raises(DataError, match=r"image 1 is 001\.Hubble/.* but of class 2 \(002"):
        load("cub", data_root=tmp_path)


@pytest.mark.parametrize("file", ["image_class_labels.txt", "train_test_split.txt"])
@pytest.mark.parametrize("name", ["cub", "nabirds"])
def test_bird_lists_must_have_the_same_images(tmp_path: Path, name: str, file: str) -> None:
    path = copy_of(name, tmp_path) / file
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    with pytest.raises(DataError, match=rf"{file}: expected the 160 image ids.*found 159"):
        load(name, data_root=tmp_path)


def test_nabirds_sparse_ids_are_ranked_as_numbers_not_as_text() -> None:
    data = load("nabirds", data_root=shared_mini())
    nodes = {
        int(t): int(n.split("/")[1])
        for n, t in zip(data.train.names, data.train.targets, strict=True)
    }
    ranked = [nodes[i] for i in range(len(nodes))]
    assert ranked == sorted(ranked)
    assert [str(n) for n in ranked] != sorted(str(n) for n in ranked)
    # Two classes may share a name; they stay two classes.
    assert data.train.class_names[0] == data.train.class_names[1]
    assert data.train.num_classes == 8


def test_aircraft_variants_keep_spaces_and_slashes() -> None:
    data = load("aircraft", data_root=shared_mini())
    names = data.train.class_names
    assert any(" " in name for name in names)
    assert any("/" in name for name in names)
    text = (shared_mini() / "fgvc-aircraft-2013b/data/variants.txt").read_text()
    assert list(names) == text.splitlines()


def test_aircraft_train_is_trainval_with_val_marked() -> None:
    train = load("aircraft", data_root=shared_mini()).train
    folder = shared_mini() / "fgvc-aircraft-2013b/data"
    val = (folder / "images_variant_val.txt").read_text().splitlines()
    assert train.predefined_val is not None
    found = {train.names[i] for i in train.predefined_val}
    assert found == {f"images/{line.split()[0]}.jpg" for line in val}
    assert len(found) * 2 == len(train)


def test_aircraft_variants_that_are_not_listed_are_an_error(tmp_path: Path) -> None:
    path = copy_of("aircraft", tmp_path) / "images_variant_test.txt"
    path.write_text(path.read_text().replace("F/A-", "F-"))
    with pytest.raises(DataError, match=r"images_variant_test\.txt: 'F-.*none of variants\.txt"):
        load("aircraft", data_root=tmp_path)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("pets", "annotations/test.txt"),
        ("cub", "images.txt"),
        ("cub", "classes.txt"),
        ("aircraft", "images_variant_trainval.txt"),
        ("aircraft", "images_variant_val.txt"),
        ("nabirds", "image_class_labels.txt"),
    ],
)
@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\x81", b"lonely\n", b"a b c\na b c\n"])
def test_a_damaged_text_list_is_an_error_that_names_the_set(
    tmp_path: Path, name: str, file: str, content: bytes | None
) -> None:
    path = copy_of(name, tmp_path) / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=Path(file).name if content is None else str(path.parent)):
        load(name, data_root=tmp_path, allow_partial=True)
