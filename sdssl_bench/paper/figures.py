"""What the paper's Figures 3 to 9 show, and the commands that give the same curves here.

The figures print no numbers, so there is nothing to compare digit by digit; `sdssl-bench report --figures`
draws ours in their style.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sdssl_bench.errors import UsageError
from sdssl_bench.paper.layouts import FRAMEWORKS
from sdssl_bench.paper.reproduction import ABLATION, Checkpoint, command
from sdssl_bench.records import Stored

SWEEP = ("0", "0.2", "0.4", "0.6", "0.8", "1", "1.2", "1.4")
"""Weights of L_pred in the authors' configurations. 1 is the preset, of L_isd too."""


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        title: what it shows.
        checkpoints: models it needs.
        evaluations: (task, datasets) of its curves, all layers.
        remark: what is to know about it.
    """

    title: str
    checkpoints: tuple[Checkpoint, ...]
    evaluations: tuple[tuple[str, tuple[str, ...]], ...]
    remark: str = ""


def _pairs(*methods: str) -> tuple[Checkpoint, ...]:
    return tuple(
        Checkpoint(name, name)
        for method in methods
        for name in (f"{method}_vit_s16", f"sd_{method}_vit_s16")
    )


def _of_weights() -> tuple[Checkpoint, ...]:
    name, preset = "sd_mocov3_vit_s16-100ep", "sd_mocov3_vit_s16"
    found = [Checkpoint(name, preset, ABLATION)]  # the same run as in Table 5
    for setting in ("alpha-max", "beta"):
        found += [
            Checkpoint(f"{name}-{setting}-{value}", preset, (*ABLATION, f"--{setting}", value))
            for value in SWEEP
            if float(value) != 1
        ]
    return tuple(found)


_ANALYSIS = (("analysis", ("imagenet",)),)
FIGURES = {
    3: Figure(
        "linear evaluation of every layer (multi-exit), ImageNet",
        _pairs(*FRAMEWORKS.values()),
        (("linear", ("imagenet",)),),
    ),
    4: Figure(
        "copy detection and video segmentation of every layer",
        _pairs(*FRAMEWORKS.values()),
        (("copydays", ("copydays",)), ("davis", ("davis",))),
    ),
    5: Figure("analysis of the representations of every layer", _pairs("mocov3"), _ANALYSIS),
    6: Figure("CKA between all layers of both models", _pairs("mocov3"), (("cka", ("imagenet",)),)),
    7: Figure("uniformity and alignment of every layer", _pairs("mocov3"), _ANALYSIS),
    8: Figure("analysis of the representations of every layer", _pairs("mocov3"), _ANALYSIS),
    9: Figure(
        "k-NN on ImageNet by the final weight of L_isd (alpha) and by the weight of L_pred (beta)",
        _of_weights(),
        (("knn", ("imagenet",)),),
        "The values of beta are those of the authors' configurations. They released none for alpha: its "
        "values here are those of beta, not theirs.",
    ),
}


def figure(number: int) -> Figure:
    """A figure of the paper.

    Raises:
        UsageError: for one that shows no measurement.
    """
    if number not in FIGURES:
        raise UsageError(f"The paper's figures with measurements are 3 to 9, found {number}.")
    return FIGURES[number]


def state(
    one: Figure, records: Sequence[Stored], names: dict[str, str]
) -> Iterator[tuple[Checkpoint, str, str, list[int]]]:
    """(checkpoint, task, dataset, layers that are stored) of everything a figure needs."""
    for checkpoint in one.checkpoints:
        name = names.get(checkpoint.name, checkpoint.name)
        for task, datasets in one.evaluations:
            for dataset in datasets:
                layers = {
                    int(layer)
                    for _, record in records
                    if record["model"]["name"] == name
                    and record["task"] == task
                    and record["dataset"]["name"].split(" ")[0] == dataset
                    and record["dataset"]["variant"] == "official"
                    and record["limited"] is None
                    for layer in record["layers"]
                }
                yield checkpoint, task, dataset, sorted(layers)


def commands(one: Figure) -> list[str]:
    """Evaluations of one checkpoint RUN."""
    other = " --against runs/OTHER/encoder.safetensors"
    return [
        command(task, datasets, every=True) + (other if task == "cka" else "")
        for task, datasets in one.evaluations
    ]
