"""The layout of the SDSSL paper's tables, and which stored number belongs in which cell.

Table 1: ImageNet k-NN and linear by architecture. 2: retrieval. 3: copy detection and video, best layer.
4: ten datasets by k-NN, linear probe, fine-tuning. Cells take complete official datasets, this suite's
default settings (the encoder's own norm, float32, seed 0) and the protocols that the paper cites, never a
swept probe, which lands far higher than the paper's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sdssl_bench import datasets
from sdssl_bench.errors import UsageError
from sdssl_bench.records import Record, Stored, best_layer
from sdssl_bench.statistics import Interval, known_interval

FRAMEWORKS = {"SimCLR": "simclr", "BYOL": "byol", "MoCo v3": "mocov3"}
"""The paper's names -> the names of presets of pretraining."""
ARCHITECTURES = {"ViT-S/32": "vit_s32", "ViT-S/16": "vit_s16", "ViT-B/16": "vit_b16",
                 "ResNet-50": "r50"}  # fmt: skip
PROTOCOLS = {
    "knn": ("knn/dino", "knn/paper"),
    "linear": ("linear/mocov3", "linear/code"),
    "finetune": ("finetune/paper", "finetune/code", "finetune/mocov3"),
    "retrieval": ("retrieval/dino",),
    "copydays": ("copydays/dino", "copydays/sdssl-code"),
    "davis": ("davis/dino",),
}
"""Protocols that may fill a cell, the first that was run does."""
OWN_PROTOCOLS = {("finetune", "imagenet"): ("finetune/imagenet",)}
"""The same for single datasets: on ImageNet the recipe for transfer is not MoCo v3's."""
METRICS = {
    "knn": ("k20/top1",),
    "linear": ("top1",),
    "finetune": ("best_epoch_on_test/top1", "top1"),
}
"""The paper's "accuracy" is plain top-1 in its code."""
HELD = {"J-Mean": "J&F-Mean", "F-Mean": "J&F-Mean"}
"""Shown at the best layer of another metric, not chosen or tested by themselves."""
DATASETS = (
    *("cifar10", "cifar100", "flowers", "pets", "cub", "aircraft", "cars", "dogs", "nabirds"),
    "imagenet",
)
"""Columns of Table 4; a set that the paper does not have is in none of its tables."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        group: heading above several columns.
        head: its own heading.
        task: name of a task.
        dataset: name of a dataset; Copydays' names go on with its distractors.
        reported: metric in reference/paper.csv.
        metrics: metrics in records, the first that is there.
        layer: "last" or "best".
        arch: architecture in the paper's words; "" is the one of the table.
    """

    group: str
    head: str
    task: str
    dataset: str
    reported: str
    metrics: tuple[str, ...]
    layer: str = "last"
    arch: str = ""


@dataclass(frozen=True)
class Layout:
    """One table: blocks of equal columns, one below the other.

    Attributes:
        number: as in the paper.
        title: what it shows.
        blocks: heading of a block -> its columns.
        arch: the architecture of columns that do not name one.
    """

    number: int
    title: str
    blocks: dict[str, tuple[Column, ...]]
    arch: str = "ViT-S/16"


def _heading(dataset: str) -> str:
    spec = datasets.spec(dataset)
    return spec.heading or spec.title


def _table1() -> Layout:
    columns = tuple(
        Column(arch, head, task, "imagenet", "top1", METRICS[task], arch=arch)
        for arch in ("ViT-S/32", "ViT-S/16", "ViT-B/16")
        for head, task in (("k-NN", "knn"), ("Linear", "linear"))
    )
    return Layout(1, "ImageNet: k-NN and linear evaluation, last layer", {"": columns}, arch="")


def _table2() -> Layout:
    columns = tuple(
        Column(_heading(dataset), head, "retrieval", dataset, f"{head}/mAP", (f"{head}/mAP",))
        for dataset in ("roxford5k", "rparis6k")
        for head in ("M", "H")
    )
    return Layout(2, "Image retrieval, mAP, last layer", {"": columns})


def _table3() -> Layout:
    copies = Column(
        *(_heading("copydays"), "mAP", "copydays", "copydays"),
        *("strong/mAP@20", ("strong/mAP@20",), "best"),
    )
    video = tuple(
        Column(_heading("davis"), name, "davis", "davis", name, (name,), "best")
        for name in ("J&F-Mean", "J-Mean", "F-Mean")
    )
    title = "Copy detection and video segmentation, best layer, selected on test"
    return Layout(3, title, {"": (copies, *video)})


def _table4() -> Layout:
    blocks = {
        title: tuple(
            Column("", _heading(dataset), task, dataset, "accuracy", METRICS[task])
            for dataset in DATASETS
        )
        for title, task in (("k-NN", "knn"), ("Linear", "linear"), ("Fine-tuning", "finetune"))
    }
    return Layout(4, "Transfer, top-1, last layer", blocks)


LAYOUTS = {layout.number: layout for layout in (_table1(), _table2(), _table3(), _table4())}


def paper_arch(arch: str) -> str:
    """The paper's name of an architecture of this suite, or the name itself.

    >>> paper_arch("vit_small_patch16_heads12"), paper_arch("vit_base_p16"), paper_arch("resnet50")
    ('ViT-S/16', 'ViT-B/16', 'ResNet-50')
    """
    if arch == "resnet50":
        return "ResNet-50"
    found = re.match(r"vit_(tiny|small|base|large)_p(?:atch)?(\d+)(?!\d)(?!_32$)", arch)
    return f"ViT-{found[1][0].upper()}/{found[2]}" if found else arch


def candidates(
    records: Sequence[Stored],
    column: Column,
    model: str,
    arch: str,
    *,
    cited: Sequence[str] = (),
) -> list[Stored]:
    """Records of a model that fit a column, of the first protocol that has any.

    Args:
        records: of all models.
        column: which cell.
        model: name of the model.
        arch: the architecture a column without its own asks for; "" takes any.
        cited: protocols that may fill it, the first that was run does; none = those of the paper.
    """
    wanted = column.arch or arch
    fitting = [one for one in records if _fits(one[1], column, model, wanted)]
    papers = OWN_PROTOCOLS.get((column.task, column.dataset), PROTOCOLS[column.task])
    for protocol in cited or papers:
        found = [one for one in fitting if one[1]["protocol"]["id"] == protocol]
        if found:
            return found
    return []


def _fits(record: Record, column: Column, model: str, arch: str) -> bool:
    data, settings = record["dataset"], record["settings"]
    name = data["name"].split(" ")[0] if column.task == "copydays" else data["name"]
    return (
        record["task"] == column.task
        and name == column.dataset
        and data["variant"] == "official"
        and record["limited"] is None
        and record["model"]["name"] == model
        and (not arch or paper_arch(record["model"]["arch"]) == arch)
        and record["model"]["norm"] in ("shared", "per-layer")
        and "point" not in record["model"]
        and (settings["dtype"], settings["seed"]) == ("float32", 0)
    )


def cell_record(
    records: Sequence[Stored],
    column: Column,
    model: str,
    arch: str,
    *,
    cited: Sequence[str] = (),
) -> tuple[Path, Record, str] | None:
    """The record of a cell and the name of its metric; None where there is none.

    Of several Copydays records the one with most distractors counts. The arguments are those of `candidates`.

    Raises:
        UsageError: if several records fit.
    """
    found = candidates(records, column, model, arch, cited=cited)
    if column.task == "copydays" and found:
        most = max(_distractors(record) for _, record in found)
        found = [one for one in found if _distractors(one[1]) == most]
    if len(found) > 1:
        raise UsageError(
            f"Several results of {model} fit the cell {column.group} {column.head} ({column.dataset}): "
            f"{', '.join(str(path) for path, _ in found)}. Move all but one out of the results folder."
        )
    for path, record in found:
        stored = {name for entry in record["layers"].values() for name in entry["metrics"]}
        for metric in column.metrics:
            if metric in stored:
                return path, record, metric
    return None


@dataclass(frozen=True)
class Number:
    """What a record holds for a cell.

    Attributes:
        value: a fraction.
        interval: its 95 % interval over test items; None where it has none.
        layer: where it was found.
    """

    value: float
    interval: Interval | None
    layer: int


def number_at(path: Path, record: Record, metric: str, layer: str) -> Number | None:
    """The number of a cell; None if its layer was not scored.

    Args:
        path: of the record.
        record: from `cell_record`, as is `metric`.
        metric: name of the metric.
        layer: "last", "best" (chosen by the metric that `HELD` names, if any) or a number.

    Raises:
        DataError: if per-item scores are missing or do not give the stored number.
    """
    if layer == "best":
        number = best_layer(record, HELD.get(metric, metric))
    else:
        number = record["model"]["depth"] if layer == "last" else int(layer)
    if number is None or str(number) not in record["layers"]:
        return None
    value = record["layers"][str(number)]["metrics"][metric]
    return Number(value, known_interval(record, path, number, metric), number)


def _distractors(record: Record) -> tuple[int, int]:
    splits = record["dataset"]["splits"]
    return splits.get("distractors", 0), splits.get("whitening", 0)
