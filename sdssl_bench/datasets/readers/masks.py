"""Images with a mask of class ids: PASCAL VOC's layout, one's own folder in it, and ADE20K's.

Masks are 8-bit PNGs of ids. VOC: 0 is the background, a class like others, and 255 is void. ADE20K:
0 is void, and the classes are 1..150. Here classes are 0..C-1 and void is 255, whatever the set.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdssl_bench.datasets.base import ImageSet, in_threads
from sdssl_bench.datasets.catalogue import spec
from sdssl_bench.datasets.checking import CheckReport, outcome, unreadable
from sdssl_bench.datasets.files import file_facts
from sdssl_bench.datasets.readers.images_on_disk import image_files
from sdssl_bench.datasets.readers.mask_layouts import Layout, Pairs, read_voc
from sdssl_bench.datasets.readers.palette import VOID, read_mask
from sdssl_bench.datasets.specs.masks import VOC
from sdssl_bench.datasets.specs.specification import DatasetSpec
from sdssl_bench.errors import DataError
from sdssl_bench.records import digest

SHOWN_PROBLEMS = 5


@dataclass(frozen=True, eq=False)
class MaskedImages:
    """One split.

    Attributes:
        images: by index.
        masks: the files of their masks, by the same index.
        num_classes: C.
        void_is_zero: whether 0 is void in the files.
    """

    images: ImageSet
    masks: ImageSet
    num_classes: int
    void_is_zero: bool

    def __len__(self) -> int:
        return len(self.images)

    @property
    def freshness(self) -> str:
        """Of the masks; part of cache keys, never of results."""
        return digest([self.masks.freshness, self.num_classes, self.void_is_zero])

    def mask(self, index: int) -> NDArray[np.uint8]:
        """[H, W] classes 0..C-1 of an image, VOID where nobody said.

        Raises:
            DataError: naming the file, if it is damaged, has another size than its image, or an id
                that is no class.
        """
        path = self.masks.root / self.masks.names[index]
        ids = read_mask(path)
        image = self.images.root / self.images.names[index]
        try:
            with Image.open(image) as opened:
                width, height = opened.size
        except OSError as error:
            raise DataError(f"{image}: expected an image, found: {error}") from error
        if ids.shape != (height, width):
            raise DataError(
                f"{path}: expected a mask of {width} x {height} pixels, the size of its image, found "
                f"{ids.shape[1]} x {ids.shape[0]}"
            )
        if self.void_is_zero:
            ids = np.where(ids == 0, VOID, ids - np.uint8(1)).astype(np.uint8)
        wrong = ids[(ids >= self.num_classes) & (ids != VOID)]
        if len(wrong):
            raise DataError(
                f"{path}: expected ids of {self.num_classes} classes and void, found "
                f"{int(wrong[0]) + self.void_is_zero}"
            )
        return ids


@dataclass(frozen=True, eq=False)
class MaskData:
    """Both splits, verified.

    Attributes:
        name: "voc2012", "ade20k" or "folder:PATH".
        variant: "official", "mini", "partial" or "folder".
        class_names: [C].
        background: whether class 0 is the background.
        fingerprint: sha256 of images and masks of both splits.
        notes: facts to record with every number.
    """

    name: str
    variant: str
    root: Path
    class_names: tuple[str, ...]
    background: bool
    train: MaskedImages
    test: MaskedImages
    fingerprint: str
    notes: dict[str, Any] = field(default_factory=dict)


def load(name: str, *, data_root: Path | None, allow_partial: bool = False) -> MaskData:
    """A set of images with masks, verified.

    Args:
        name: of the set, or "folder:PATH" in VOC's layout.
        data_root: holds the set, or is it.
        allow_partial: leave out what is missing, and record that.

    Raises:
        UsageError: for an unknown name.
        DataError: if anything is missing, naming it.
    """
    entry = None if name.startswith("folder:") else spec(name, kind="masks")
    root = entry.find(data_root)[0] if entry else Path(name.removeprefix("folder:")).expanduser()
    words = (entry or VOC).layout
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder in the layout of VOC, found none.\n{words}")
    layout: Layout = resolve_name(entry.reader)(root) if entry else read_voc(root)
    both = sorted({*layout.train.images} & {*layout.test.images})
    if both:
        raise DataError(f"{root}: train and test share {len(both):,} images, first {both[0]}.")
    expected, whole = _expected(entry, root)
    problems: list[str] = []
    kept = {}
    for split, pairs in (("train", layout.train), ("test", layout.test)):
        kept[split], found = _present(root, pairs, split)
        problems += found
        if expected and len(pairs.images) != expected[split]:
            problems.append(
                f"{split}: expected {expected[split]:,} images with masks, found {len(pairs.images):,}"
            )
        if not kept[split].images:
            raise DataError(f"{root}: there is no {split} image with its mask.\n{words}")
    if problems and not (allow_partial and entry):
        shown = "\n".join(f"  {problem}" for problem in problems[:SHOWN_PROBLEMS])
        hint = " Or pass --allow-partial: it scores what is there and says so." if entry else ""
        raise DataError(
            f"{root} is not what it should be:\n{shown}\nExtract it again.{hint}\n{words}"
        )
    names = layout.class_names if entry else _classes(root, kept["train"], kept["test"])
    train, test = (
        MaskedImages(
            image_files(name, split, root=root, names=pairs.images),
            image_files(name, f"{split} masks", root=root, names=pairs.masks),
            len(names),
            layout.void_is_zero,
        )
        for split, pairs in kept.items()
    )
    prints = [one.fingerprint for s in (train, test) for one in (s.images, s.masks)]
    return MaskData(
        name=name,
        variant="partial" if problems else whole,
        root=root,
        class_names=names,
        background=not layout.void_is_zero,
        train=train,
        test=test,
        fingerprint=hashlib.sha256("\n".join(prints).encode()).hexdigest(),
        notes={"left_out": problems} if problems else {},
    )


def check(
    name: str, *, data_root: Path | None, decode: bool = False, num_workers: int | None = None
) -> CheckReport:
    """Images, masks, sizes and ids; see `check.check`.

    Raises:
        DataError: if there is no copy, or nothing of it can be read.
    """
    data = load(name, data_root=data_root, allow_partial=True)
    splits = (data.train, data.test)
    reads = [
        partial(read, i) for s in splits for i in range(len(s)) for read in (s.images.load, s.mask)
    ]
    bad = unreadable(reads, num_workers) if decode else None
    kind = {"official": ", the official numbers", "mini": ", the numbers of this miniature"}
    return outcome(
        name,
        variant=data.variant,
        root=data.root,
        verified=(
            f"{len(data.train):,} train, {len(data.test):,} test images, {len(data.class_names)} classes"
            + kind.get(data.variant, ""),
            "every image has its mask; train and test share no name",
            *(
                ["every image and mask decodes, of one size, with ids that are classes"]
                * (bad == ())
            ),
        ),
        problems=data.notes.get("left_out", ()),
        unreadable=bad,
    )


def _expected(entry: DatasetSpec | None, root: Path) -> tuple[dict[str, int], str]:
    """Images by split and the variant of a complete copy."""
    if entry is None:
        return {}, "folder"
    if mini := entry.miniature_at(root):
        return mini[1], "mini"
    return dict(entry.sizes), "official"


def _present(root: Path, pairs: Pairs, split: str) -> tuple[Pairs, list[str]]:
    """The pairs both of whose files are there, and what is missing."""
    there = np.ones(len(pairs.images), bool)
    problems = []
    for what, names in (("image", pairs.images), ("mask", pairs.masks)):
        found = file_facts(root, names)[0] > 0
        if not found.all():
            first = names[int(np.flatnonzero(~found)[0])]
            missing = int((~found).sum())
            problems.append(
                f"{split}: {missing:,} {what} files are missing or empty, first {first}"
            )
        there &= found
    if pairs.unpaired:
        problems.append(
            f"{split}: {len(pairs.unpaired):,} files are an image without mask or a mask without "
            f"image, first {pairs.unpaired[0]}"
        )
    rows = np.flatnonzero(there).tolist()
    kept = Pairs(tuple(pairs.images[i] for i in rows), tuple(pairs.masks[i] for i in rows))
    return kept, problems


def _classes(root: Path, *splits: Pairs) -> tuple[str, ...]:
    """0 to the largest id in the masks of a folder of one's own."""

    def largest(name: str) -> int:
        ids = read_mask(root / name)
        return int(ids[ids != VOID].max(initial=0))

    names: Sequence[str] = [name for pairs in splits for name in pairs.masks]
    most = max(in_threads(largest, names, None))
    if most < 1:
        raise DataError(f"{root}: expected masks of two classes or more, found ids up to {most}.")
    return tuple(str(number) for number in range(most + 1))
