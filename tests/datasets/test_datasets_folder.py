"""folder:PATH and ImageNet: labels are folders."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mini_data import copy_of, shared_mini
from sdssl_bench.datasets.loading import load
from sdssl_bench.errors import DataError


def put(root: Path, *files: str) -> Path:
    for i, file in enumerate(files):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 5, 3), i, np.uint8)).save(root / file, "PNG")
    return root


def test_classes_are_the_sorted_train_folders_and_items_are_sorted(tmp_path: Path) -> None:
    put(tmp_path, "train/b/2.png", "train/b/10.png", "train/a/z.png", "train/C/x.png")
    put(tmp_path, "test/b/1.png", "test/a/1.png", "test/C/1.png")
    data = load(f"folder:{tmp_path}", data_root=None)
    assert data.train.class_names == data.test.class_names == ("C", "a", "b")
    expected = ["train/C/x.png", "train/a/z.png", "train/b/10.png", "train/b/2.png"]
    assert list(data.train.names) == expected
    assert data.train.targets.tolist() == [0, 1, 2, 2]
    assert (data.variant, data.headline, data.name) == ("folder", "top1", f"folder:{tmp_path}")
    assert data.train.expected is None
    assert data.train.load(3).size == (5, 4)


def test_val_serves_as_test_and_test_is_preferred_which_is_noted(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "val/a/1.png", "val/a/2.png")
    data = load(f"folder:{tmp_path}", data_root=None)
    assert (len(data.test), data.notes["test_folder"]) == (2, "val")
    put(tmp_path, "test/a/1.png")
    data = load(f"folder:{tmp_path}", data_root=None)
    assert (len(data.test), data.notes["test_folder"]) == (1, "test")


def test_hidden_and_foreign_files_are_ignored_and_endings_know_no_case(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.PNG", "train/a/2.JpEg", "test/a/1.png", "train/a/.3.png")
    put(tmp_path, "train/.cache/1.png", "test/.x/1.png")
    (tmp_path / "train/a/notes.txt").write_text("x")
    (tmp_path / "train/labels.csv").write_text("x")
    data = load(f"folder:{tmp_path}", data_root=None)
    assert list(data.train.names) == ["train/a/1.PNG", "train/a/2.JpEg"]
    assert data.train.class_names == ("a",)


def test_images_below_a_class_folder_belong_to_the_class(tmp_path: Path) -> None:
    # Tiny-ImageNet as downloaded: train/<wnid>/images/*.JPEG.
    put(tmp_path, "train/a/images/1.JPEG", "train/a/2.JPEG", "test/a/1.JPEG")
    names = load(f"folder:{tmp_path}", data_root=None).train.names
    assert list(names) == ["train/a/2.JPEG", "train/a/images/1.JPEG"]


def test_symbolic_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    store = put(tmp_path / "store", "1.png", "2.png")
    root = put(tmp_path / "data", "train/a/0.png", "test/a/0.png", "test/b/0.png")
    (root / "train/b").symlink_to(store)
    (root / "train/a/link.png").symlink_to(store / "1.png")
    (root / "train/a/loop").symlink_to(root / "train/a")
    data = load(f"folder:{root}", data_root=None)
    expected = ["train/a/0.png", "train/a/link.png", "train/b/1.png", "train/b/2.png"]
    assert list(data.train.names) == expected


def test_a_class_of_test_that_train_lacks_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "test/a/1.png", "test/stranger/1.png")
    with pytest.raises(DataError, match=r"only in test/: stranger \(1 of 2"):
        load(f"folder:{tmp_path}", data_root=None)


def test_a_class_without_test_images_is_noted(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "train/b/1.png", "test/b/1.png")
    data = load(f"folder:{tmp_path}", data_root=None)
    assert data.notes["classes_without_test_images"] == ["a"]
    assert data.test.targets.tolist() == [1]


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_class_folder_is_an_error(tmp_path: Path, split: str) -> None:
    put(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png")
    (tmp_path / split / "b").mkdir(exist_ok=True)
    (tmp_path / split / "b/1.png").unlink(missing_ok=True)
    (tmp_path / split / "b/readme.txt").write_text("x")
    with pytest.raises(DataError, match=rf"{split}/b \(1 folders\)"):
        load(f"folder:{tmp_path}", data_root=None)


def test_missing_parts_say_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which is none"):
        load(f"folder:{tmp_path}/nowhere", data_root=None)
    with pytest.raises(DataError, match="''"):
        load("folder:", data_root=None)
    (tmp_path / "training").mkdir()
    with pytest.raises(DataError, match=r"train/ and test/ \(or val/\).*found training"):
        load(f"folder:{tmp_path}", data_root=None)
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match="one folder per class"):
        load(f"folder:{tmp_path}", data_root=None)


def test_empty_files_and_broken_links_are_named(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "test/a/1.png")
    (tmp_path / "train/a/empty.png").touch()
    (tmp_path / "train/a/gone.png").symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"2 train files.*empty\.png, train/a/gone\.png"):
        load(f"folder:{tmp_path}", data_root=None)


def test_train_and_test_may_not_be_the_same_folder(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png")
    (tmp_path / "test").symlink_to(tmp_path / "train")
    with pytest.raises(DataError, match="the same folder"):
        load(f"folder:{tmp_path}", data_root=None)


def test_the_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "train/a/1.png", "test/a/1.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load("folder:~", data_root=None).train) == 1


def test_imagenet_classes_are_sorted_wnids_and_val_is_test() -> None:
    data = load("imagenet", data_root=shared_mini())
    assert data.train.class_names == tuple(sorted(data.train.class_names))
    for images, folder in ((data.train, "train"), (data.test, "val")):
        for name, target in zip(images.names, images.targets, strict=True):
            assert name.startswith(f"{folder}/{images.class_names[target]}/")
    assert list(data.train.names) == sorted(data.train.names)


def test_an_imagenet_val_folder_without_classes_is_explained(tmp_path: Path) -> None:
    folder = copy_of("imagenet", tmp_path)
    for path in folder.glob("val/*/*.JPEG"):
        path.rename(folder / "val" / path.name)
    with pytest.raises(DataError, match=r"val, found 96 images directly in it"):
        load("imagenet", data_root=tmp_path)


def test_an_image_in_both_imagenet_splits_is_never_tolerated(tmp_path: Path) -> None:
    folder = copy_of("imagenet", tmp_path)
    one = next(iter(sorted(folder.glob("val/*/*.JPEG"))))
    one.rename(folder / "train" / one.parent.name / one.name)
    two = next(iter(sorted(folder.glob("train/*/n9*.JPEG"))))
    (folder / "val" / one.parent.name / one.name).write_bytes(two.read_bytes())
    for allow in (False, True):
        with pytest.raises(DataError, match="train and test share 1 items") as caught:
            load("imagenet", data_root=tmp_path, allow_partial=allow)
        assert "--allow-partial" not in str(caught.value)


def test_missing_imagenet_classes_are_incomplete(tmp_path: Path) -> None:
    folder = copy_of("imagenet", tmp_path)
    lost = sorted(path.name for path in folder.glob("val/*"))[0]
    for path in [*folder.glob(f"*/{lost}/*")]:
        path.unlink()
    for split in ("train", "val"):
        (folder / split / lost).rmdir()
    with pytest.raises(DataError, match="expected 12 classes, found 11"):
        load("imagenet", data_root=tmp_path)
    partial = load("imagenet", data_root=tmp_path, allow_partial=True)
    assert (partial.variant, partial.train.num_classes) == ("partial", 11)
    assert not re.search(lost, " ".join(partial.train.class_names))
