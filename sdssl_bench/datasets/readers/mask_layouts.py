"""Which images and masks the layouts of PASCAL VOC and ADE20K name, and what the ids in the masks are."""

from dataclasses import dataclass
from pathlib import Path

from sdssl_bench.errors import DataError

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""In the order of their ids; PASCAL VOC 2012 development kit."""


@dataclass(frozen=True)
class Pairs:
    """What a layout names: paths of images and of their masks below the root, one split.

    Attributes:
        images: [N] of images.
        masks: [N] of their masks.
        unpaired: what has no partner.
    """

    images: tuple[str, ...]
    masks: tuple[str, ...]
    unpaired: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """A set as its reader found it.

    Attributes:
        class_names: [C]; empty where only the masks tell.
        void_is_zero: whether 0 is void and the classes begin at 1.
        train: what probes learn from.
        test: what is scored.
    """

    class_names: tuple[str, ...]
    void_is_zero: bool
    train: Pairs
    test: Pairs


def read_voc(root: Path) -> Layout:
    """VOC's lists name the images; a mask has the name of its image.

    Raises:
        DataError: if a list is missing or empty.
    """
    splits = []
    for split in ("train", "val"):
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        try:
            names = path.read_text("utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: expected a list of names, a line each: {error}") from error
        if not names:
            raise DataError(f"{path}: expected names, a line each, found an empty file.")
        images = tuple(f"JPEGImages/{name}.jpg" for name in names)
        splits.append(Pairs(images, tuple(f"SegmentationClass/{name}.png" for name in names)))
    return Layout(VOC_CLASSES, False, *splits)


def read_ade(root: Path) -> Layout:
    """The files that are there; a mask has the name of its image."""
    splits = []
    for split in ("training", "validation"):
        images = {path.stem for path in (root / "images" / split).glob("[!.]*.jpg")}
        masks = {path.stem for path in (root / "annotations" / split).glob("[!.]*.png")}
        both = sorted(images & masks)
        splits.append(
            Pairs(
                tuple(f"images/{split}/{name}.jpg" for name in both),
                tuple(f"annotations/{split}/{name}.png" for name in both),
                tuple(f"{split}/{name}" for name in sorted(images ^ masks)),
            )
        )
    return Layout(tuple(str(number) for number in range(1, 151)), True, *splits)
