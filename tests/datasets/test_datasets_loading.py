"""Where sets are looked for, what an incomplete copy says, and when two copies are the same."""

import json
import shutil
from pathlib import Path

import pytest

from mini_data import copy_of, mini_of, shared_mini
from sdssl_bench.datasets import spec
from sdssl_bench.datasets.catalogue import layout, names
from sdssl_bench.datasets.loading import load
from sdssl_bench.datasets.specs.specification import MARKER
from sdssl_bench.errors import DataError, UsageError

FILE_SETS = [name for name in names("classification") if not name.startswith("cifar")]


@pytest.mark.parametrize("name", names("classification"))
def test_the_data_root_may_be_the_parent_or_the_set_itself(name: str) -> None:
    parent = load(name, data_root=shared_mini())
    itself = load(name, data_root=shared_mini() / mini_of(name).folder)
    assert itself.train.fingerprint == parent.train.fingerprint
    assert itself.variant == "mini"


@pytest.mark.parametrize("name", names("classification"))
def test_every_listed_folder_is_found(tmp_path: Path, name: str) -> None:
    source = copy_of(name, tmp_path / "source")
    for folder in (f for f in spec(name).folders if f):
        root = tmp_path / folder.replace("/", "_")
        (root / folder).parent.mkdir(parents=True)
        (root / folder).symlink_to(source, target_is_directory=True)
        shutil.copy(shared_mini() / MARKER, root / MARKER)
        assert load(name, data_root=root).train.root == root / folder


@pytest.mark.parametrize("name", names("classification"))
def test_a_set_that_is_not_there_is_explained(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        load(name, data_root=tmp_path)
    text = str(caught.value)
    entry = spec(name)
    for folder in entry.folders:
        assert str(tmp_path / folder) in text
    for word in (entry.title, entry.home, *entry.archives, *entry.archives.values()):
        assert word in text
    for line in entry.tree.strip().splitlines():
        assert line.strip() in text


def test_a_folder_of_the_right_name_without_the_files_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "flowers-102/jpg").mkdir(parents=True)
    with pytest.raises(DataError, match=r"flowers-102 exists but has none of setid\.mat"):
        load("flowers", data_root=tmp_path)


def test_no_data_root_and_no_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data-root DIR or set SDSSL_BENCH_DATA"):
        load("cub", data_root=None)
    with pytest.raises(DataError, match="nowhere to be a folder, found none"):
        load("cub", data_root=tmp_path / "nowhere")


def test_an_unknown_name_suggests_the_closest() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'cifar10'\?.*folder:PATH"):
        load("cifar-10", data_root=None)
    with pytest.raises(UsageError, match="nabirds"):
        layout("nabird")


@pytest.mark.parametrize("name", [*names(), "folder", "folder:/x"])
def test_every_layout_is_described(name: str) -> None:
    text = layout(name)
    if name.startswith("folder"):
        assert "test/CLASS" in text
        return
    entry = spec(name)
    for part in (entry.title, entry.contents, entry.licence, entry.home, *entry.archives):
        assert part in text


def remove_images(name: str, to: Path, split: str, count: int) -> list[str]:
    """Delete the first images of a split; returns their names."""
    copy_of(name, to)
    data = load(name, data_root=to)
    images = data.train if split == "train" else data.test
    gone = list(images.names)[:count]
    for file in gone:
        (images.root / file).unlink()
    return gone


@pytest.mark.parametrize("name", FILE_SETS)
def test_an_incomplete_copy_is_an_error_that_says_everything(tmp_path: Path, name: str) -> None:
    gone = remove_images(name, tmp_path, "train", 3)
    mini = mini_of(name)
    total = mini.classes * mini.train
    with pytest.raises(DataError) as caught:
        load(name, data_root=tmp_path)
    text = str(caught.value)
    assert f"expected {total:,} train and {mini.classes * mini.test:,} test" in text
    assert f"found {total - 3:,} and {mini.classes * mini.test:,}" in text
    assert "--allow-partial: it scores what is there and says so in the record" in text
    if name != "imagenet":
        for file in gone:
            assert file in text


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", FILE_SETS)
def test_allow_partial_keeps_exactly_what_is_there_and_records_it(
    tmp_path: Path, name: str, split: str
) -> None:
    gone = remove_images(name, tmp_path, split, 3)
    whole = load(name, data_root=shared_mini())
    data = load(name, data_root=tmp_path, allow_partial=True)
    assert data.variant == "partial"
    for full, part in ((whole.train, data.train), (whole.test, data.test)):
        kept = [i for i, n in enumerate(full.names) if n not in gone]
        assert list(part.names) == [full.names[i] for i in kept]
        assert part.targets.tolist() == full.targets[kept].tolist()
        assert part.class_names == full.class_names
        changed = part.split == split
        assert (part.fingerprint != full.fingerprint) == changed
        note = data.notes[part.split]
        assert (note["expected"], note["found"]) == (len(full), len(part))
    json.dumps(data.notes)


def test_a_partial_copy_keeps_class_ids_and_lists_the_classes_present(tmp_path: Path) -> None:
    folder = copy_of("nabirds", tmp_path)
    whole = load("nabirds", data_root=tmp_path)
    lost = whole.train.names[0].split("/")[1]
    shutil.rmtree(folder / "images" / lost)
    data = load("nabirds", data_root=tmp_path, allow_partial=True)
    assert data.train.num_classes == 8
    assert data.notes["train"]["num_classes_present"] == 7
    assert len(data.notes["train"]["classes_present"]) == 7
    assert whole.train.targets[0] not in data.train.targets
    rows = dict(zip(whole.train.names, whole.train.targets, strict=True))
    assert all(rows[n] == t for n, t in zip(data.train.names, data.train.targets, strict=True))


@pytest.mark.parametrize("name", ["flowers", "aircraft"])
def test_predefined_validation_follows_the_images_that_remain(tmp_path: Path, name: str) -> None:
    gone = remove_images(name, tmp_path, "train", 50)
    whole = load(name, data_root=shared_mini()).train
    part = load(name, data_root=tmp_path, allow_partial=True).train
    assert whole.predefined_val is not None
    assert part.predefined_val is not None
    official = [whole.names[i] for i in whole.predefined_val]
    assert [part.names[i] for i in part.predefined_val] == [n for n in official if n not in gone]


def test_a_split_without_any_image_cannot_be_partial(tmp_path: Path) -> None:
    remove_images("cub", tmp_path, "test", 64)
    with pytest.raises(DataError, match="has no test image at all"):
        load("cub", data_root=tmp_path, allow_partial=True)


def test_empty_files_count_as_missing(tmp_path: Path) -> None:
    copy_of("dogs", tmp_path)
    data = load("dogs", data_root=tmp_path)
    (data.test.root / data.test.names[5]).write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 48 image files are missing or empty"):
        load("dogs", data_root=tmp_path)


def test_allow_partial_of_a_complete_copy_changes_nothing() -> None:
    strict = load("cub", data_root=shared_mini())
    lenient = load("cub", data_root=shared_mini(), allow_partial=True)
    assert (lenient.variant, lenient.notes) == (strict.variant, strict.notes)
    assert lenient.train.fingerprint == strict.train.fingerprint


def test_a_miniature_without_its_marker_is_an_incomplete_official_copy(tmp_path: Path) -> None:
    copy_of("cifar10", tmp_path)
    (tmp_path / MARKER).unlink()
    with pytest.raises(DataError, match="expected 50,000 train and 10,000 test images, found 200"):
        load("cifar10", data_root=tmp_path)


def test_a_list_with_more_images_than_official_is_never_tolerated(tmp_path: Path) -> None:
    copy_of("dogs", tmp_path)
    marker = json.loads((tmp_path / MARKER).read_text())
    marker["datasets"]["dogs"]["train"] -= 1
    (tmp_path / MARKER).write_text(json.dumps(marker))
    with pytest.raises(DataError, match="expected 71 images, found 72") as caught:
        load("dogs", data_root=tmp_path, allow_partial=True)
    assert "--allow-partial" not in str(caught.value)


def test_a_damaged_marker_is_an_error_and_not_an_official_copy(tmp_path: Path) -> None:
    copy_of("dogs", tmp_path)
    for content in ("{", "[]", '{"datasets": {}}'):
        (tmp_path / MARKER).write_text(content)
        with pytest.raises(DataError, match="miniature data but does not say what dogs has"):
            load("dogs", data_root=tmp_path, allow_partial=True)


def test_the_same_image_listed_in_both_splits_is_never_tolerated(tmp_path: Path) -> None:
    folder = copy_of("pets", tmp_path) / "annotations"
    lines = (folder / "test.txt").read_text().splitlines()
    lines[0] = (folder / "trainval.txt").read_text().splitlines()[0]
    (folder / "test.txt").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"train and test share 1 items, e\.g\. images/Chelsea"):
        load("pets", data_root=tmp_path, allow_partial=True)


def test_an_image_listed_twice_is_never_tolerated(tmp_path: Path) -> None:
    path = copy_of("pets", tmp_path) / "annotations/test.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[1], *lines[1:]]))
    with pytest.raises(DataError, match="test: 1 items are listed more than once"):
        load("pets", data_root=tmp_path, allow_partial=True)
