"""Sets whose labels are their folders, and `folder:PATH` for anybody's own images.

Items are sorted by class, then by name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdssl_bench.datasets.files import list_folder
from sdssl_bench.datasets.kept_trees import list_tree
from sdssl_bench.datasets.listing import Listing, OwnSet, SplitListing
from sdssl_bench.datasets.trees import EXTENSIONS, Branch
from sdssl_bench.errors import DataError


def read_class_folders(root: Path, num_classes: int) -> Listing:
    """`train/CLASS/..` and `test/CLASS/..` (or `val/`): the reader of a named set in this layout."""
    return read_folder(root)[0]


def read_own_folder(address: str) -> OwnSet:
    """The set of "folder:PATH".

    Raises:
        DataError: if there is no such folder, or as `read_folder`.
    """
    root = Path(address).expanduser()
    if not address or not root.is_dir():
        raise DataError(f"Expected a folder after 'folder:', found '{address}', which is none.")
    listing, test = read_folder(root)
    absent = sorted(set(range(len(listing.class_names))) - set(listing.test.targets.tolist()))
    notes: dict[str, Any] = {"test_folder": test}
    if absent:
        notes["classes_without_test_images"] = [listing.class_names[i] for i in absent]
    return OwnSet(listing, root, notes)


def read_folder(root: Path) -> tuple[Listing, str]:
    """`train/CLASS/..` and `test/CLASS/..` (or `val/`), and which of the two was used.

    Raises:
        DataError: if a split is missing, a class folder has no image, or test has a class that
            train has not.
    """
    test = next((name for name in ("test", "val") if (root / name).is_dir()), None)
    if not (root / "train").is_dir() or test is None:
        found = ", ".join(e.name for e in list_folder(root)[:10]) or "nothing"
        raise DataError(
            f"{root}: expected the folders train/ and test/ (or val/) with one folder per "
            f"class in each, found {found}."
        )
    if (root / "train").resolve() == (root / test).resolve():
        raise DataError(f"{root}: train/ and {test}/ are the same folder.")
    splits = {split: _class_folders(root / split) for split in ("train", test)}
    strangers = sorted(splits[test].keys() - splits["train"].keys())
    if strangers:
        raise DataError(
            f"{root}: expected every class of {test}/ in train/, found only in {test}/: "
            f"{', '.join(strangers[:5])} ({len(strangers)} of {len(splits[test])} classes)."
        )
    for split, classes in splits.items():
        empty = [f"{split}/{name}" for name, images in classes.items() if not images.files]
        if empty:
            raise DataError(
                f"{root}: expected images in every class folder, found none in "
                f"{', '.join(empty[:5])} ({len(empty)} folders). Known endings: "
                f"{' '.join(sorted(EXTENSIONS))}."
            )
    names = list(splits["train"])
    train, tested = (split_of(split, classes, names) for split, classes in splits.items())
    return Listing(tuple(names), train, tested, from_folders=True), test


def _class_folders(folder: Path) -> dict[str, Branch]:
    tree = list_tree(folder)
    classes = {name: branch for name, branch in tree.items() if name}
    if not classes:
        flat = tree[""].files
        found = f"{len(flat):,} images directly in it, such as {flat[0]}" if flat else "none"
        raise DataError(
            f"Expected one folder per class in {folder}, found {found}. Images whose labels are in a "
            "table are read by csv:FILE ('sdssl-bench data layout csv')."
        )
    return classes


def split_of(split: str, classes: Mapping[str, Branch], names: Sequence[str]) -> SplitListing:
    """The images of class folders; a class's id is its place in `names`."""
    ids = {name: i for i, name in enumerate(names)}
    targets = np.array([ids[name] for name in classes], np.int64)
    return SplitListing(
        [f"{split}/{name}/{file}" for name, one in classes.items() for file in one.files],
        np.repeat(targets, [len(one.files) for one in classes.values()]),
        facts=(
            np.concatenate([np.empty(0, np.int64), *(one.sizes for one in classes.values())]),
            np.concatenate([np.empty(0, np.int64), *(one.times for one in classes.values())]),
        ),
        kept=any(one.kept for one in classes.values()),
    )
