"""Sets whose labels are their folders: ImageNet-1k, and `folder:PATH` for anybody's own images.

Items are sorted by class, then by name.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sdssl_bench.datasets.files import list_folder
from sdssl_bench.datasets.listing import Listing, SplitListing
from sdssl_bench.errors import DataError

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
)
_WNID = re.compile(r"n\d{8}")


def read_imagenet(root: Path, num_classes: int) -> Listing:
    """`train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`; class id = rank of the wnid."""
    folders = {split: _wnid_images(root / split) for split in ("train", "val")}
    for split, images in folders.items():
        if not any(images.values()):
            flat = sum(_is_image(e.name) for e in list_folder(root / split))
            found = f"{flat:,} images directly in it" if flat else "none"
            raise DataError(
                f"ImageNet: expected one folder of images per class (n01440764, ..) in "
                f"{root / split}, found {found}. Sort the images into class folders (the devkit has "
                "the labels of val)."
            )
    wnids = sorted({*folders["train"], *folders["val"]})
    ids = {wnid: i for i, wnid in enumerate(wnids)}
    splits = []
    for split, images in folders.items():
        names = [f"{split}/{wnid}/{file}" for wnid, files in images.items() for file in files]
        counts = [len(files) for files in images.values()]
        targets = np.repeat(np.array([ids[wnid] for wnid in images], np.int64), counts)
        # A file name is unique in all of ImageNet, so the same image in both splits shows.
        keys = [name.rpartition("/")[2] for name in names]
        splits.append(SplitListing(names, targets, keys=keys))
    return Listing(tuple(wnids), splits[0], splits[1], from_folders=True)


def _wnid_images(folder: Path) -> dict[str, list[str]]:
    return {
        entry.name: [e.name for e in list_folder(folder / entry.name) if _is_image(e.name)]
        for entry in list_folder(folder)
        if _WNID.fullmatch(entry.name) and entry.is_dir()
    }


def read_class_folders(root: Path, num_classes: int) -> Listing:
    """`train/CLASS/..` and `test/CLASS/..` (or `val/`): the reader of a named set in this layout."""
    return read_folder(root)[0]


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
    classes = _class_folders(root / "train")
    test_classes = _class_folders(root / test)
    strangers = sorted(set(test_classes) - set(classes))
    if strangers:
        raise DataError(
            f"{root}: expected every class of {test}/ in train/, found only in {test}/: "
            f"{', '.join(strangers[:5])} ({len(strangers)} of {len(test_classes)} classes)."
        )
    ids = {name: i for i, name in enumerate(classes)}
    splits = [
        _folder_split(root, split, {name: ids[name] for name in names})
        for split, names in (("train", classes), (test, test_classes))
    ]
    return Listing(tuple(classes), splits[0], splits[1], from_folders=True), test


def _class_folders(folder: Path) -> list[str]:
    names = [entry.name for entry in list_folder(folder) if entry.is_dir()]
    if not names:
        raise DataError(f"Expected one folder per class in {folder}, found none.")
    return names


def _folder_split(root: Path, split: str, ids: dict[str, int]) -> SplitListing:
    names: list[str] = []
    targets: list[int] = []
    empty = []
    for name, class_id in ids.items():
        files = sorted(images_below(root / split / name))
        if not files:
            empty.append(f"{split}/{name}")
        names += [f"{split}/{name}/{file}" for file in files]
        targets += [class_id] * len(files)
    if empty:
        raise DataError(
            f"{root}: expected images in every class folder, found none in "
            f"{', '.join(empty[:5])} ({len(empty)} folders). Known endings: "
            f"{' '.join(sorted(EXTENSIONS))}."
        )
    return SplitListing(names, np.array(targets, np.int64))


def images_below(folder: Path) -> Iterator[str]:
    """Images in a folder and below it, as relative paths; a loop of links ends it."""
    seen = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = [] if real in seen else sorted(f for f in folders if not f.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        prefix = Path(here).relative_to(folder).as_posix()
        for file in files:
            if _is_image(file) and not file.startswith("."):
                yield file if prefix == "." else f"{prefix}/{file}"


def _is_image(name: str) -> bool:
    return name[name.rfind(".") :].lower() in EXTENSIONS
