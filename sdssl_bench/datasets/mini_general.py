"""Miniatures of CIFAR-10, CIFAR-100 and ImageNet in their official layouts."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.studio import Studio, save_jpeg, write_pickle


def _cifar_batch(
    studio: Studio, split: str, shots: list[tuple[int, int]]
) -> tuple[NDArray[np.uint8], list[int], list[bytes]]:
    images = [np.asarray(studio.image(c, split, size=(32, 32))) for c, _ in shots]
    data = np.stack(images).transpose(0, 3, 1, 2).reshape(len(images), 3072)
    files = [f"{studio.name(c)}_s_{n:06d}.png".encode() for c, n in shots]
    return data, [c for c, _ in shots], files


def write_cifar10(root: Path, studio: Studio) -> None:
    """Five train batches and one test batch."""
    folder = root / "cifar-10-batches-py"
    train = list(studio.shots("train"))
    per_batch = len(train) // 5
    parts = [
        (f"data_batch_{b + 1}", f"training batch {b + 1} of 5", "train", train[b::5])
        for b in range(5)
    ]
    parts.append(("test_batch", "testing batch 1 of 1", "test", list(studio.shots("test"))))
    for file, label, split, shots in parts:
        data, labels, files = _cifar_batch(studio, split, shots)
        content: dict[bytes, Any] = {b"batch_label": label.encode(), b"labels": labels}
        write_pickle(folder / file, content | {b"data": data, b"filenames": files})
    names = [studio.name(c).encode() for c in range(len(studio.regions))]
    write_pickle(
        folder / "batches.meta",
        {b"num_cases_per_batch": per_batch, b"label_names": names, b"num_vis": 3072},
    )


def write_cifar100(root: Path, studio: Studio) -> None:
    """Fine classes, four to a coarse one."""
    folder = root / "cifar-100-python"
    for split, label in (("train", b"training batch 1 of 1"), ("test", b"testing batch 1 of 1")):
        data, labels, files = _cifar_batch(studio, split, list(studio.shots(split)))
        content: dict[bytes, Any] = {b"filenames": files, b"batch_label": label, b"data": data}
        content |= {b"fine_labels": labels, b"coarse_labels": [c // 4 for c in labels]}
        write_pickle(folder / split, content)
    count = len(studio.regions)
    fine = [studio.name(c).encode() for c in range(count)]
    coarse = [f"group_{c}".encode() for c in range((count + 3) // 4)]
    write_pickle(folder / "meta", {b"fine_label_names": fine, b"coarse_label_names": coarse})


def write_imagenet(root: Path, studio: Studio) -> None:
    """Folders of synthetic wnids; one train image is grey."""
    wnids = [f"n9{c * 37:07d}" for c in range(len(studio.regions))]
    for class_id, number in studio.shots("train"):
        image = studio.image(class_id, "train")
        file = f"{wnids[class_id]}/{wnids[class_id]}_{number}.JPEG"
        save_jpeg(
            image.convert("L") if (class_id, number) == (2, 1) else image,
            root / "imagenet/train" / file,
        )
    for count, (class_id, _) in enumerate(studio.shots("test"), 1):
        file = f"{wnids[class_id]}/ILSVRC2012_val_{count:08d}.JPEG"
        save_jpeg(studio.image(class_id, "test"), root / "imagenet/val" / file)
