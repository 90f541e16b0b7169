"""Official layouts of the real, partial sets in ../shared/data, as trees of links in another folder.

For checks on real photographs: each function returns a data root (or a `folder:` name). Nothing of
the data is copied into the project; the lists written here are derived from the official ones.
"""

import csv
import tarfile
from pathlib import Path

import numpy as np
from scipy.io import loadmat, savemat

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def flowers(to: Path) -> Path:
    """16 of 102 classes under the official lists, complete ones: 320 + 192 images."""
    return _link(SHARED / "flowers102", to / "flowers-102").parent


def pets(to: Path) -> Path:
    """3 of 37 breeds, 90 + 60 images; the lists are the data folder's own split."""
    root = to / "oxford-iiit-pet"
    _link(SHARED / "oxford_pets3/images", root / "images")
    for split in ("trainval", "test"):
        _link(
            SHARED / f"oxford_pets3/annotations/{split}_subset.txt",
            root / f"annotations/{split}.txt",
        )
    return to


def cars(to: Path) -> Path:
    """20 of 196 classes; a part of cars_train, by the data folder's own split, plays cars_test."""
    source = SHARED / "stanford_cars20"
    root = to / "stanford_cars"
    with (source / "subset.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    test = [row for row in rows if row["our_split"] != "train"]
    away = {row["file"] for row in test}
    for path in sorted((source / "cars_train").iterdir()):
        _link(path, root / ("cars_test" if path.name in away else "cars_train") / path.name)
    for file in ("cars_meta.mat", "cars_test_annos.mat"):
        _link(source / "devkit" / file, root / "devkit" / file)
    official = loadmat(source / "devkit/cars_train_annos.mat")["annotations"]
    stays = [annotation["fname"].item() not in away for annotation in official[0]]
    savemat(root / "devkit/cars_train_annos.mat", {"annotations": official[:, stays]})
    fields = [("class", object), ("fname", object)]
    labelled = np.array([[(int(r["class_1based"]), r["file"]) for r in test]], fields)
    savemat(root / "cars_test_annos_withlabels.mat", {"annotations": labelled})
    return to


def imagenet(to: Path) -> Path:
    """Imagenette at 160 pixels: 10 of 1,000 classes, 1,500 + 400 images."""
    return _link(SHARED / "imagenette160", to / "imagenet").parent


def tiny_imagenet(to: Path) -> str:
    """100 classes of 64-pixel images, 4,000 + 1,000, as `folder:`."""
    return f"folder:{_unpack(to / 'tiny-imagenet', SHARED / 'tiny_imagenet_100x50')}"


def cifar10_jpeg(to: Path) -> str:
    """All of CIFAR-10 as JPEG copies, 50,000 + 10,000, as `folder:`."""
    return f"folder:{_unpack(to / 'cifar10-jpeg', SHARED / 'cifar10_jpeg')}"


def _link(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.symlink_to(source)
    return target


def _unpack(root: Path, source: Path) -> Path:
    """Unpack every archive of a folder once; returns the folder that holds train/."""
    done = root / ".unpacked"
    if not done.exists():
        root.mkdir(parents=True, exist_ok=True)
        for archive in sorted(source.glob("*.tar.gz")):
            with tarfile.open(archive) as tar:
                tar.extractall(root, filter="data")
        done.touch()
    return min(root.rglob("train"), key=lambda path: len(path.parts)).parent
