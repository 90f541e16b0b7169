"""Which C validation chooses for each layer: heads solved on the fitting rows, scored on the others.

All layers of one width are solved together; see `logreg` for the solver and `sweep` for the values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.probes.linear.design import Design, fits_in_memory
from sdssl_bench.probes.linear.inputs import Joined
from sdssl_bench.probes.linear.sweep import GRID, best, clip_search
from sdssl_bench.probes.logistic.solver import Solution, Solver
from sdssl_bench.probes.scores import grade, ranks_of

TEST_ROWS = 8192
"""Rows scored at a time."""
NO_CHOICE = 1.0
"""C where every class has one labelled image, none of which can be spared: scikit-learn's default."""


@dataclass(frozen=True, eq=False)
class Probe:
    """One group of layers of equal width, and everything that is common to them.

    Attributes:
        layers: layer numbers.
        train, test: inputs of each layer, [N, D].
        train_targets, test_targets: true classes.
        rows: [M] training rows in use.
        classes: [K] the classes that occur among them; heads are of these only.
        validation: [M] which of them are validation.
        score_name: metric that chooses, "top1" or "mean_per_class".
        tolerance: of the objective.
        device: torch device.
    """

    layers: Sequence[int]
    train: Sequence[Joined]
    test: Sequence[Joined]
    train_targets: NDArray[np.int64]
    test_targets: NDArray[np.int64]
    rows: NDArray[np.int64]
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
    """What validation chose for a layer.

    Attributes:
        c: the C chosen.
        scores: every score that was seen.
        unsolved: C -> distance from the optimum, where that is not within the tolerance.
        head: where to start the refit; None is zero.
    """

    c: float
    scores: Mapping[float, float]
    unsolved: Mapping[float, float]
    head: tuple[Tensor, Tensor] | None


def choices(probe: Probe, sweep: str) -> list[Choice | None]:
    """What validation chooses for each layer, None where no C is solved; without any image `NO_CHOICE`."""
    if not probe.validation.any():
        return [Choice(NO_CHOICE, {}, {}, None) for _ in probe.layers]
    return Selection(probe).choose(sweep)


class Selection:
    """Solves on the fitting rows and scores the validation rows, keeping each layer's best head."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.fit = probe.rows[~probe.validation]
        self.solver = probe.solver(self.fit)
        rows = probe.rows[probe.validation]
        self.targets = probe.train_targets[rows]
        self.inputs = [Joined([np.asarray(inputs[rows])]) for inputs in probe.train]
        self.scores: list[dict[float, float]] = [{} for _ in probe.layers]
        self.unsolved: list[dict[float, float]] = [{} for _ in probe.layers]
        self.heads: list[dict[float, Tensor]] = [{} for _ in probe.layers]
        self.keep_all = False
        self._c_of: dict[float, float] = {}

    def choose(self, sweep: str) -> list[Choice | None]:
        """Search the sweep for all layers; one choice per layer, None where no C is solved."""
        if sweep == "grid":
            for solution in self.solver.path([self._penalty(c) for c in GRID]):
                self._take(solution)
        else:
            self.keep_all = True
            clip_search(self._evaluate, len(self.probe.layers))
        return [
            self._choice(layer) if self.scores[layer] else None for layer in range(len(self.scores))
        ]

    def _choice(self, layer: int) -> Choice:
        c = best(self.scores[layer])
        head = self.solver.designs[layer].to_features(self.heads[layer][c])
        return Choice(c, self.scores[layer], self.unsolved[layer], head)

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
        return [
            {c: self.scores[n][c] for c in one if c in self.scores[n]}
            for n, one in enumerate(asked)
        ]

    def _nearest(self, layer: int, c: float) -> Tensor:
        known = self.heads[layer]
        if not known:
            return self.solver.loss.zeros(1)[0]
        return known[min(known, key=lambda other: abs(np.log(other / c)))]

    def _take(self, solution: Solution) -> None:
        for position, (layer, penalty) in enumerate(
            zip(solution.layers, solution.penalties, strict=True)
        ):
            c = self._c_of[penalty]
            if not solution.converged[position]:
                self.unsolved[layer][c] = float(solution.gap[position])
                continue
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
