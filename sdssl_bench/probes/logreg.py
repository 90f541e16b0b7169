"""Multinomial logistic regression for many layers and penalties at once, to the optimum.

    minimise over W [D, C], b [C]:  mean_i CE(softmax(x_i W + b), y_i) + (penalty / 2) ||W||^2

Truncated Newton with preconditioned conjugate gradients (Nash and Nocedal 1991): every product with
the rows is one matrix product per layer, whose columns are the classes of all penalties being solved;
steps, step lengths and stopping are each problem's own, and a solved problem takes no further part.
Penalties are followed from strong to weak, each starting where the line through the two solutions
before it (in log penalty) points to. Matrix products are float32, sums over rows and steps float64.

scikit-learn's C multiplies the sum of the losses: penalty = 1 / (C N).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from sdssl_bench.errors import TaskError
from sdssl_bench.probes.design import Design

MAX_STEPS = 100
"""Newton steps of one problem; the path needs one to four."""
MAX_PRODUCTS = 200
"""Conjugate-gradient products within one Newton step."""
RELATIVE_GAP = 1e-3
"""A weakly penalised optimum can lie below the absolute tolerance: the gap is also this fraction of it."""
NOISE = 2e-7
"""Rounding of an objective, relative to 1 + its value: a change below it is none."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Optima of P problems, each a layer and a penalty.

    Attributes:
        layers: [P] positions in the list of designs.
        penalties: [P].
        weights: [P, D + 1, C] for the columns of each problem's design.
        objective: [P] float64.
        gap: [P] float64, the Newton model's bound of objective - optimum before the last step.
        steps: [P] Newton steps taken.
    """

    layers: list[int]
    penalties: list[float]
    weights: Tensor
    objective: Tensor
    gap: Tensor
    steps: list[int]


class Solver:
    """Solves sets of problems on designs of one width with common targets."""

    def __init__(
        self,
        designs: Sequence[Design],
        targets: Tensor,
        *,
        num_classes: int,
        tolerance: float = 1e-5,
        cache_bytes: int = 2**31,
    ) -> None:
        """Checks that the optimum exists.

        Args:
            designs: one per layer, all [N, D + 1].
            targets: [N] int64 in 0..C-1; every class occurs, or its bias would run to -infinity.
            num_classes: C.
            tolerance: objective - optimum that is good enough, absolute.
            cache_bytes: probabilities are kept between products up to this size, else recomputed.
        """
        counts = torch.bincount(targets.cpu(), minlength=num_classes)
        if len(counts) != num_classes or not counts.all():
            raise ValueError(
                "every class of 0..C-1 needs a row, and no row may be of another class"
            )
        if len({(d.num_rows, d.width) for d in designs}) != 1 or designs[0].num_rows != len(
            targets
        ):
            raise ValueError("designs must have one width, and as many rows as there are targets")
        self.designs = list(designs)
        self.num_classes = num_classes
        self.tolerance = tolerance
        self.products = 0
        """Matrix products with all rows of a layer, for one problem each; what the solver costs."""
        self._device = designs[0].curvature.device
        self._targets = targets.to(self._device)
        self._cache_bytes = cache_bytes
        self._not_bias = torch.ones(designs[0].width + 1, 1, device=self._device)
        self._not_bias[-1] = 0.0
        self._probabilities: dict[int, list[Tensor]] = {}

    def zeros(self, num_problems: int) -> Tensor:
        """[P, D + 1, C] zeros, the cold start."""
        return torch.zeros(
            num_problems, self.designs[0].width + 1, self.num_classes, device=self._device
        )

    def path(self, penalties: Sequence[float], *, block: int = 1) -> Iterator[Solution]:
        """Optima of all layers for every penalty, `block` penalties at a time, strong to weak."""
        ordered = sorted(penalties, reverse=True)
        num_layers, before = len(self.designs), list[tuple[float, Tensor]]()
        for first in range(0, len(ordered), block):
            values = ordered[first : first + block]
            starts = torch.stack([self._extrapolate(before, value) for value in values])
            solution = self.solve(
                [layer for _ in values for layer in range(num_layers)],
                [value for value in values for _ in range(num_layers)],
                start=starts.flatten(0, 1),
            )
            solved = solution.weights.unflatten(0, (len(values), num_layers))
            before = (before + list(zip(values, solved, strict=True)))[-2:]
            yield solution

    def _extrapolate(self, before: list[tuple[float, Tensor]], penalty: float) -> Tensor:
        """[L, D + 1, C] where the line through the last two solutions points to."""
        if not before:
            return self.zeros(len(self.designs))
        last, weights = before[-1]
        if len(before) == 1 or before[0][0] == last:
            return weights
        earlier, older = before[0]
        ahead = math.log(penalty / last) / math.log(last / earlier)
        return weights + ahead * (weights - older)

    def solve(
        self, layers: Sequence[int], penalties: Sequence[float], *, start: Tensor
    ) -> Solution:
        """Optima of P problems from given starting points.

        Args:
            layers: [P] positions in the list of designs.
            penalties: [P], positive.
            start: [P, D + 1, C].

        Raises:
            TaskError: if a problem does not reach the tolerance.
        """
        self._layers = list(layers)
        self._penalty = torch.tensor(penalties, dtype=torch.float64, device=self._device)
        if not (self._penalty > 0).all():
            raise ValueError(f"penalties must be positive, found {min(penalties)}")
        self._begin(max(self._layers.count(layer) for layer in set(layers)))
        weights = start.clone()
        active = torch.arange(len(layers), device=self._device)
        objective, gradient = self._evaluate(active, weights)
        gap = torch.full_like(objective, math.inf)
        steps = [0] * len(layers)
        for _ in range(MAX_STEPS):
            direction, decrease = self._newton_direction(
                active, gradient[active], objective[active]
            )
            gap[active] = 2.0 * decrease
            last = gap[active] <= self._allowed(objective[active])
            self._line_search(
                active, direction, decrease, last=last, state=(weights, objective, gradient)
            )
            for problem in active.tolist():
                steps[problem] += 1
            active = active[~last]
            if len(active) == 0:
                self._probabilities = {}
                # Adding one number to all biases changes nothing; of the equals, the centred one.
                weights[:, -1] -= weights[:, -1].mean(-1, keepdim=True)
                return Solution(self._layers, list(penalties), weights, objective, gap, steps)
        worst = int(active[gap[active].argmax()])
        raise TaskError(
            f"Logistic regression with penalty {penalties[worst]:.2e} is {gap[worst]:.1e} from its "
            f"optimum after {MAX_STEPS} Newton steps. Raise --set tolerance, now {self.tolerance}."
        )

    def _begin(self, problems_of_a_layer: int) -> None:
        """Forget the problems before; kept chunks of rows must be the same for all of a layer's."""
        num = len(self._layers)
        budget = 2**22 if self._device.type == "cpu" else 2**27
        self._chunk_rows = max(256, budget // (problems_of_a_layer * self.num_classes))
        self._caching = 4 * self.designs[0].num_rows * num * self.num_classes <= self._cache_bytes
        self._probabilities = {}
        self._spread = torch.zeros(num, self.num_classes, device=self._device)
        self._at = self.zeros(num)

    def _allowed(self, objective: Tensor) -> Tensor:
        return torch.clamp(RELATIVE_GAP * objective, max=self.tolerance)

    def _newton_direction(
        self, active: Tensor, gradient: Tensor, objective: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Directions [A, D + 1, C] and the decreases [A] the quadratic models predict for them."""
        scale = self._preconditioner(active)
        direction, decrease = torch.zeros_like(gradient), torch.zeros_like(objective)
        residual = -gradient
        search = residual / scale
        slope = _dot(residual, search)
        enough = 0.05 * self._allowed(objective)
        run = torch.arange(len(active), device=self._device)
        for count in range(1, MAX_PRODUCTS + 1):
            at = search[run]
            product = self._curvature_product(active[run], at)
            length = slope[run] / _dot(at, product).clamp(min=1e-300)
            direction[run] += _times(length, at)
            residual[run] -= _times(length, product)
            gained = 0.5 * length * slope[run]
            decrease[run] += gained
            # Nash and Sofer's rule: stop when one more product adds little to the model's decrease.
            going = (count * gained > 0.5 * decrease[run]) & (gained > enough[run])
            run = run[going]
            if len(run) == 0:
                break
            scaled = residual[run] / scale[run]
            new_slope = _dot(residual[run], scaled)
            search[run] = scaled + _times(new_slope / slope[run], search[run])
            slope[run] = new_slope
        return direction, decrease

    def _line_search(
        self,
        active: Tensor,
        direction: Tensor,
        decrease: Tensor,
        *,
        last: Tensor,
        state: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        """Step along each direction, halving it until the objective falls; updates the state."""
        weights, objective, gradient = state
        length = torch.ones_like(decrease)
        todo = torch.arange(len(active), device=self._device)
        while len(todo):
            problems = active[todo]
            trial = weights[problems] + _times(length[todo], direction[todo])
            value, slope = self._evaluate(problems, trial, keep=~last[todo])
            wanted = objective[problems] - 1e-4 * length[todo] * decrease[todo]
            accepted = value <= wanted + NOISE * (1.0 + objective[problems])
            took = problems[accepted]
            weights[took], objective[took] = trial[accepted], value[accepted]
            gradient[took] = slope[accepted]
            todo = todo[~accepted]
            length[todo] *= 0.5
            if len(todo) and float(length[todo].min()) < 1e-9:
                raise TaskError(
                    "Logistic regression finds no step that lowers its objective: the features "
                    "are beyond float32. Check their scale with 'sdssl-bench doctor'."
                )

    def _preconditioner(self, active: Tensor) -> Tensor:
        """[A, D + 1, C] diagonal: variance of the column x mean p (1 - p) of the class + penalty."""
        spread = self._spread[active]
        curvature = torch.stack([self.designs[self._layers[p]].curvature for p in active.tolist()])
        penalty = self._penalty[active].float()[:, None, None] * self._not_bias
        return (curvature[:, :, None] * spread[:, None, :] + penalty).clamp(min=1e-12)

    def _groups(self, problems: Tensor) -> Iterator[tuple[Design, Tensor]]:
        """Problems of one layer share their matrix products: (design, positions in `problems`)."""
        of_layer: dict[int, list[int]] = {}
        for position, problem in enumerate(problems.tolist()):
            of_layer.setdefault(self._layers[problem], []).append(position)
        for layer, positions in of_layer.items():
            yield self.designs[layer], torch.tensor(positions, device=self._device)

    def _evaluate(
        self, problems: Tensor, weights: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Objectives [P] and gradients [P, D + 1, C]; remembers what products with the curvature need.

        Where `keep` is False the gradient is not computed and stays zero.
        """
        keep = torch.ones_like(problems, dtype=torch.bool) if keep is None else keep
        penalty = self._penalty[problems]
        penalised = self._not_bias * weights
        loss = torch.zeros(len(problems), dtype=torch.float64, device=self._device)
        gradient = torch.zeros(weights.shape, dtype=torch.float64, device=self._device)
        for wanted in (True, False):
            chosen = (keep == wanted).nonzero().flatten()
            for design, where in self._groups(problems[chosen]):
                at = chosen[where]
                self._sum_over_rows(design, problems[at], weights[at], at, loss, gradient, wanted)
        self.products += int(keep.sum()) + len(problems)
        objective = loss / self.designs[0].num_rows + 0.5 * penalty * _dot(penalised, penalised)
        gradient = gradient / self.designs[0].num_rows + penalty[:, None, None] * penalised
        return objective, gradient.float()

    def _sum_over_rows(
        self,
        design: Design,
        problems: Tensor,
        weights: Tensor,
        at: Tensor,
        loss: Tensor,
        gradient: Tensor,
        wanted: bool,
    ) -> None:
        """Add one layer's losses, and if wanted gradients, into rows `at` of the totals."""
        num, columns = len(problems), _as_columns(weights)
        kept: list[Tensor] = []
        spread = torch.zeros(num, self.num_classes, dtype=torch.float64, device=self._device)
        for part, rows in design.chunks(self._chunk_rows):
            targets = self._targets[part, None, None].expand(-1, num, 1)
            log_p = log_softmax((rows @ columns).unflatten(1, (num, -1)), -1)
            loss[at] -= log_p.gather(-1, targets)[..., 0].sum(0, dtype=torch.float64)
            if not wanted:
                continue
            p = log_p.exp_()
            spread += (p - p * p).sum(0, dtype=torch.float64)
            if self._caching:
                kept.append(p.clone())
            p.scatter_add_(-1, targets, -torch.ones_like(targets, dtype=p.dtype))
            gradient[at] += _from_columns(rows.T @ p.flatten(1), num)
        if wanted:
            self._spread[problems] = (spread / design.num_rows).float()
            self._at[problems] = weights
            for position, problem in enumerate(problems.tolist()):
                self._probabilities[problem] = [p[:, position] for p in kept]

    def _curvature_product(self, problems: Tensor, vectors: Tensor) -> Tensor:
        """Hessian times vectors [P, D + 1, C]."""
        out = torch.zeros(vectors.shape, dtype=torch.float64, device=self._device)
        for design, where in self._groups(problems):
            num, ids = len(where), problems[where].tolist()
            columns = _as_columns(vectors[where])
            points = _as_columns(self._at[problems[where]])
            for index, (_, rows) in enumerate(design.chunks(self._chunk_rows)):
                if self._caching:
                    p = torch.stack([self._probabilities[one][index] for one in ids], 1)
                else:
                    p = (rows @ points).unflatten(1, (num, -1)).softmax(-1)
                change = p * (rows @ columns).unflatten(1, (num, -1))
                change -= p * change.sum(-1, keepdim=True)
                out[where] += _from_columns(rows.T @ change.flatten(1), num)
        self.products += 2 * len(problems)
        penalty = self._penalty[problems][:, None, None]
        return (out / self.designs[0].num_rows + penalty * (self._not_bias * vectors)).float()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """[P] float64 inner products."""
    return (a.double() * b.double()).sum((-2, -1))


def _times(scale: Tensor, vectors: Tensor) -> Tensor:
    return scale.float()[:, None, None] * vectors


def _as_columns(weights: Tensor) -> Tensor:
    """[P, D + 1, C] -> [D + 1, P C]."""
    return weights.transpose(0, 1).flatten(1)


def _from_columns(columns: Tensor, num: int) -> Tensor:
    """[D + 1, P C] -> [P, D + 1, C]."""
    return columns.unflatten(1, (num, -1)).transpose(0, 1)
