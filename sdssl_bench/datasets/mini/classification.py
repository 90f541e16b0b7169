"""Miniatures of the classification sets in their official layouts.

The quirks of the originals that readers must survive are there: labels from 1, sparse ids, names
with spaces and slashes, a GIF and a PNG called .jpg, grey images, a list without labels.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.mini.studio import (
    Studio,
    cells,
    save_jpeg,
    structs,
    write_lines,
    write_mat,
    write_pickle,
)


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


def write_flowers(root: Path, studio: Studio) -> None:
    """Image ids shuffled over the splits, as in the original; half of train is officially val."""
    folder = root / "flowers-102"
    shots = [(s, c) for s in ("train", "test") for c, _ in studio.shots(s)]
    order = studio.rng.permutation(len(shots))
    labels = np.zeros(len(shots), np.uint8)
    ids: dict[str, list[int]] = {"train": [], "test": []}
    for image_id, k in enumerate(order, 1):
        split, class_id = shots[k]
        save_jpeg(studio.image(class_id, split), folder / f"jpg/image_{image_id:05d}.jpg")
        labels[image_id - 1] = class_id + 1
        ids[split].append(image_id)
    # By class within the split, as in the original: every second image of a class is validation.
    train = sorted(ids["train"], key=lambda i: (labels[i - 1], i))
    test = sorted(ids["test"], key=lambda i: (labels[i - 1], i))
    lists = {"trnid": train[::2], "valid": train[1::2], "tstid": test}
    write_mat(folder / "imagelabels.mat", {"labels": labels[None]})
    write_mat(folder / "setid.mat", {k: np.array([v], np.uint16) for k, v in lists.items()})


def write_pets(root: Path, studio: Studio) -> None:
    """Names of cats start with a capital; one file is a GIF and one a PNG, both called .jpg."""
    folder = root / "oxford-iiit-pet"
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for split, file in (("train", "trainval"), ("test", "test")):
        for class_id, number in studio.shots(split):
            name = studio.name(class_id)
            name = name.capitalize() if class_id % 3 == 0 else name
            number += 0 if split == "train" else 200
            image, path = studio.image(class_id, split), folder / f"images/{name}_{number}.jpg"
            save_jpeg(image, path)
            if (class_id, number) == (0, 3):
                image.quantize(128).save(path, "GIF")
            if (class_id, number) == (1, 201):
                image.save(path, "PNG")
            species = 1 if class_id % 3 == 0 else 2
            lists[file].append(f"{name}_{number} {class_id + 1} {species} {class_id // 3 + 1}")
    for file, lines in lists.items():
        write_lines(folder / f"annotations/{file}.txt", sorted(lines, key=_class_column))
    header = ["#Image CLASS-ID SPECIES BREED ID", "#ID: class ids from 1"]
    everything = sorted(lists["trainval"] + lists["test"], key=_class_column)
    write_lines(folder / "annotations/list.txt", header + everything)


def _class_column(line: str) -> int:
    return int(line.split()[1])


def write_cub(root: Path, studio: Studio) -> None:
    """Image ids count through the class folders; the split flag is 1 for train."""
    folder = root / "CUB_200_2011"
    names = [f"{c + 1:03d}.{studio.name(c).title()}" for c in range(len(studio.regions))]
    rows = sorted((c, s == "test", n) for s in ("train", "test") for c, n in studio.shots(s))
    lists: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": []}
    # The original mixes train and test within a class.
    mixed = sorted(rows, key=lambda row: (row[0], row[2], row[1]))
    for image_id, (class_id, is_test, number) in enumerate(mixed, 1):
        file = f"{names[class_id]}/{names[class_id][4:]}_{number:04d}_{image_id}.jpg"
        save_jpeg(studio.image(class_id, "test" if is_test else "train"), folder / "images" / file)
        lists["images"].append(f"{image_id} {file}")
        lists["image_class_labels"].append(f"{image_id} {class_id + 1}")
        lists["train_test_split"].append(f"{image_id} {0 if is_test else 1}")
    for file, lines in lists.items():
        write_lines(folder / f"{file}.txt", lines)
    write_lines(folder / "classes.txt", [f"{i} {name}" for i, name in enumerate(names, 1)])


def write_nabirds(root: Path, studio: Studio) -> None:
    """Labels are sparse nodes of a tree; their order as text differs; two classes share a name."""
    folder = root / "nabirds"
    nodes = [
        int(n) for n in np.sort(studio.rng.choice(np.arange(23, 1011), len(studio.regions), False))
    ]
    nodes[0], nodes[-1] = 9, 1007
    names = [f"{studio.name(c, joint=' ').title()} (Adult)" for c in range(len(nodes))]
    names[1] = names[0]
    lists: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": []}
    rows = [(split, c) for split in ("train", "test") for c, _ in studio.shots(split)]
    for k in studio.rng.permutation(len(rows)):
        split, class_id = rows[k]
        digits = studio.rng.bytes(16).hex()
        image = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        file = f"{nodes[class_id]:04d}/{digits}.jpg"
        save_jpeg(studio.image(class_id, split), folder / "images" / file)
        lists["images"].append(f"{image} {file}")
        lists["image_class_labels"].append(f"{image} {nodes[class_id]}")
        lists["train_test_split"].append(f"{image} {1 if split == 'train' else 0}")
    for file_name, lines in lists.items():
        write_lines(folder / f"{file_name}.txt", lines)
    used = dict(zip(nodes, names, strict=True))
    tree = {node: used.get(node, f"Group {node}") for node in range(1011)} | {0: "Birds"}
    write_lines(folder / "classes.txt", [f"{node} {name}" for node, name in tree.items()])
    write_lines(folder / "hierarchy.txt", [f"{node} 0" for node in range(1, 1011)])


def write_aircraft(root: Path, studio: Studio) -> None:
    """Variants with spaces and slashes; trainval is the union of train and val, sorted."""
    folder = root / "fgvc-aircraft-2013b/data"
    variants = [f"{studio.name(c).capitalize()}-{200 + c}" for c in range(len(studio.regions))]
    variants[1], variants[2] = f"{variants[1]} ER", f"F/A-{variants[2]}"
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    rows = [(split, c, n) for split in ("train", "test") for c, n in studio.shots(split)]
    numbers = studio.rng.choice(9_999_999, len(rows), False)
    for image, (split, class_id, number) in zip(numbers, rows, strict=True):
        save_jpeg(studio.image(class_id, split), folder / f"images/{image:07d}.jpg")
        official = "val" if split == "train" and number % 2 == 0 else split
        lists[official].append(f"{image:07d} {variants[class_id]}")
    lists["trainval"] = lists["train"] + lists["val"]
    for file, lines in lists.items():
        write_lines(folder / f"images_variant_{file}.txt", sorted(lines))
    write_lines(folder / "variants.txt", variants)


def write_cars(root: Path, studio: Studio) -> None:
    """The devkit layout; one image is grey; the devkit's own test list has no labels."""
    folder = root / "stanford_cars"
    names = [
        f"{studio.name(c, joint=' ').title()} Sedan {2000 + c}" for c in range(len(studio.regions))
    ]
    for split, target in (("train", "cars_train"), ("test", "cars_test")):
        shots = list(studio.shots(split))
        studio.rng.shuffle(shots)
        files = [f"{i:05d}.jpg" for i in range(1, len(shots) + 1)]
        images = [studio.image(c, split) for c, _ in shots]
        images[4] = images[4].convert("L")
        for file, image in zip(files, images, strict=True):
            save_jpeg(image, folder / target / file)
        ones = [1] * len(files)
        fields: dict[str, list[Any]] = {"bbox_x1": [*ones], "bbox_y1": [*ones]}
        fields |= {"bbox_x2": [i.width for i in images], "bbox_y2": [i.height for i in images]}
        labels: dict[str, list[Any]] = {"class": [c + 1 for c, _ in shots], "fname": [*files]}
        labelled = (
            "devkit/cars_train_annos.mat" if split == "train" else "cars_test_annos_withlabels.mat"
        )
        write_mat(folder / labelled, {"annotations": structs(fields | labels)})
        if split == "test":
            bare = structs(fields | {"fname": [*files]})
            write_mat(folder / "devkit/cars_test_annos.mat", {"annotations": bare})
    write_mat(folder / "devkit/cars_meta.mat", {"class_names": cells(names)})


def write_dogs(root: Path, studio: Studio) -> None:
    """Cell columns of files below Images/, labels from 1."""
    folder = root / "stanford_dogs"
    breeds = [f"n92{c:06d}-{studio.name(c)}" for c in range(len(studio.regions))]
    every: list[tuple[str, int]] = []
    for split in ("train", "test"):
        rows = []
        for class_id, number in studio.shots(split):
            number += 0 if split == "train" else 5000
            file = f"{breeds[class_id]}/{breeds[class_id].partition('-')[0]}_{number}.jpg"
            save_jpeg(studio.image(class_id, split), folder / "Images" / file)
            rows.append((file, class_id + 1))
        every += rows
        _write_dog_list(folder / f"lists/{split}_list.mat", sorted(rows))
    _write_dog_list(folder / "lists/file_list.mat", sorted(every))


def _write_dog_list(path: Path, rows: list[tuple[str, int]]) -> None:
    write_mat(
        path,
        {
            "file_list": cells([file for file, _ in rows], column=True),
            "annotation_list": cells([file.removesuffix(".jpg") for file, _ in rows], column=True),
            "labels": np.array([[label] for _, label in rows], np.uint8),
        },
    )
