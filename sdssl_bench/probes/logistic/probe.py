"""Logistic regression on cached features: choose C on validation, refit on all, test once.

All layers of one width are solved together; see `logreg` for the solver, `logreg_choice` for the choice.
A C whose problem is not solved to the tolerance cannot be chosen and is named in the record; a layer
whose refit is not solved has no score.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdssl_bench.datasets import ClassificationData
from sdssl_bench.errors import TaskError
from sdssl_bench.features import FeatureBank, skipped_images
from sdssl_bench.probes.linear.inputs import joined
from sdssl_bench.probes.logistic.choice import Choice, Probe, Selection
from sdssl_bench.probes.scores import grade, is_whole
from sdssl_bench.probes.val_split import validation_mask
from sdssl_bench.system import resolve_device
from sdssl_bench.task import LayerScores, RunContext


def score_logreg_layers(
    data: ClassificationData,
    banks: Mapping[str, FeatureBank],
    layers: Sequence[int],
    *,
    kind: str,
    sweep: str,
    tolerance: float,
    val_fraction: float,
    ctx: RunContext,
) -> Iterator[LayerScores]:
    """Scores of each layer from the banks of both splits.

    Args:
        data: the dataset.
        banks: "train" and "test".
        layers: which layers to probe.
        kind: what a head sees, see `inputs`.
        sweep: one of `sweep.SWEEPS`.
        tolerance: of the objective, absolute.
        val_fraction: of the training images, where validation is not predefined.
        ctx: device and progress.

    Raises:
        TaskError: once all others are yielded, if the refit of a layer is not within the tolerance.
    """
    train, test = banks["train"], banks["test"]
    validation = validation_mask(data.train, train.indices, fraction=val_fraction)
    whole = is_whole(data, test.indices)
    lost: list[int] = []
    widths: dict[int, list[int]] = {}
    for layer in layers:
        widths.setdefault(joined(train, kind, layer).shape[1], []).append(layer)
    for group in widths.values():
        probe = Probe(
            layers=group,
            train=[joined(train, kind, layer) for layer in group],
            test=[joined(test, kind, layer) for layer in group],
            train_targets=train.targets,
            test_targets=test.targets,
            classes=np.unique(train.targets),
            validation=validation,
            score_name=data.headline,
            tolerance=tolerance,
            device=resolve_device(ctx.device),
        )
        started = time.perf_counter()
        selection = Selection(probe)
        choices = selection.choose(sweep)
        chosen = time.perf_counter()
        del selection
        refits = _refit(probe, choices)
        seconds = {"select": chosen - started, "refit": time.perf_counter() - chosen}
        for position, layer in enumerate(group):
            choice, refit = choices[position], refits.get(position)
            if choice is None or refit is None:
                lost.append(layer)
                continue
            ranks = probe.ranks(probe.test[position], test.targets, refit.head)
            graded = grade(ranks, test.targets, num_classes=data.train.num_classes, whole=whole)
            yield LayerScores(
                layer=layer,
                metrics={**graded.metrics(), f"val/{data.headline}": choice.scores[choice.c]},
                n=len(test.targets),
                items={"index": test.indices, "target": test.targets, "correct": graded.correct},
                seconds=seconds,
                notes={
                    **_notes(choice, refit, data.headline),
                    "images": {"fit": int((~validation).sum()), "val": int(validation.sum())},
                    **skipped_images(banks),
                },
            )
            seconds = {}
    if lost:
        raise TaskError(
            f"Logistic regression of layer {', '.join(map(str, lost))} is not within "
            f"{tolerance:.0e} of its optimum; all other layers are stored. Look at its features with "
            "'sdssl-bench doctor', extract them with --dtype float32, or raise --set tolerance=..."
        )


def _notes(choice: Choice, refit: "Refit", headline: str) -> dict[str, Any]:
    """What was chosen from what, and how near the optimum."""
    unsolved = [
        {"C": c, "gap": gap if math.isfinite(gap) else None}
        for c, gap in sorted(choice.unsolved.items())
    ]
    return {
        "C": choice.c,
        "penalty": refit.penalty,
        "objective": refit.objective,
        "gap": refit.gap,
        "at_edge_of_sweep": choice.c in (min(choice.scores), max(choice.scores)),
        "val_curve": {
            "C": sorted(choice.scores),
            headline: [choice.scores[c] for c in sorted(choice.scores)],
        },
        **({"not_converged": unsolved} if unsolved else {}),
    }


@dataclass(frozen=True, eq=False)
class Refit:
    """A head fitted on fitting and validation rows together.

    Attributes:
        penalty: of the mean loss.
        objective: reached.
        gap: bound of its distance from the optimum, by the solver's estimate.
        head: weights [D, K] and bias [K].
    """

    penalty: float
    objective: float
    gap: float
    head: tuple[Tensor, Tensor]


def _refit(probe: Probe, choices: Sequence[Choice | None]) -> dict[int, Refit]:
    """Every layer at its C on all training rows; scikit-learn's C is kept, so the penalty changes.

    Returns:
        By position; without those that are not solved.
    """
    chosen = {place: choice for place, choice in enumerate(choices) if choice is not None}
    if not chosen:
        return {}
    rows = np.arange(len(probe.train_targets))
    solver = probe.solver(rows)
    start = [solver.designs[place].from_features(*choice.head) for place, choice in chosen.items()]
    solution = solver.solve(
        list(chosen),
        [1.0 / (choice.c * len(rows)) for choice in chosen.values()],
        start=torch.stack(start),
    )
    return {
        place: Refit(
            solution.penalties[at],
            float(solution.objective[at]),
            float(solution.gap[at]),
            solver.designs[place].to_features(solution.weights[at]),
        )
        for at, place in enumerate(chosen)
        if solution.converged[at]
    }
