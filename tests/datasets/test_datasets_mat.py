"""Sets with MATLAB lists: Flowers, Cars, Dogs, their traps and variants."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from mini_data import copy_of, declare, shared_mini
from sdssl_bench.datasets.loading import load
from sdssl_bench.errors import DataError


def test_flowers_labels_and_image_ids_count_from_1() -> None:
    data = load("flowers", data_root=shared_mini())
    folder = shared_mini() / "flowers-102"
    labels = loadmat(folder / "imagelabels.mat")["labels"][0]
    for images in (data.train, data.test):
        for name, target in zip(images.names, images.targets, strict=True):
            image_id = int(name.removeprefix("jpg/image_").removesuffix(".jpg"))
            assert target == labels[image_id - 1] - 1


def test_flowers_train_is_train_and_val_with_val_marked() -> None:
    train = load("flowers", data_root=shared_mini()).train
    ids = loadmat(shared_mini() / "flowers-102/setid.mat")
    official = [f"jpg/image_{i:05d}.jpg" for i in [*ids["trnid"][0], *ids["valid"][0]]]
    assert list(train.names) == official
    assert train.predefined_val is not None
    assert [train.names[i] for i in train.predefined_val] == official[len(ids["trnid"][0]) :]


def test_flowers_ids_beyond_the_labels_are_an_error(tmp_path: Path) -> None:
    folder = copy_of("flowers", tmp_path)
    ids = loadmat(folder / "setid.mat")
    savemat(
        folder / "setid.mat",
        {"trnid": ids["trnid"], "valid": ids["valid"], "tstid": ids["tstid"] + 200},
    )
    with pytest.raises(DataError, match=r"setid\.mat.*1\.\.200.*tstid, found"):
        load("flowers", data_root=tmp_path)


def test_labels_beyond_the_classes_are_never_tolerated(tmp_path: Path) -> None:
    folder = copy_of("flowers", tmp_path)
    labels = loadmat(folder / "imagelabels.mat")["labels"]
    savemat(folder / "imagelabels.mat", {"labels": labels + 1})
    for allow in (False, True):
        with pytest.raises(
            DataError, match=r"labels of 10 classes, found 12 outside.*: 11 \(from 1"
        ):
            load("flowers", data_root=tmp_path, allow_partial=allow)


def test_cars_test_list_without_labels_is_explained(tmp_path: Path) -> None:
    folder = copy_of("cars", tmp_path)
    shutil.copy(folder / "devkit/cars_test_annos.mat", folder / "cars_test_annos_withlabels.mat")
    with pytest.raises(DataError, match="no class: this list has no labels"):
        load("cars", data_root=tmp_path)
    (folder / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(DataError, match=r"cars_test_annos_withlabels\.mat"):
        load("cars", data_root=tmp_path)


def test_cars_grey_images_come_as_rgb() -> None:
    train = load("cars", data_root=shared_mini()).train
    image = np.asarray(train.load(4))
    assert image.shape[2] == 3
    assert (image[..., 0] == image[..., 2]).all()


def test_cars_nested_as_on_kaggle_are_the_same_images(tmp_path: Path) -> None:
    folder = copy_of("cars", tmp_path)
    for part in ("cars_train", "cars_test"):
        (folder / part).rename(folder / "inner")
        (folder / part).mkdir()
        (folder / "inner").rename(folder / part / part)
    (folder / "cars_test_annos_withlabels.mat").rename(
        folder / "cars_test_annos_withlabels (1).mat"
    )
    nested, plain = load("cars", data_root=tmp_path), load("cars", data_root=shared_mini())
    assert nested.train.names[0] == f"cars_train/{plain.train.names[0]}"
    assert nested.train.fingerprint == plain.train.fingerprint
    assert nested.test.fingerprint == plain.test.fingerprint
    assert np.array_equal(np.asarray(nested.test.load(3)), np.asarray(plain.test.load(3)))


def test_cars_in_one_folder_with_one_list_are_read(tmp_path: Path) -> None:
    plain = load("cars", data_root=shared_mini())
    folder = tmp_path / "stanford_cars"
    (folder / "car_ims").mkdir(parents=True)
    rows = [(s, i) for s in (plain.test, plain.train) for i in range(len(s))]
    annotations = np.empty(
        (1, len(rows)), [("relative_im_path", object), ("class", object), ("test", object)]
    )
    for k, (images, i) in enumerate(rows):
        name = f"car_ims/{k + 1:06d}.jpg"
        shutil.copy(images.root / images.names[i], folder / name)
        annotations[0, k] = (name, int(images.targets[i]) + 1, int(images.split == "test"))
    names = np.array(plain.train.class_names, object)[None]
    savemat(folder / "cars_annos.mat", {"annotations": annotations, "class_names": names})
    declare(tmp_path, "cars", classes=8, train=96, test=64)
    data = load("cars", data_root=tmp_path)
    assert data.train.targets.tolist() == plain.train.targets.tolist()
    assert data.test.targets.tolist() == plain.test.targets.tolist()
    assert data.train.class_names == plain.train.class_names
    assert np.array_equal(np.asarray(data.train.load(7)), np.asarray(plain.train.load(7)))


def test_dogs_lists_may_lie_in_either_place(tmp_path: Path) -> None:
    folder = copy_of("dogs", tmp_path)
    before = load("dogs", data_root=tmp_path).train.fingerprint
    for path in (folder / "lists").iterdir():
        path.rename(folder / path.name)
    assert load("dogs", data_root=tmp_path).train.fingerprint == before


def test_dogs_labels_that_contradict_the_folder_are_an_error(tmp_path: Path) -> None:
    path = copy_of("dogs", tmp_path) / "lists/test_list.mat"
    content = loadmat(path)
    content["labels"][0, 0] = 4
    savemat(path, {k: v for k, v in content.items() if not k.startswith("__")})
    with pytest.raises(DataError, match=r"label \d is n92\S+ for one file and n92"):
        load("dogs", data_root=tmp_path)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("flowers", "setid.mat"),
        ("flowers", "imagelabels.mat"),
        ("cars", "devkit/cars_train_annos.mat"),
        ("cars", "devkit/cars_meta.mat"),
        ("dogs", "lists/train_list.mat"),
    ],
)
@pytest.mark.parametrize("damage", ["truncated", "garbage", "other variables", "empty", "missing"])
def test_a_damaged_mat_file_is_an_error_that_names_it(
    tmp_path: Path, name: str, file: str, damage: str
) -> None:
    path = copy_of(name, tmp_path) / file
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        path.write_bytes(np.random.default_rng(0).bytes(500))
    elif damage == "other variables":
        savemat(path, {"something": [1, 2]})
    elif damage == "empty":
        path.touch()
    with pytest.raises(DataError, match=Path(file).name):
        load(name, data_root=tmp_path, allow_partial=True)
