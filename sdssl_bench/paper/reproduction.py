"""The way to the paper's numbers: checkpoints and commands of a table, what is there, how far it is off.

No checkpoint of the paper was released, so every model is pretrained with a preset of this suite. Tables 5
and 6 do not state their architecture; the authors' scripts train ViT-S/16 and stop at epoch 100 of 300,
and so do these commands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sdssl_bench.errors import UsageError
from sdssl_bench.paper.layouts import (
    ARCHITECTURES,
    FRAMEWORKS,
    LAYOUTS,
    METRICS,
    OWN_PROTOCOLS,
    Column,
    cell_record,
    number_at,
)
from sdssl_bench.paper.references import PaperCell, paper_cells
from sdssl_bench.records import Stored
from sdssl_bench.statistics import Interval

TABLES = tuple(range(1, 8))
ABLATION = ("--recipe", "code", "--stop-epoch", "100")
ABLATIONS: Mapping[tuple[str, str], tuple[bool, tuple[str, ...]]] = {
    ("5", "baseline"): (False, ()),
    ("5", "baseline+pred_loss"): (False, ("--pred", "last")),
    ("5", "SD"): (True, ()),
    ("5", "SD-ratio_anneal"): (True, ("--alpha-schedule", "const")),
    ("5", "SD-pred_loss"): (True, ("--pred", "none")),
    ("6", "baseline"): (False, ()),
    ("6", "SD_without_MLP"): (True, ("--inner-layers", "0")),
    ("6", "SD_2layer_MLP"): (True, ("--inner-layers", "2")),
    ("6", "SD_MLP/4"): (True, ("--every-n", "4")),
    ("6", "SD_MLP/3"): (True, ("--every-n", "3")),
    ("6", "SD_MLP/2"): (True, ("--every-n", "2")),
    ("6", "SD_MLP/1"): (True, ()),
}
"""(table, variant) -> whether it is an SD- model, further flags of pretraining."""
HALF_DIGIT = 0.0005
"""The paper prints one decimal of a percentage."""


@dataclass(frozen=True)
class Checkpoint:
    """A model of the paper as this suite makes it.

    Attributes:
        name: of the run, and of the model in records.
        preset: of pretraining.
        flags: beside the preset.
    """

    name: str
    preset: str
    flags: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """How it is pretrained."""
        words = ("accelerate launch pretrain/main.py --preset", self.preset, *self.flags)
        return " ".join((*words, "--data IMAGENET", "--out", f"runs/{self.name}"))


@dataclass(frozen=True)
class Wanted:
    """One number of the paper and what it takes.

    Attributes:
        cell: the number.
        checkpoint: the model.
        column: which record and metric; its layer is "last", "best" or a number.
    """

    cell: PaperCell
    checkpoint: Checkpoint
    column: Column


@dataclass(frozen=True)
class Outcome:
    """A wanted number beside ours, if it was measured.

    Attributes:
        wanted: the number.
        value: ours, a fraction; None if there is none yet.
        interval: its 95 % interval over test items.
        layer: where it was found.
        record: file of the record.
    """

    wanted: Wanted
    value: float | None = None
    interval: Interval | None = None
    layer: int | None = None
    record: str | None = None

    @property
    def within(self) -> bool | None:
        """Whether the paper's number, rounded as it is, lies in our interval; None if unknown."""
        return None if self.interval is None else within(self.wanted.cell.value, self.interval)


def within(reported: float, interval: Interval) -> bool:
    """Whether a reported number, rounded as it is, lies in the interval of ours."""
    half = HALF_DIGIT if round(reported, 3) == reported else 0.0
    return interval.low - half <= reported <= interval.high + half


def wanted(table: int) -> list[Wanted]:
    """All numbers of a table, in the paper's order.

    Raises:
        UsageError: for a table the paper does not have.
    """
    if table not in TABLES:
        raise UsageError(f"The paper has Tables 1 to 7, found {table}.")
    found = []
    for cell in paper_cells():
        if cell.table == str(table) and cell.dataset != "average":
            found.append(Wanted(cell, checkpoint_of(cell), _column(cell)))
    return found


def checkpoint_of(cell: PaperCell) -> Checkpoint:
    """The model behind a number of the paper."""
    ablation = ABLATIONS.get((cell.table, cell.variant))
    if ablation is not None:
        sd, flags = ablation
        preset = f"{'sd_' if sd else ''}{FRAMEWORKS[cell.framework]}_{ARCHITECTURES['ViT-S/16']}"
        changes = "".join(f"-{word.strip('-')}" for word in flags)
        return Checkpoint(f"{preset}-100ep{changes}", preset, (*ABLATION, *flags))
    sd_prefix = "sd_" if cell.variant == "SD" else ""
    preset = f"{sd_prefix}{FRAMEWORKS[cell.framework]}_{ARCHITECTURES[cell.arch]}"
    return Checkpoint(preset, preset)


def last_layer_top1(preset: str) -> tuple[float, float] | None:
    """ImageNet k-NN and linear top-1 of a preset's last layer in percent; None where there is none.

    Table 1, and Table 7 for ResNet-50.
    """
    found = {
        one.cell.task: round(100 * one.cell.value, 1)
        for table in (1, 7)
        for one in wanted(table)
        if one.checkpoint.preset == preset and one.cell.layer == "last"
    }
    return (found["knn"], found["linear"]) if found else None


def _column(cell: PaperCell) -> Column:
    if int(cell.table) in LAYOUTS:
        layout = LAYOUTS[int(cell.table)]
        for columns in layout.blocks.values():
            for column in columns:
                same = (column.task, column.dataset, column.reported) == (
                    cell.task, cell.dataset, cell.metric,
                )  # fmt: skip
                if same and (column.arch or layout.arch) == cell.arch:
                    return replace(column, arch=cell.arch)
        raise AssertionError(f"no column of Table {cell.table} holds {cell}")
    layer = cell.layer.removeprefix("stage")
    arch = cell.arch if cell.arch in ARCHITECTURES else "ViT-S/16"
    metrics = METRICS[cell.task]
    return Column("", cell.task, cell.task, cell.dataset, cell.metric, metrics, layer, arch)


def outcome(one: Wanted, records: Sequence[Stored], names: Mapping[str, str]) -> Outcome:
    """Look a number up among the stored results.

    Args:
        one: from `wanted`.
        records: stored results.
        names: name of a run here -> name of the model in records, where they differ.

    Raises:
        UsageError: if several results fit.
        DataError: if per-item scores are missing or do not give the stored number.
    """
    name = names.get(one.checkpoint.name, one.checkpoint.name)
    found = cell_record(records, one.column, name, one.column.arch)
    if found is None:
        return Outcome(one)
    path, record, metric = found
    number = number_at(path, record, metric, one.column.layer)
    if number is None:
        return Outcome(one)
    return Outcome(one, number.value, number.interval, number.layer, str(path))


def check_names(names: Mapping[str, str], table: Sequence[Wanted]) -> None:
    """Prove that every run a user renames is one of the table.

    Raises:
        UsageError: naming those that are.
    """
    known = {one.checkpoint.name for one in table}
    for name in names:
        if name not in known:
            raise UsageError(
                f"--model takes RUN=NAME with a run of this table, found '{name}'. "
                f"Runs: {', '.join(sorted(known))}."
            )


def evaluation_commands(table: Sequence[Wanted]) -> list[str]:
    """Commands that score one checkpoint RUN on everything the table shows."""
    datasets: dict[tuple[str, str], list[str]] = {}
    for one in table:
        task = one.column.task
        protocol = "paper" if task == "finetune" else ""
        if (task, one.column.dataset) in OWN_PROTOCOLS:
            protocol = OWN_PROTOCOLS[task, one.column.dataset][0].rpartition("/")[2]
        names = datasets.setdefault((task, protocol), [])
        if one.column.dataset not in names:
            names.append(one.column.dataset)
    every = {one.column.task for one in table if one.column.layer != "last"}
    return [
        command(task, names, protocol=protocol, every=task in every)
        for (task, protocol), names in datasets.items()
    ]


def command(task: str, names: Sequence[str], *, protocol: str = "", every: bool) -> str:
    """One evaluation of the checkpoint RUN.

    Args:
        task: name of the task.
        names: of datasets.
        protocol: other than the task's own first.
        every: whether all layers are needed.
    """
    words = ["sdssl-bench run --task", task]
    if task not in ("copydays", "davis"):
        words += ["--dataset", ",".join(names)]
    if protocol:
        words += ["--protocol", protocol]
    if task == "copydays":
        words += ["--distractors DISTRACTORS --whitening WHITENING"]
    words += ["--data-root DATA --ckpt runs/RUN/encoder.safetensors"]
    return " ".join([*words, *(["--all-layers"] if every else [])])


def as_json(one: Outcome) -> dict[str, Any]:
    """A JSON value; numbers are fractions."""
    cell, interval = one.wanted.cell, one.interval
    return {
        "framework": cell.framework,
        "variant": cell.variant,
        "arch": cell.arch,
        "task": cell.task,
        "dataset": cell.dataset,
        "metric": cell.metric,
        "run": one.wanted.checkpoint.name,
        "paper": cell.value,
        "ours": one.value,
        "difference": None if one.value is None else one.value - cell.value,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "within_interval": one.within,
        "layer": one.layer,
        "record": one.record,
        "remark": cell.remark,
    }
