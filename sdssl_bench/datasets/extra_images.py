"""Distractors, and images to learn whitening from: a seeded sample of a folder, provably disjoint.

No official list of the images that DINO used exists, so a record holds the digest of the list that was
used, and rows of different lists never share a leaderboard column.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.datasets.images_on_disk import image_files, list_images, sample, shared_images
from sdssl_bench.errors import DataError


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
