"""Sets with text lists: Pets, CUB-200-2011, FGVC-Aircraft, NABirds. Items are in list order."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sdssl_bench.datasets.files import integer, read_lines, read_table
from sdssl_bench.datasets.listing import Listing, SplitListing
from sdssl_bench.errors import DataError


def read_pets(root: Path, num_classes: int) -> Listing:
    """`annotations/{trainval,test}.txt`: name, class id from 1, species, breed id."""
    class_names: dict[int, str] = {}
    splits = []
    for file in ("trainval", "test"):
        path = root / "annotations" / f"{file}.txt"
        names, targets = [], []
        for line in read_lines(path):
            if line.startswith("#"):
                continue
            name, *columns = line.split()
            if len(columns) < 1:
                raise DataError(
                    f"{path}: expected 'NAME CLASS SPECIES BREED', found '{line[:80]}'."
                )
            target = integer(columns[0], path, what="class id") - 1
            breed = name.rpartition("_")[0]
            if class_names.setdefault(target, breed) != breed:
                raise DataError(
                    f"{path}: class id {target + 1} is {class_names[target]} in one line and {breed} "
                    f"in another ('{line[:80]}'). Extract annotations.tar.gz again."
                )
            names.append(f"images/{name}.jpg")
            targets.append(target)
        splits.append(SplitListing(names, np.array(targets, np.int64)))
    count = max(num_classes, *(target + 1 for target in class_names), 0)
    all_names = tuple(class_names.get(i, f"class {i + 1}") for i in range(count))
    return Listing(all_names, splits[0], splits[1])


def read_cub(root: Path, num_classes: int) -> Listing:
    """Joined on the image id; class ids from 1."""
    classes = read_table(root / "classes.txt")
    ids = {class_id: i for i, class_id in enumerate(sorted(classes, key=int))}
    folders = {class_id: classes[class_id] for class_id in classes}
    return _read_birds(root, ids=ids, class_names=tuple(classes[c] for c in ids), folders=folders)


def read_nabirds(root: Path, num_classes: int) -> Listing:
    """Joined on the image id; the labels are sparse nodes of a tree of 1,011.

    Class id = numeric rank of the node among those in use: an order that does not depend on the
    iteration of a set, as in some public loaders.
    """
    classes = read_table(root / "classes.txt")
    path = root / "image_class_labels.txt"
    used = sorted({integer(n, path, what="class id") for n in read_table(path).values()})
    unnamed = [node for node in used if str(node) not in classes]
    if unnamed:
        raise DataError(
            f"{root / 'classes.txt'}: expected a name for class {unnamed[0]}, found none."
        )
    return _read_birds(
        root,
        ids={str(node): i for i, node in enumerate(used)},
        class_names=tuple(classes[str(node)] for node in used),
        folders={str(node): f"{node:04d}" for node in used},
    )


def _read_birds(
    root: Path, *, ids: Mapping[str, int], class_names: tuple[str, ...], folders: Mapping[str, str]
) -> Listing:
    images = read_table(root / "images.txt")
    labels = read_table(root / "image_class_labels.txt")
    flags = read_table(root / "train_test_split.txt")
    for file, table in (("image_class_labels.txt", labels), ("train_test_split.txt", flags)):
        if table.keys() != images.keys():
            odd = sorted(table.keys() ^ images.keys())
            raise DataError(
                f"{root / file}: expected the {len(images):,} image ids of images.txt, found "
                f"{len(table):,} ids; {len(odd):,} are in one file only, e.g. {odd[0]}."
            )
    names: dict[str, list[str]] = {"1": [], "0": []}
    targets: dict[str, list[int]] = {"1": [], "0": []}
    for image, name in images.items():
        label, flag = labels[image], flags[image]
        # The folder repeats the class, so a shifted label list cannot go unnoticed.
        if label not in ids or name.partition("/")[0] != folders[label]:
            raise DataError(
                f"{root}: image {image} is {name} in images.txt but of class {label} "
                f"({folders.get(label, 'unknown')}) in image_class_labels.txt."
            )
        if flag not in names:
            raise DataError(f"{root / 'train_test_split.txt'}: expected 0 or 1, found '{flag}'.")
        names[flag].append(f"images/{name}")
        targets[flag].append(ids[label])
    train, test = (SplitListing(names[f], np.array(targets[f], np.int64)) for f in ("1", "0"))
    return Listing(class_names, train, test)


def read_aircraft(root: Path, num_classes: int) -> Listing:
    """`images_variant_*.txt`: image id, then the variant, which may hold spaces and slashes."""
    variants = read_lines(root / "variants.txt")
    train = _read_variants(root, "trainval", variants)
    rows = {name: i for i, name in enumerate(train.names)}
    val = _read_variants(root, "val", variants).names
    strangers = [name for name in val if name not in rows]
    if strangers:
        raise DataError(
            f"{root / 'images_variant_val.txt'}: expected images of images_variant_trainval.txt, "
            f"found {len(strangers):,} others, e.g. {strangers[0]}."
        )
    train = SplitListing(
        train.names,
        train.targets,
        predefined_val=np.array(sorted(rows[name] for name in val), np.int64),
    )
    return Listing(tuple(variants), train, _read_variants(root, "test", variants))


def _read_variants(root: Path, split: str, variants: Sequence[str]) -> SplitListing:
    path = root / f"images_variant_{split}.txt"
    ids = {variant: i for i, variant in enumerate(variants)}
    names, targets = [], []
    for image, variant in read_table(path).items():
        if variant not in ids:
            raise DataError(f"{path}: '{variant}' (image {image}) is none of variants.txt.")
        names.append(f"images/{image}.jpg")
        targets.append(ids[variant])
    return SplitListing(names, np.array(targets, np.int64))
