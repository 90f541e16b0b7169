"""Images without labels: a folder of photographs, or a list of files, as an ImageSet.

Serves retrieval and copy detection: databases, queries, and the further images that a user gives:
distractors, and images to learn whitening from. No official list of those that DINO used exists, so a
record holds the digest of the list that was used, and rows of different lists never share a column.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.datasets.files import file_facts
from sdssl_bench.datasets.listing import SplitListing, image_set, split_facts
from sdssl_bench.datasets.trees import EXTENSIONS, images_below
from sdssl_bench.errors import DataError


def image_files(dataset: str, split: str, *, root: Path, names: Sequence[str]) -> ImageSet:
    """The files `names` under `root` that are there and not empty, in the order given."""
    facts = split_facts(root, SplitListing(names, np.zeros(len(names), np.int64)))
    return image_set(facts, dataset=dataset, split=split, root=root, class_names=("image",))


def list_images(folder: Path) -> list[str]:
    """Paths relative to `folder` of all images in and below it, sorted; hidden ones are ignored.

    Raises:
        DataError: if there is no such folder or no image in it.
    """
    if not folder.is_dir():
        raise DataError(f"Expected a folder of images at {folder}, found none.")
    names = images_below(folder)
    if not names:
        raise DataError(
            f"Expected images in or below {folder}, found none with the endings "
            f"{', '.join(sorted(e[1:] for e in EXTENSIONS))}."
        )
    return names


def subset(images: ImageSet, indices: NDArray[np.int64]) -> ImageSet:
    """The items `indices` of a set of files, in that order."""
    names = [images.names[i] for i in indices]
    return image_files(images.dataset, images.split, root=images.root, names=names)


def sample(names: Sequence[str], count: int | None, *, seed: int) -> list[str]:
    """`count` of the names (all if fewer) in an order drawn with `seed`.

    The first n of a longer sample are the sample of n: a curve over their number needs one draw.
    """
    order = np.random.default_rng(seed).permutation(len(names))
    return [names[i] for i in order[:count]]


def shared_images(first: ImageSet, second: ImageSet) -> list[tuple[str, str]]:
    """Pairs of files with equal bytes, as (path in first, path in second).

    Only files of equal size are read.
    """
    sizes = [file_facts(images.root, images.names)[0] for images in (first, second)]
    rows: dict[int, list[int]] = defaultdict(list)
    for row, size in enumerate(sizes[0].tolist()):
        rows[size].append(row)
    digests: dict[Path, str] = {}
    pairs = []
    for row, size in enumerate(sizes[1].tolist()):
        path = second.root / second.names[row]
        for other in rows.get(size, []):
            candidate = first.root / first.names[other]
            if _digest(candidate, digests) == _digest(path, digests):
                pairs.append((str(candidate), str(path)))
    return pairs


def _digest(path: Path, known: dict[Path, str]) -> str:
    if path not in known:
        with path.open("rb") as file:
            known[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return known[path]


def load_extra(
    kind: str, folder: Path, count: int, *, seed: int, apart_from: Sequence[ImageSet]
) -> ImageSet:
    """Up to `count` images of a folder, none of which is in another set.

    Args:
        kind: "distractors" or "whitening".
        folder: images in it and below it.
        count: images at most.
        seed: of the sample.
        apart_from: sets it must not share a file or a picture with. Files that one of them took
            from the same folder are left out before the sample is drawn.

    Raises:
        DataError: if nothing is left, a file is empty, or the same picture is in both sets.
    """
    folder = Path(folder).expanduser()
    taken = {
        (images.root / name).resolve()
        for images in apart_from
        if _overlap(images.root, folder)
        for name in images.names
    }
    names = list_images(folder)
    free = [name for name in names if (folder / name).resolve() not in taken] if taken else names
    if not free:
        raise DataError(
            f"--{kind} {folder}: all {len(names):,} images are in use already "
            f"({' and '.join(images.split for images in apart_from)}). Give another folder, or take "
            "fewer distractors with --set num_distractors=N."
        )
    chosen = sample(free, count, seed=seed)
    images = image_files(f"{kind}:{folder.name}", kind, root=folder, names=chosen)
    if len(images) < len(chosen):
        raise DataError(
            f"--{kind} {folder}: {len(chosen) - len(images):,} image files are empty. Remove them."
        )
    for other in apart_from:
        pairs = shared_images(other, images)
        if pairs:
            raise DataError(
                f"--{kind} {folder} must be disjoint from {other.dataset} {other.split}, found "
                f"{len(pairs):,} files that are equal, first {pairs[0][1]} = {pairs[0][0]}. Remove "
                "them from the folder."
            )
    return images


def describe_extra(images: ImageSet, asked: int) -> dict[str, Any]:
    """For the record: how many, and the digest of the list."""
    return {"images": len(images), "asked": asked, "list_sha256": images.fingerprint}


def _overlap(first: Path, second: Path) -> bool:
    a, b = first.resolve(), second.resolve()
    return a.is_relative_to(b) or b.is_relative_to(a)
