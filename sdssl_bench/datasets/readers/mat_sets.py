"""Sets with MATLAB lists: Flowers-102, Stanford Cars, Stanford Dogs. Items are in list order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.files import numbers, read_mat
from sdssl_bench.datasets.listing import Listing, SplitListing
from sdssl_bench.errors import DataError


def read_flowers(root: Path, num_classes: int) -> Listing:
    """`setid.mat` and `imagelabels.mat`: image ids and labels count from 1; the classes have no names.

    Train is trnid, then valid.
    """
    labels_path, ids_path = root / "imagelabels.mat", root / "setid.mat"
    labels = numbers(read_mat(labels_path, "labels")["labels"], labels_path, what="labels")
    ids = {
        key: numbers(value, ids_path, what=key)
        for key, value in read_mat(ids_path, "trnid", "valid", "tstid").items()
    }
    for key, values in ids.items():
        if len(values) and (values.min() < 1 or values.max() > len(labels)):
            raise DataError(
                f"{ids_path}: expected image ids 1..{len(labels)} (as many as imagelabels.mat has "
                f"labels) in {key}, found {values.min()}..{values.max()}."
            )

    def split(chosen: NDArray[np.int64], val: NDArray[np.int64] | None) -> SplitListing:
        names = [f"jpg/image_{image:05d}.jpg" for image in chosen]
        return SplitListing(names, labels[chosen - 1] - 1, predefined_val=val)

    num_train, num_val = len(ids["trnid"]), len(ids["valid"])
    train = split(
        np.concatenate([ids["trnid"], ids["valid"]]),
        np.arange(num_train, num_train + num_val, dtype=np.int64),
    )
    class_names = tuple(f"flower {i + 1}" for i in range(num_classes))
    return Listing(class_names, train, split(ids["tstid"], None))


def read_cars(root: Path, num_classes: int) -> Listing:
    """The devkit layout, or `car_ims` with `cars_annos.mat`; class ids from 1."""
    if (root / "cars_annos.mat").is_file() and not (root / "cars_train").is_dir():
        return _read_cars_in_one(root)
    names_path = _first(root, "devkit/cars_meta.mat", "car_devkit/devkit/cars_meta.mat")
    class_names = _strings(read_mat(names_path, "class_names")["class_names"])
    train_path = _first(
        root,
        *("devkit/cars_train_annos.mat", "car_devkit/devkit/cars_train_annos.mat"),
        "cars_train_annos.mat",
    )
    test_path = _first(
        root,
        *("cars_test_annos_withlabels.mat", "devkit/cars_test_annos_withlabels.mat"),
        # Kaggle's copy has this name.
        "cars_test_annos_withlabels (1).mat",
    )
    splits = []
    for folder, path in (("cars_train", train_path), ("cars_test", test_path)):
        rows = _annotations(path, "fname", "class")
        # Kaggle's copy nests the folder in itself.
        inner = f"{folder}/{folder}" if (root / folder / folder).is_dir() else folder
        files = _strings(rows["fname"])
        splits.append(
            SplitListing(
                [f"{inner}/{file}" for file in files],
                numbers(rows["class"], path, what="class") - 1,
                keys=[f"{folder}/{file}" for file in files],
            )
        )
    return Listing(class_names, splits[0], splits[1])


def _read_cars_in_one(root: Path) -> Listing:
    path = root / "cars_annos.mat"
    class_names = _strings(read_mat(path, "class_names")["class_names"])
    rows = _annotations(path, "relative_im_path", "class", "test")
    names = np.array(_strings(rows["relative_im_path"]), object)
    targets = numbers(rows["class"], path, what="class") - 1
    is_test = numbers(rows["test"], path, what="test")
    if not np.isin(is_test, (0, 1)).all():
        raise DataError(f"{path}: expected 0 or 1 in the field 'test', found other numbers.")
    train, test = (SplitListing(list(names[m]), targets[m]) for m in (is_test == 0, is_test == 1))
    return Listing(class_names, train, test)


def read_dogs(root: Path, num_classes: int) -> Listing:
    """`{train,test}_list.mat`: file below `Images/`, and label from 1."""
    class_names: dict[int, str] = {}
    splits = []
    for split in ("train", "test"):
        path = _first(root, f"lists/{split}_list.mat", f"{split}_list.mat")
        rows = read_mat(path, "file_list", "labels")
        files = _strings(rows["file_list"])
        targets = numbers(rows["labels"], path, what="labels") - 1
        if len(files) != len(targets):
            raise DataError(
                f"{path}: expected a label per file, found {len(files):,} files and "
                f"{len(targets):,} labels."
            )
        for file, target in zip(files, targets.tolist(), strict=True):
            breed = file.partition("/")[0]
            # The folder repeats the class, so a shifted label list cannot go unnoticed.
            if class_names.setdefault(target, breed) != breed:
                raise DataError(
                    f"{path}: label {target + 1} is {class_names[target]} for one file and {breed} "
                    f"for {file}. Extract lists.tar again."
                )
        splits.append(SplitListing([f"Images/{file}" for file in files], targets))
    count = max(num_classes, *(target + 1 for target in class_names), 0)
    all_names = tuple(class_names.get(i, f"class {i + 1}") for i in range(count))
    return Listing(all_names, splits[0], splits[1])


def _first(root: Path, *candidates: str) -> Path:
    for candidate in candidates:
        if (root / candidate).is_file():
            return root / candidate
    raise DataError(
        f"Expected one of the list files {', '.join(candidates)} in {root}, found none. "
        "See 'sdssl-bench data layout' for the whole tree."
    )


def _annotations(path: Path, *fields: str) -> NDArray[Any]:
    rows = read_mat(path, "annotations")["annotations"]
    missing = [field for field in fields if field not in (rows.dtype.names or ())]
    if missing:
        raise DataError(
            f"{path}: expected the fields {', '.join(fields)} in 'annotations', found no "
            f"{', '.join(missing)}: this list has no labels, the one that has them is another file."
        )
    return rows


def _strings(values: Sequence[Any] | NDArray[Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
