"""Logistic regression on cached features: choose C on validation, refit on all, test once.

All layers of one width are solved together; see `logreg` for the solver and `sweep` for the values.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.datasets.base import ClassificationData
from sdssl_bench.distributed import resolve_device
from sdssl_bench.features import FeatureBank
from sdssl_bench.probes.design import Design, fits_in_memory
from sdssl_bench.probes.inputs import Joined, joined
from sdssl_bench.probes.logreg import Solution, Solver
from sdssl_bench.probes.scores import grade, is_whole, ranks_of, skipped_images
from sdssl_bench.probes.sweep import GRID, best, clip_search
from sdssl_bench.probes.val_split import validation_mask
from sdssl_bench.task import LayerScores, RunContext

TEST_ROWS = 8192
"""Rows scored at a time."""


@dataclass(frozen=True, eq=False)
class Probe:
    """One group of layers of equal width, and everything that is common to them.

    Attributes:
        layers: layer numbers.
        train, test: inputs of each layer, [N, D].
        train_targets, test_targets: true classes.
        classes: [K] the classes that occur in training; heads are of these only.
        validation: [N] which training rows are validation.
        score_name: metric that chooses, "top1" or "mean_per_class".
        tolerance: of the objective.
        device: torch device.
    """

    layers: Sequence[int]
    train: Sequence[Joined]
    test: Sequence[Joined]
    train_targets: NDArray[np.int64]
    test_targets: NDArray[np.int64]
    classes: NDArray[np.int64]
    validation: NDArray[np.bool_]
    score_name: str
    tolerance: float
    device: str

    def solver(self, rows: NDArray[np.int64]) -> Solver:
        """A solver for some of the training rows, of all layers."""
        width = self.train[0].shape[1]
        resident = fits_in_memory(len(rows), [width] * len(self.layers))
        designs = [
            Design(inputs, rows, device=self.device, resident=resident) for inputs in self.train
        ]
        targets = torch.from_numpy(np.searchsorted(self.classes, self.train_targets[rows]))
        return Solver(designs, targets, num_classes=len(self.classes), tolerance=self.tolerance)

    def ranks(
        self, inputs: Joined, targets: NDArray[np.int64], head: tuple[Tensor, Tensor]
    ) -> NDArray[np.int64]:
        """[n] ranks of the true classes under a head (weights [D, K], bias [K])."""
        place = np.searchsorted(self.classes, targets).clip(max=len(self.classes) - 1)
        known = torch.from_numpy(np.where(self.classes[place] == targets, place, -1))
        out = []
        for start in range(0, len(inputs), TEST_ROWS):
            rows = torch.from_numpy(np.array(inputs[start : start + TEST_ROWS])).float()
            logits = rows.to(self.device) @ head[0] + head[1]
            out.append(ranks_of(logits.cpu(), known[start : start + TEST_ROWS]))
        return torch.cat(out).numpy()


@dataclass(frozen=True, eq=False)
class Choice:
    """What validation chose for a layer: C, every score it saw, and where to start the refit."""

    c: float
    scores: Mapping[float, float]
    head: tuple[Tensor, Tensor]


class Selection:
    """Solves on the fitting rows and scores the validation rows, keeping each layer's best head."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.fit = np.flatnonzero(~probe.validation)
        self.solver = probe.solver(self.fit)
        rows = np.flatnonzero(probe.validation)
        self.targets = probe.train_targets[rows]
        self.inputs = [Joined([np.asarray(inputs[rows])]) for inputs in probe.train]
        self.scores: list[dict[float, float]] = [{} for _ in probe.layers]
        self.heads: list[dict[float, Tensor]] = [{} for _ in probe.layers]
        self.keep_all = False
        self._c_of: dict[float, float] = {}

    def choose(self, sweep: str) -> list[Choice]:
        """Search the sweep for all layers; returns one choice per layer."""
        if sweep == "grid":
            for solution in self.solver.path([self._penalty(c) for c in GRID]):
                self._take(solution)
        else:
            self.keep_all = True
            clip_search(self._evaluate, len(self.probe.layers))
        choices = []
        for layer, scores in enumerate(self.scores):
            c = best(scores)
            head = self.solver.designs[layer].to_features(self.heads[layer][c])
            choices.append(Choice(c, scores, head))
        return choices

    def _penalty(self, c: float) -> float:
        penalty = 1.0 / (c * len(self.fit))
        self._c_of[penalty] = c
        return penalty

    def _evaluate(self, asked: Sequence[Sequence[float]]) -> list[Mapping[float, float]]:
        """Scores of the Cs each layer asks for, each solved from the nearest C known."""
        cold = not any(self.heads)
        pairs = [(layer, c) for layer, one in enumerate(asked) for c in one]
        if cold:
            for solution in self.solver.path([self._penalty(c) for c in asked[0]]):
                self._take(solution)
        elif pairs:
            starts = [self._nearest(layer, c) for layer, c in pairs]
            penalties = [self._penalty(c) for _, c in pairs]
            layers = [layer for layer, _ in pairs]
            self._take(self.solver.solve(layers, penalties, start=torch.stack(starts)))
        return [{c: self.scores[n][c] for c in one} for n, one in enumerate(asked)]

    def _nearest(self, layer: int, c: float) -> Tensor:
        known = self.heads[layer]
        return known[min(known, key=lambda other: abs(np.log(other / c)))]

    def _take(self, solution: Solution) -> None:
        for position, (layer, penalty) in enumerate(
            zip(solution.layers, solution.penalties, strict=True)
        ):
            c = self._c_of[penalty]
            weights = solution.weights[position]
            head = self.solver.designs[layer].to_features(weights)
            ranks = self.probe.ranks(self.inputs[layer], self.targets, head)
            graded = grade(ranks, self.targets, num_classes=self._num_classes, whole=False)
            self.scores[layer][c] = graded.metrics()[self.probe.score_name]
            if self.keep_all or best(self.scores[layer]) == c:
                kept = self.heads[layer] if self.keep_all else {}
                self.heads[layer] = {**kept, c: weights.clone()}

    @property
    def _num_classes(self) -> int:
        return int(self.probe.train_targets.max()) + 1


def score_layers(
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
    """
    train, test = banks["train"], banks["test"]
    validation = validation_mask(data.train, train.indices, fraction=val_fraction)
    whole = is_whole(data, test.indices)
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
        products = selection.solver.loss.products
        del selection
        solution = _refit(probe, choices)
        seconds = {"select": chosen - started, "refit": time.perf_counter() - chosen}
        for position, layer in enumerate(group):
            head = solution.head(position)
            ranks = probe.ranks(probe.test[position], test.targets, head)
            graded = grade(ranks, test.targets, num_classes=data.train.num_classes, whole=whole)
            choice = choices[position]
            yield LayerScores(
                layer=layer,
                metrics={
                    **graded.metrics(),
                    f"val/{data.headline}": choice.scores[choice.c],
                },
                n=len(test.targets),
                items={
                    "index": test.indices,
                    "target": test.targets,
                    "correct": graded.correct,
                },
                seconds=seconds,
                notes={
                    "C": choice.c,
                    "penalty": solution.penalties[position],
                    "objective": solution.objective[position],
                    "at_edge_of_sweep": choice.c in (min(choice.scores), max(choice.scores)),
                    "val_curve": {
                        "C": sorted(choice.scores),
                        data.headline: [choice.scores[c] for c in sorted(choice.scores)],
                    },
                    "images": {"fit": int((~validation).sum()), "val": int(validation.sum())},
                    "matrix_products": products,
                    **skipped_images(banks),
                },
            )
            seconds, products = {}, 0


@dataclass(frozen=True, eq=False)
class Refit:
    """Heads fitted on fitting and validation rows together."""

    penalties: list[float]
    objective: list[float]
    heads: list[tuple[Tensor, Tensor]]

    def head(self, position: int) -> tuple[Tensor, Tensor]:
        """(weights [D, K], bias [K]) of a layer of the group."""
        return self.heads[position]


def _refit(probe: Probe, choices: Sequence[Choice]) -> Refit:
    """Every layer at its C on all training rows; scikit-learn's C is kept, so the penalty changes."""
    rows = np.arange(len(probe.train_targets))
    solver = probe.solver(rows)
    penalties = [1.0 / (choice.c * len(rows)) for choice in choices]
    start = torch.stack(
        [
            design.from_features(*choice.head)
            for design, choice in zip(solver.designs, choices, strict=True)
        ]
    )
    solution = solver.solve(list(range(len(choices))), penalties, start=start)
    heads = [
        design.to_features(weights)
        for design, weights in zip(solver.designs, solution.weights, strict=True)
    ]
    return Refit(penalties, [float(value) for value in solution.objective], heads)
