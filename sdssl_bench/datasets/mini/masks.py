"""Miniatures of VOC 2012 and ADE20K: shapes cut from one photograph on another, and exact masks.

Each image shows one class in front of a backdrop. In VOC's the backdrop is the background and an outline
is void, as annotators leave it; in ADE20K's the backdrop is a class too, and a corner is nobody's.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdssl_bench.datasets.mini import photographs
from sdssl_bench.datasets.mini.studio import Studio, save_jpeg, write_lines
from sdssl_bench.datasets.readers.palette import VOID, write_mask


def write_voc(root: Path, studio: Studio) -> None:
    """Write root/VOCdevkit/VOC2012: ImageSets, JPEGImages and SegmentationClass."""
    folder = root / "VOCdevkit" / "VOC2012"
    masks = folder / "SegmentationClass"
    masks.mkdir(parents=True)
    for split, listed in (("train", "train"), ("test", "val")):
        names: list[str] = []
        for class_id, _ in studio.shots(split):
            name = f"{'2007' if split == 'train' else '2008'}_{len(names):06d}"
            names.append(name)
            pixels, inside, outline = _scene(studio, class_id, split)
            ids = np.where(outline, VOID, inside * (class_id + 1)).astype(np.uint8)
            save_jpeg(pixels, folder / "JPEGImages" / f"{name}.jpg")
            write_mask(masks / f"{name}.png", ids)
        write_lines(folder / "ImageSets" / "Segmentation" / f"{listed}.txt", names)


def write_ade(root: Path, studio: Studio) -> None:
    """Write root/ADEChallengeData2016: images and annotations."""
    folder = root / "ADEChallengeData2016"
    for split, official, short in (("train", "training", "train"), ("test", "validation", "val")):
        masks = folder / "annotations" / official
        masks.mkdir(parents=True)
        for place, (class_id, _) in enumerate(studio.shots(split), 1):
            pixels, inside, _ = _scene(studio, class_id, split)
            ids = np.where(inside, class_id + 1, len(studio.regions) + 1).astype(np.uint8)
            ids[:8, :8] = 0
            save_jpeg(pixels, folder / "images" / official / f"ADE_{short}_{place:08d}.jpg")
            Image.fromarray(ids).save(masks / f"ADE_{short}_{place:08d}.png")


def _scene(
    studio: Studio, class_id: int, split: str
) -> tuple[Image.Image, NDArray[np.bool_], NDArray[np.bool_]]:
    """An image of about 100 pixels, where its class is, and the outline of that."""
    rng = studio.rng
    width, height = (int(side) for side in rng.integers(88, 132, 2))
    # No class has the photograph that lies behind all of them.
    behind = photographs.REGIONS[
        (photographs.REGIONS.index(studio.regions[-1]) + 1) % len(photographs.REGIONS)
    ]
    image = photographs.crop(behind, split, size=(width, height), rng=rng)
    front = studio.image(class_id, split, size=(width, height))
    y, x = np.mgrid[:height, :width]
    centre = rng.uniform(0.35, 0.65, 2) * (height, width)
    reach = rng.uniform(0.25, 0.4, 2) * (height, width)
    distance = np.hypot((y - centre[0]) / reach[0], (x - centre[1]) / reach[1])
    inside = distance < 1
    mask = Image.fromarray(inside.astype(np.uint8) * 255)
    image.paste(front, (0, 0), mask)
    return image, inside, np.abs(distance - 1) < 2 / reach.min()
