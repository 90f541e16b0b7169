"""VOC's and ADE20K's layouts: pairs, classes and void as they mean them, and what is wrong by its name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mini_data import copy_of, shared_mini
from sdssl_bench.datasets import kind_of, masks, names
from sdssl_bench.datasets.checking import check, render
from sdssl_bench.datasets.readers.palette import VOID, read_mask, write_mask
from sdssl_bench.errors import DataError

SETS = names("masks")


def voc_folder(root: Path, **splits: dict[str, np.ndarray]) -> str:
    """A folder of grey images and the masks given, in VOC's layout."""
    for split, found in splits.items():
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        for folder in (path.parent, root / "JPEGImages", root / "SegmentationClass"):
            folder.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in found))
        for name, mask in found.items():
            image = Image.fromarray(np.full((*mask.shape, 3), 90, np.uint8))
            image.save(root / "JPEGImages" / f"{name}.jpg")
            write_mask(root / "SegmentationClass" / f"{name}.png", mask)
    return f"folder:{root}"


@pytest.mark.parametrize("name", SETS)
def test_a_complete_miniature_is_ok(name: str) -> None:
    report = check(name, data_root=shared_mini(), decode=True)
    assert (report.ok, report.state, report.variant) == (True, "complete", "mini")
    assert "every image and mask decodes" in render(report)
    assert "20 train, 10 test images" in render(report)
    data = masks.load(name, data_root=shared_mini())
    seen = {split: set() for split in ("train", "test")}
    for split, one in (("train", data.train), ("test", data.test)):
        for index in range(len(one)):
            image, mask = one.images.load(index), one.mask(index)
            assert mask.shape == image.size[::-1]
            seen[split] |= set(np.unique(mask).tolist())
            assert Path(one.images.names[index]).stem == Path(one.masks.names[index]).stem
    assert seen["train"] == seen["test"] == {*range(6), VOID}


def test_voc_counts_the_background_and_ade20k_begins_at_1() -> None:
    for name, background, classes in (("voc2012", True, 21), ("ade20k", False, 150)):
        data = masks.load(name, data_root=shared_mini())
        assert (data.background, len(data.class_names)) == (background, classes)
        raw = read_mask(data.test.masks.root / data.test.masks.names[0])
        mask = data.test.mask(0)
        void = 255 if background else 0
        np.testing.assert_array_equal(mask == VOID, raw == void)
        known = raw != void
        np.testing.assert_array_equal(mask[known] + (0 if background else 1), raw[known])


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("what", ["images", "masks"])
def test_a_missing_file_is_named_and_its_pair_left_out_if_asked(
    name: str, what: str, tmp_path: Path
) -> None:
    copy_of(name, tmp_path)
    whole = masks.load(name, data_root=tmp_path)
    files = getattr(whole.test, what)
    (files.root / files.names[3]).unlink()
    with pytest.raises(DataError, match=Path(files.names[3]).stem):
        masks.load(name, data_root=tmp_path)
    part = masks.load(name, data_root=tmp_path, allow_partial=True)
    assert (part.variant, len(part.test), len(part.train)) == ("partial", 9, 20)
    assert part.fingerprint != whole.fingerprint
    assert list(part.test.images.names) == [
        one for i, one in enumerate(whole.test.images.names) if i != 3
    ]
    report = check(name, data_root=tmp_path)
    assert (report.ok, report.state) == (False, "incomplete")
    assert Path(files.names[3]).stem in render(report)


def test_a_mask_of_another_size_or_with_an_unknown_id_is_named(tmp_path: Path) -> None:
    copy_of("voc2012", tmp_path)
    data = masks.load("voc2012", data_root=tmp_path)
    path = data.train.masks.root / data.train.masks.names[0]
    good = read_mask(path)
    write_mask(path, good[:-1])
    with pytest.raises(DataError, match="the size of its image"):
        data.train.mask(0)
    write_mask(path, np.where(good == 0, 21, good))
    with pytest.raises(DataError, match="21 classes and void, found 21"):
        data.train.mask(0)
    Image.fromarray(np.zeros((*good.shape, 3), np.uint8)).save(path)
    report = check("voc2012", data_root=tmp_path, decode=True)
    assert (report.ok, len(report.unreadable or ())) == (False, 1)
    assert str(path) in render(report)


def test_a_folder_in_vocs_layout_has_the_classes_of_its_masks(tmp_path: Path) -> None:
    mask = np.array([[0, 3], [255, 1]], np.uint8)
    name = voc_folder(tmp_path, train={"a": mask, "b": mask * 0}, val={"c": mask})
    assert kind_of(name) == "masks"
    data = masks.load(name, data_root=None)
    assert (data.variant, data.class_names) == ("folder", ("0", "1", "2", "3"))
    assert (len(data.train), len(data.test)) == (2, 1)
    assert check(name, data_root=None, decode=True).ok
    (tmp_path / "SegmentationClass" / "b.png").unlink()
    for partial in (False, True):
        with pytest.raises(DataError, match="1 mask files are missing"):
            masks.load(name, data_root=None, allow_partial=partial)


def test_lists_and_splits_that_make_no_sense_are_errors(tmp_path: Path) -> None:
    mask = np.array([[0, 1]], np.uint8)
    shared = voc_folder(tmp_path / "shared", train={"a": mask}, val={"a": mask})
    with pytest.raises(DataError, match="share 1 images"):
        masks.load(shared, data_root=None)
    empty = voc_folder(tmp_path / "empty", train={"a": mask}, val={})
    with pytest.raises(DataError, match=r"val\.txt: expected names"):
        masks.load(empty, data_root=None)
    void = np.full((2, 2), 255, np.uint8)
    nothing = voc_folder(tmp_path / "void", train={"a": void}, val={"b": void})
    with pytest.raises(DataError, match="two classes or more"):
        masks.load(nothing, data_root=None)
    with pytest.raises(DataError, match="expected a folder"):
        masks.load(f"folder:{tmp_path}/no", data_root=None)
