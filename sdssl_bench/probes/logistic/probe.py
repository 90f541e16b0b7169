"""Logistic regression on cached features: choose C on validation, refit on all, test once.

All layers of one width are solved together; see `logreg` for the solver, `logreg_choice` for the choice.
Of few labels every draw is a probe of its own, and scores are means over the draws.
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
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.datasets import ClassificationData, ImageSet, LabelDraws
from sdssl_bench.errors import TaskError
from sdssl_bench.features import FeatureBank, skipped_images
from sdssl_bench.probes.linear.inputs import joined
from sdssl_bench.probes.linear.sweep import GRID
from sdssl_bench.probes.logistic.choice import Choice, Probe, choices
from sdssl_bench.probes.scores import grade, is_whole, mean_of_tries
from sdssl_bench.probes.val_split import hashed_mask, validation_mask
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
    draws: LabelDraws | None = None,
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
        draws: the training images whose labels are used, for validation too; None is all.
        ctx: device and progress.

    Raises:
        TaskError: once all others are yielded, if the refit of a layer is not within the tolerance.
    """
    train, test = banks["train"], banks["test"]
    tries = _tries(data.train, train, draws, val_fraction)
    whole = is_whole(data, test.indices)
    lost: list[int] = []
    widths: dict[int, list[int]] = {}
    for layer in layers:
        widths.setdefault(joined(train, kind, layer).shape[1], []).append(layer)
    for group in widths.values():
        inputs = {
            name: [joined(bank, kind, layer) for layer in group] for name, bank in banks.items()
        }
        metrics: list[list[dict[str, float]]] = [[] for _ in group]
        right: list[list[NDArray[np.bool_]]] = [[] for _ in group]
        fits: list[list[dict[str, Any]]] = [[] for _ in group]
        seconds = {"select": 0.0, "refit": 0.0}
        for rows, validation in tries:
            probe = Probe(
                layers=group,
                train=inputs["train"],
                test=inputs["test"],
                train_targets=train.targets,
                test_targets=test.targets,
                rows=rows,
                classes=np.unique(train.targets[rows]),
                validation=validation,
                score_name=data.headline,
                tolerance=tolerance,
                device=resolve_device(ctx.device),
            )
            started = time.perf_counter()
            chosen = choices(probe, sweep)
            selected = time.perf_counter()
            refits = refitted(probe, chosen)
            seconds["select"] += selected - started
            seconds["refit"] += time.perf_counter() - selected
            for position, refit in refits.items():
                choice = chosen[position]
                assert choice is not None
                ranks = probe.ranks(probe.test[position], test.targets, refit.head)
                graded = grade(ranks, test.targets, num_classes=data.train.num_classes, whole=whole)
                seen = {f"val/{data.headline}": choice.scores[choice.c]} if choice.scores else {}
                metrics[position].append({**graded.metrics(), **seen})
                right[position].append(graded.correct)
                images = {"fit": int((~validation).sum()), "val": int(validation.sum())}
                fits[position].append({**_notes(choice, refit, data.headline), "images": images})
        for position, layer in enumerate(group):
            if len(fits[position]) < len(tries):
                lost.append(layer)
                continue
            means, items, notes = mean_of_tries(metrics[position], {"correct": right[position]})
            yield LayerScores(
                layer=layer,
                metrics=means,
                n=len(test.targets),
                items={"index": test.indices, "target": test.targets, **items},
                seconds=seconds,
                notes={
                    **(fits[position][0] if len(tries) == 1 else {"fits": fits[position]}),
                    **notes,
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


def _tries(
    images: ImageSet, bank: FeatureBank, draws: LabelDraws | None, fraction: float
) -> list[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """By try: [M] rows of the bank in use, and [M] which of them are validation.

    Few labels are all there is: validation is taken from them by the hash of names, also where the set
    has validation images of its own, and no image of a class that has one label is taken.
    """
    if draws is None:
        every = np.arange(len(bank.indices))
        return [(every, validation_mask(images, bank.indices, fraction=fraction))]
    found = []
    for rows in draws.places(bank.indices):
        names = [images.names[index] for index in bank.indices[rows].tolist()]
        found.append((rows, hashed_mask(names, bank.targets[rows], fraction=fraction)))
    return found


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
        **(_seen(choice, headline) if choice.scores else {}),
        **({"not_converged": unsolved} if unsolved else {}),
    }


def _seen(choice: Choice, headline: str) -> dict[str, Any]:
    """What validation showed."""
    return {
        "at_edge_of_sweep": choice.c in (min(choice.scores), max(choice.scores)),
        "val_curve": {
            "C": sorted(choice.scores),
            headline: [choice.scores[c] for c in sorted(choice.scores)],
        },
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


def refitted(probe: Probe, found: Sequence[Choice | None]) -> dict[int, Refit]:
    """Every layer at its C on all rows in use; scikit-learn's C is kept, so the penalty changes.

    Returns:
        By position; without those that are not solved.
    """
    chosen = {place: choice for place, choice in enumerate(found) if choice is not None}
    if not chosen:
        return {}
    solver = probe.solver(probe.rows)
    start = [
        solver.designs[place].from_features(*choice.head)
        if choice.head is not None
        else solver.loss.zeros(1)[0]
        for place, choice in chosen.items()
    ]
    solution = solver.solve(
        list(chosen),
        [1.0 / (choice.c * len(probe.rows)) for choice in chosen.values()],
        start=torch.stack(start),
    )
    solved = {place: (solution, at) for at, place in enumerate(chosen)}
    for at, (place, choice) in enumerate(chosen.items()):
        if not solution.converged[at]:
            # At a weak penalty the head of the fitting rows parts them so far that rows it has not seen, on
            # its wrong side, cost hundreds of steps: the path from strong penalties does not.
            cs = [*(c for c in GRID if c < choice.c), choice.c]
            *_, last = solver.path([1.0 / (c * len(probe.rows)) for c in cs], layers=[place])
            solved[place] = last, 0
    return {
        place: Refit(
            one.penalties[at],
            float(one.objective[at]),
            float(one.gap[at]),
            solver.designs[place].to_features(one.weights[at]),
        )
        for place, (one, at) in solved.items()
        if one.converged[at]
    }
