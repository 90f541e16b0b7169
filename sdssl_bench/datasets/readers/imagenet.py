"""ImageNet-1k: `train/` in class folders, `val/` in class folders or as its archive extracts.

The labels of a flat `val/` come from the devkit or from Kaggle's table. Items of every layout are sorted
by class, then by name, so the same images have one fingerprint.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sdssl_bench.datasets.files import integer, list_folder, read_lines, read_mat
from sdssl_bench.datasets.kept_trees import list_tree
from sdssl_bench.datasets.listing import Listing, SplitListing
from sdssl_bench.datasets.readers.folders import split_of
from sdssl_bench.datasets.trees import Branch, Tree
from sdssl_bench.errors import DataError

DEVKIT = "ILSVRC2012_devkit_t12"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
KAGGLE = "LOC_val_solution.csv"
_WNID = re.compile(r"n\d{8}")


def read_imagenet(root: Path, num_classes: int) -> Listing:
    """`train/<wnid>/*.JPEG`, `val/<wnid>/*.JPEG` or `val/*.JPEG`; class id = rank of the wnid.

    Raises:
        DataError: if a part is missing, or labels of a flat `val/` are missing or do not fit.
    """
    train_folder, val_folder = (_folder(root, split) for split in ("train", "val"))
    train, val = _wnids(list_tree(train_folder)), list_tree(val_folder)
    if not any(len(one.files) for one in train.values()):
        raise DataError(_no_classes(train_folder))
    classes = _wnids(val)
    labels: Mapping[str, str] = {}
    if not any(len(one.files) for one in classes.values()):
        labels = _labels(root, val_folder, val[""].files)
    wnids = sorted({*train, *classes, *labels.values()})
    tested = (
        _labelled(val_folder.name, val[""], labels, wnids)
        if labels
        else split_of(val_folder.name, classes, wnids)
    )
    trained = split_of(train_folder.name, train, wnids)
    return Listing(tuple(wnids), _keyed(trained), _keyed(tested), from_folders=True)


def _folder(root: Path, split: str) -> Path:
    """Also as people call what an archive extracts to."""
    other = root / f"ILSVRC2012_img_{split}"
    return other if other.is_dir() and not (root / split).is_dir() else root / split


def _wnids(tree: Tree) -> Tree:
    """The class folders, with the images directly in them."""
    found = {}
    for name, one in tree.items():
        if _WNID.fullmatch(name):
            here = np.flatnonzero(["/" not in file for file in one.files])
            if len(here) < len(one.files):
                one = Branch(
                    [one.files[i] for i in here], one.sizes[here], one.times[here], {}, one.kept
                )
            found[name] = one
    return found


def _keyed(split: SplitListing) -> SplitListing:
    """A file name is unique in all of ImageNet, so the same image in both splits shows."""
    return replace(split, keys=[name.rpartition("/")[2] for name in split.names])


def _labelled(
    folder: str, flat: Branch, labels: Mapping[str, str], wnids: list[str]
) -> SplitListing:
    """The images of a flat folder that the labels name, there or not."""
    rows = {file: row for row, file in enumerate(flat.files)}
    files = sorted(labels, key=lambda file: (labels[file], file))
    ids = {wnid: i for i, wnid in enumerate(wnids)}
    places = np.array([rows.get(file, -1) for file in files], np.int64)
    sizes, times = (
        np.where(places < 0, -1, np.append(one, -1)[places]) for one in (flat.sizes, flat.times)
    )
    targets = np.array([ids[labels[file]] for file in files], np.int64)
    return SplitListing(
        [f"{folder}/{file}" for file in files], targets, facts=(sizes, times), kept=flat.kept
    )


def _labels(root: Path, folder: Path, files: list[str]) -> dict[str, str]:
    """File name -> wnid of every validation image.

    Raises:
        DataError: if no labels are there, or there are images without one.
    """
    if not files:
        raise DataError(_no_classes(folder))
    # Kaggle's table lies three folders above the images, which are in ILSVRC/Data/CLS-LOC.
    for place in (root, *root.absolute().parents[:3]):
        for devkit in (place / DEVKIT / "data", place / DEVKIT, place / "data", place):
            if (devkit / TRUTH).is_file():
                source, labels = devkit / TRUTH, _devkit_labels(devkit)
                break
        else:
            if not (place / KAGGLE).is_file():
                continue
            source, labels = place / KAGGLE, _kaggle_labels(place / KAGGLE)
        unknown = [file for file in files if file not in labels]
        if unknown:
            raise DataError(
                f"{folder}: expected the images that {source} has labels of, such as "
                f"{next(iter(labels), 'none')}, found {len(unknown):,} others, first {unknown[0]}."
            )
        return labels
    raise DataError(_no_classes(folder))


def _devkit_labels(devkit: Path) -> dict[str, str]:
    """Line i is the ILSVRC2012_ID of ILSVRC2012_val_<i>; meta.mat has the wnid of each id."""
    path = devkit / "meta.mat"
    synsets: Any = read_mat(path, "synsets")["synsets"]
    wanted = ("ILSVRC2012_ID", "WNID", "num_children")
    if any(name not in (synsets.dtype.names or ()) for name in wanted):
        raise DataError(
            f"{path}: expected the fields {', '.join(wanted)} in 'synsets', found "
            f"{', '.join(synsets.dtype.names or ()) or 'none'}. Extract {DEVKIT}.tar.gz again."
        )
    # Ids above the thousand are inner nodes of WordNet.
    wnids = {
        int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets if not one["num_children"]
    }
    labels = {}
    for number, line in enumerate(read_lines(devkit / TRUTH), 1):
        label = integer(line, devkit / TRUTH, what="a class")
        if label not in wnids:
            raise DataError(
                f"{devkit / TRUTH}, line {number}: expected a class of meta.mat (1 to {len(wnids):,}),"
                f" found {label}."
            )
        labels[f"ILSVRC2012_val_{number:08d}.JPEG"] = wnids[label]
    return labels


def _kaggle_labels(path: Path) -> dict[str, str]:
    """`ImageId,PredictionString`: the string has a wnid and a box for each object, all of one class."""
    labels = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                found = set(_WNID.findall(row.get("PredictionString") or ""))
                if len(found) != 1 or not row.get("ImageId"):
                    raise DataError(
                        f"{path}: expected ImageId,PredictionString with one class a row, found "
                        f"{dict(row)}."
                    )
                labels[f"{row['ImageId']}.JPEG"] = found.pop()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected Kaggle's table of labels, found: {error}.") from error
    return labels


def _no_classes(folder: Path) -> str:
    inside = list_folder(folder)
    flat = sum(entry.name.lower().endswith(".jpeg") for entry in inside)
    archives = [entry.name for entry in inside if entry.name.endswith(".tar")]
    found = f"{flat:,} images directly in it" if flat else "none"
    text = f"ImageNet: expected one folder of images per class (n01440764, ..) in {folder}, found {found}"
    if archives:
        return (
            f"{text}, and {len(archives):,} archives such as {archives[0]}. Extract each into a folder "
            f"of its name: cd {folder}; for f in n*.tar; do mkdir ${{f%.tar}}; tar xf $f -C "
            "${f%.tar}; rm $f; done"
        )
    if folder.name.endswith("val"):
        return (
            f"{text}. A flat folder needs the labels beside it: {DEVKIT}/ (extracted from "
            f"{DEVKIT}.tar.gz) in {folder.parent} or above, or Kaggle's {KAGGLE}."
        )
    return f"{text}. Extract ILSVRC2012_img_train.tar, then the archive of each class."
