"""Images without labels: a folder of photographs, or a list of files, as an ImageSet.

Serves retrieval and copy detection: databases, queries, distractors, and images to learn whitening from.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.datasets.folders import EXTENSIONS, images_below
from sdssl_bench.datasets.inspection import SplitFacts
from sdssl_bench.datasets.listing import SplitListing
from sdssl_bench.datasets.loading import image_set
from sdssl_bench.datasets.scan import file_facts
from sdssl_bench.errors import DataError


def image_files(dataset: str, split: str, *, root: Path, names: Sequence[str]) -> ImageSet:
    """The files `names` under `root` that are there and not empty, in the order given."""
    targets = np.zeros(len(names), np.int64)
    sizes, times = file_facts(root, names)
    facts = SplitFacts(SplitListing(names, targets), sizes > 0, sizes, times)
    return image_set(facts, dataset=dataset, split=split, root=root, class_names=("image",))


def list_images(folder: Path) -> list[str]:
    """Paths relative to `folder` of all images in and below it, sorted; hidden ones are ignored.

    Raises:
        DataError: if there is no such folder or no image in it.
    """
    if not folder.is_dir():
        raise DataError(f"Expected a folder of images at {folder}, found none.")
    names = sorted(images_below(folder))
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
