"""`data copydays`: a copy-detection set in Copydays' layout from any folder of photographs.

The archives of INRIA Copydays keep moving; this makes originals, JPEG copies, crops and strong
attacks of one's own pictures, the same files for the same pictures and seed. Scores on such a set
are labelled so and never stand beside Copydays'.

    sdssl-bench data copydays PHOTOGRAPHS OUT
"""

import hashlib
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sdssl_bench.datasets.base import ImageError, ImageSet
from sdssl_bench.datasets.mini.strong_attacks import ATTACKS
from sdssl_bench.datasets.readers.copydays import MANIFEST
from sdssl_bench.datasets.readers.images_on_disk import image_files, list_images, sample
from sdssl_bench.datasets.specs.retrieval_video import COPYDAYS, CROP_PERCENTS, JPEG_QUALITIES
from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.system import writing

NUM_ORIGINALS, NUM_STRONG = COPYDAYS.sizes["original"], COPYDAYS.sizes["strong"]
FORMAT = 1
"""Raised whenever the same pictures and seed would give other files."""
FIRST_NUMBER = 200_000
LONGEST = 1024
"""Originals are shrunk to this longest side in pixels."""
JPEG_LONGEST = 224
"""JPEG copies are scaled to 1/16 of the surface, as in Douze et al. 2009, but not below this side."""
QUALITY = 92
"""JPEG quality of everything but the JPEG attack."""


@dataclass(frozen=True)
class AttackSet:
    """What was written."""

    root: Path
    num_originals: int
    num_strong: int


def make_attacks(
    originals: Path,
    out: Path,
    *,
    seed: int = 0,
    num_originals: int = NUM_ORIGINALS,
    workers: int = 4,
) -> AttackSet:
    """Write the set to `out`, all or nothing.

    Args:
        originals: folder of photographs; a seeded sample if it has more than `num_originals`.
        out: must not exist, or be empty.
        seed: of the sample and of every attack.
        num_originals: originals at most; Copydays has 157.
        workers: threads.

    Raises:
        UsageError: if `out` holds anything, or for fewer than two originals.
        DataError: if a photograph cannot be read.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"Expected {out} to be empty or not to exist, found files in it.")
    if num_originals < 2:
        raise UsageError(f"A set needs at least 2 originals, asked for {num_originals}.")
    names = sorted(sample(list_images(originals), num_originals, seed=seed))
    if len(names) < 2:
        raise UsageError(f"A set needs at least 2 originals, {originals} has {len(names)} image.")
    images = image_files("originals", "original", root=originals, names=names)
    if len(images) < len(names):
        raise DataError(f"{originals}: {len(names) - len(images)} image files are empty.")
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    with (
        writing(out),
        tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch,
    ):
        fresh = Path(scratch) / "new"
        with ThreadPoolExecutor(workers) as pool:
            parts = list(
                pool.map(lambda i: _attack_one(images, i, fresh, seed=seed), range(len(images)))
            )
        files = {name: facts for part in parts for name, facts in part.items()}
        manifest = {
            "format": FORMAT,
            "what": "copies made by 'sdssl-bench data copydays'; not INRIA Copydays",
            "seed": seed,
            "originals_sha256": images.fingerprint,
            "num_originals": len(images),
            "attacks": sorted(ATTACKS),
            "files": dict(sorted(files.items())),
        }
        # Last: a folder with a list is a whole one.
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
        if out.exists():
            out.rmdir()
        fresh.rename(out)
    return AttackSet(out, len(images), sum(name.startswith("strong/") for name in files))


def _attack_one(images: ImageSet, index: int, out: Path, *, seed: int) -> dict[str, Any]:
    """All files of one original; relative path -> what was done."""
    try:
        image = images.load(index)
    except ImageError as error:
        raise DataError(f"An original cannot be read: {error}. Remove or replace it.") from error
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    number = FIRST_NUMBER + 100 * index
    files: dict[str, Any] = {}

    def save(name: str, copy: Image.Image, quality: int = QUALITY, **facts: Any) -> None:
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        copy.save(path, "JPEG", quality=quality)
        files[name] = facts

    source = images.names[index]
    digest = hashlib.sha256((images.root / source).read_bytes()).hexdigest()
    save(f"original/{number:06d}.jpg", image, attack="none", source=source, sha256=digest)
    small = image.copy()
    longest = max(round(max(image.size) / 4), min(JPEG_LONGEST, max(image.size)))
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    for quality in JPEG_QUALITIES:
        name = f"jpegqual/{quality}/{number:06d}.jpg"
        save(name, small, quality, attack="jpeg", jpeg_quality=quality, size=list(small.size))
    for percent in CROP_PERCENTS:
        cropped = image.crop(centre_box(image.size, removed=percent / 100))
        save(f"crops/{percent}/{number:06d}.jpg", cropped, attack="crop", removed_percent=percent)
    for copy in range(num_strong(index)):
        # The kinds take turns, so that a set of any size has about as many of each.
        kind = list(ATTACKS)[(index + copy * 3) % len(ATTACKS)]
        rng = np.random.default_rng([seed, index, copy])
        attacked, drawn = ATTACKS[kind](image, rng)
        save(f"strong/{number + 1 + copy:06d}.jpg", attacked, attack=kind, **drawn)
    return files


def num_strong(index: int) -> int:
    """Strong copies of the original `index`: 1 or 2, so that 157 originals have 229.

    >>> sum(map(num_strong, range(157)))
    229
    """
    total = (index + 1) * NUM_STRONG // NUM_ORIGINALS
    return total - index * NUM_STRONG // NUM_ORIGINALS


def centre_box(size: tuple[int, int], *, removed: float) -> tuple[int, int, int, int]:
    """The centred box of the same aspect that remains when a share of the surface is cut away.

    >>> centre_box((100, 200), removed=0.75)
    (25, 50, 75, 150)
    """
    side = (1 - removed) ** 0.5
    width, height = (max(1, round(s * side)) for s in size)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return left, top, left + width, top + height
