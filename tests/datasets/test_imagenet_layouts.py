"""ImageNet as its archives extract: flat val with the devkit or Kaggle's table, and class folders."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from mini_data import copy_of
from sdssl_bench.datasets.loading import describe, load
from sdssl_bench.errors import DataError

INNER = [("n00001740", 3), ("n00002137", 1)]
"""Inner nodes of WordNet, which meta.mat lists too."""


def flatten(folder: Path) -> dict[str, str]:
    """Move the images of val/ out of their class folders; file name -> wnid."""
    labels = {}
    for path in sorted(folder.glob("val/*/*.JPEG")):
        labels[path.name] = path.parent.name
        path.rename(folder / "val" / path.name)
    for empty in folder.glob("val/n*"):
        empty.rmdir()
    return labels


def write_devkit(folder: Path, labels: dict[str, str]) -> Path:
    """Ids in an order that is not that of the wnids, inner nodes among them, as in the official file."""
    devkit = folder / "ILSVRC2012_devkit_t12" / "data"
    devkit.mkdir(parents=True)
    wnids = sorted(set(labels.values()), reverse=True)
    rows = [(wnid, 0) for wnid in wnids] + INNER
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array(
        [(float(i), wnid, "word", float(n)) for i, (wnid, n) in enumerate(rows, 1)], dtype=kinds
    )
    savemat(devkit / "meta.mat", {"synsets": synsets[:, None]})
    lines = [str(1 + wnids.index(labels[file])) for file in sorted(labels)]
    (devkit / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(lines) + "\n")
    return devkit


def write_kaggle(folder: Path, labels: dict[str, str]) -> Path:
    path = folder / "LOC_val_solution.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["ImageId", "PredictionString"])
        for name, wnid in reversed(labels.items()):
            box = f"{wnid} 85 1 499 272"
            out.writerow([name.removesuffix(".JPEG"), f"{box} {box} "])
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_of("imagenet", tmp_path)


def test_every_layout_is_the_same_set(folder: Path, tmp_path: Path) -> None:
    classes = load("imagenet", data_root=tmp_path)
    picture = np.asarray(classes.test.load(5))
    labels = flatten(folder)
    devkit = write_devkit(folder, labels)
    flat = load("imagenet", data_root=tmp_path)
    assert describe(flat).fingerprint == describe(classes).fingerprint
    assert flat.test.class_names == classes.test.class_names
    truth = {name.rpartition("/")[2]: flat.test.class_names[i] for name, i in
             zip(flat.test.names, flat.test.targets.tolist(), strict=True)}  # fmt: skip
    assert truth == labels
    assert np.array_equal(np.asarray(flat.test.load(5)), picture)

    devkit.parent.rename(tmp_path / "ILSVRC2012_devkit_t12")  # Beside the set instead of in it.
    assert describe(load("imagenet", data_root=tmp_path)).fingerprint == describe(flat).fingerprint


def test_kaggles_tree_is_the_same_set(folder: Path, tmp_path: Path) -> None:
    classes = load("imagenet", data_root=tmp_path)
    labels = flatten(folder)
    deep = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    deep.parent.mkdir(parents=True)
    folder.rename(deep)
    write_kaggle(tmp_path, labels)
    assert describe(load("imagenet", data_root=tmp_path)).fingerprint == (
        describe(classes).fingerprint
    )


def test_folders_may_be_called_as_the_archives_are(folder: Path, tmp_path: Path) -> None:
    before = describe(load("imagenet", data_root=tmp_path)).fingerprint
    for split in ("train", "val"):
        (folder / split).rename(folder / f"ILSVRC2012_img_{split}")
    assert describe(load("imagenet", data_root=tmp_path)).fingerprint == before


def test_a_missing_image_of_a_flat_val_is_incomplete_and_named(
    folder: Path, tmp_path: Path
) -> None:
    labels = flatten(folder)
    write_devkit(folder, labels)
    lost = sorted(labels)[7]
    (folder / "val" / lost).unlink()
    with pytest.raises(
        DataError, match=f"1 of 96 image files are missing or empty, first val/{lost}"
    ):
        load("imagenet", data_root=tmp_path)
    data = load("imagenet", data_root=tmp_path, allow_partial=True)
    assert (data.variant, len(data.test)) == ("partial", 95)


def test_a_wrong_class_count_stays_an_error(folder: Path, tmp_path: Path) -> None:
    labels = flatten(folder)
    write_kaggle(folder, labels | {sorted(labels)[0]: "n99999999"})
    with pytest.raises(DataError, match="expected 12 classes, found 13"):
        load("imagenet", data_root=tmp_path, allow_partial=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("stranger", "found 1 others, first ILSVRC2012_val_00099999.JPEG"),
        ("label", "line 3: expected a class of meta.mat"),
        ("text", "expected a whole number as a class, found 'cat'"),
        ("fields", "expected the fields ILSVRC2012_ID, WNID, num_children"),
        ("no meta", r"Expected the list file .*meta\.mat"),
        (
            "none",
            r"96 images directly in it. A flat folder needs the labels beside it: ILSVRC2012_dev",
        ),
        ("two classes", "expected ImageId,PredictionString with one class a row"),
    ],
)
def test_labels_that_do_not_fit_are_named(
    folder: Path, tmp_path: Path, damage: str, message: str
) -> None:
    labels = flatten(folder)
    devkit = write_devkit(folder, labels)
    truth = devkit / "ILSVRC2012_validation_ground_truth.txt"
    lines = truth.read_text().splitlines()
    if damage == "stranger":
        first = folder / "val" / sorted(labels)[0]
        first.rename(first.with_name("ILSVRC2012_val_00099999.JPEG"))
    elif damage in ("label", "text"):
        # 13 is an inner node of this meta.mat.
        lines[2] = "13" if damage == "label" else "cat"
        truth.write_text("\n".join(lines))
    elif damage == "fields":
        savemat(devkit / "meta.mat", {"synsets": np.zeros((3, 1))})
    elif damage == "no meta":
        (devkit / "meta.mat").unlink()
    else:
        truth.unlink()
        if damage == "two classes":
            (folder / "LOC_val_solution.csv").write_text(
                "ImageId,PredictionString\nILSVRC2012_val_00000001,n90000000 1 2 3 4 n90000037 1 2 3 4\n"
            )
    with pytest.raises(DataError, match=message):
        load("imagenet", data_root=tmp_path)


def test_archives_inside_the_archive_say_how_they_are_extracted(
    folder: Path, tmp_path: Path
) -> None:
    for path in folder.glob("train/*"):
        path.rename(tmp_path / f"away-{path.name}")
    (folder / "train" / "n01440764.tar").touch()
    with pytest.raises(DataError, match=r"1 archives such as n01440764\.tar.*for f in n\*\.tar"):
        load("imagenet", data_root=tmp_path)
