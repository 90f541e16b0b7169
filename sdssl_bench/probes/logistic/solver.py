"""Multinomial logistic regression for many layers and penalties at once, to the optimum.

    minimise over W [D, C], b [C]:  mean_i CE(softmax(x_i W + b), y_i) + (penalty / 2) ||W||^2

Truncated Newton with preconditioned conjugate gradients (Nash and Nocedal 1991): every product with
the rows is one matrix product per layer, whose columns are the classes of all penalties being solved;
steps, step lengths and stopping are each problem's own, and a solved problem takes no further part.
Penalties are followed from strong to weak, each starting where the line through the two solutions
before it (in log penalty) points to. Matrix products are float32, sums over rows and steps float64.
A problem that float32 cannot solve to its tolerance is given up, marked, and harms no other.

scikit-learn's C multiplies the sum of the losses: penalty = 1 / (C N).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdssl_bench.probes.linear.design import Design
from sdssl_bench.probes.logistic.softmax import SoftmaxLoss, dot, times

MAX_STEPS = 100
"""Newton steps of one problem; the path needs one to four."""
MAX_PRODUCTS = 200
"""Conjugate-gradient products within one Newton step."""
SAFETY = 0.1
"""Share of the allowed gap that may be left: the estimate of what is left can be short."""
MIN_PRODUCTS = 6
"""Before as many products, the last gain says little of what is left."""
RELATIVE_GAP = 1e-3
"""A weakly penalised optimum can lie below the absolute tolerance: the gap is also this fraction of it."""
NOISE = 1e-6
"""Rounding of an objective, relative to its value: a change below it is none."""
ATTAINABLE = 1e-8
"""Gap that float32 gradients can resolve, relative to the objective: no tolerance asks for less."""
HALVINGS = 30
"""Of a step before a problem is given up."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Optima of P problems, each a layer and a penalty.

    Attributes:
        layers: [P] positions in the list of designs.
        penalties: [P].
        weights: [P, D + 1, C] for the columns of each problem's design.
        objective: [P] float64.
        gap: [P] float64, how far the last step started from the optimum by the Newton model; the
            objective after it is nearer.
        steps: [P] Newton steps taken.
        converged: [P] bool, whether the gap is within the tolerance. Where it is not, weights are the
            best found, the gap may be infinite, and no score should be taken from them unsaid.
    """

    layers: list[int]
    penalties: list[float]
    weights: Tensor
    objective: Tensor
    gap: Tensor
    steps: list[int]
    converged: Tensor


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
        self.tolerance = tolerance
        self.loss = SoftmaxLoss(designs, targets, num_classes=num_classes, cache_bytes=cache_bytes)
        self._device = self.loss.device

    def path(
        self, penalties: Sequence[float], *, block: int = 1, layers: Sequence[int] | None = None
    ) -> Iterator[Solution]:
        """Optima of layers for every penalty, `block` penalties at a time, strong to weak.

        Args:
            penalties: in any order.
            block: how many are solved together.
            layers: positions in the list of designs; None is all.
        """
        layers = range(len(self.designs)) if layers is None else layers
        ordered = sorted(penalties, reverse=True)
        num_layers, before = len(layers), list[tuple[float, Tensor]]()
        for first in range(0, len(ordered), block):
            values = ordered[first : first + block]
            starts = torch.stack([self._extrapolate(before, value, num_layers) for value in values])
            solution = self.solve(
                [layer for _ in values for layer in layers],
                [value for value in values for _ in layers],
                start=starts.flatten(0, 1),
            )
            solved = solution.weights.unflatten(0, (len(values), num_layers))
            before = (before + list(zip(values, solved, strict=True)))[-2:]
            yield solution

    def _extrapolate(
        self, before: list[tuple[float, Tensor]], penalty: float, num_layers: int
    ) -> Tensor:
        """[L, D + 1, C] where the line through the last two solutions points to."""
        if not before:
            return self.loss.zeros(num_layers)
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
            start: [P, D + 1, C]; one that is worse than zero is left for it.
        """
        strengths = torch.tensor(penalties, dtype=torch.float64, device=self._device)
        if not (strengths > 0).all():
            raise ValueError(f"penalties must be positive, found {min(penalties)}")
        self.loss.begin(layers, strengths)
        weights = start.clone()
        active = torch.arange(len(layers), device=self._device)
        objective, gradient = self.loss.evaluate(active, weights)
        # Zero weights cost log C, whatever the penalty; an extrapolated start can lie far beyond.
        wild = (~(objective <= 1.001 * math.log(self.loss.num_classes))).nonzero().flatten()
        if len(wild):
            weights[wild] = 0.0
            objective[wild], gradient[wild] = self.loss.evaluate(wild, weights[wild])
        gap = torch.full_like(objective, math.inf)
        converged = torch.zeros_like(active, dtype=torch.bool)
        self._least = torch.full_like(active, MIN_PRODUCTS)
        steps = [0] * len(layers)
        for _ in range(MAX_STEPS):
            direction, decrease, left = self._newton_direction(
                active, gradient[active], objective[active]
            )
            gap[active] = decrease + left
            last = gap[active] <= self._allowed(objective[active])
            moved = self._line_search(
                active, direction, decrease, last=last, state=(weights, objective, gradient)
            )
            for problem in active[moved].tolist():
                steps[problem] += 1
            # At a gap within the tolerance, a step that rounding hides is none that is missed.
            converged[active[last]] = True
            active = active[moved & ~last]
            if len(active) == 0:
                break
        self.loss.begin([], strengths[:0])
        # Adding one number to all biases changes nothing; of the equals, the centred one.
        weights[:, -1] -= weights[:, -1].mean(-1, keepdim=True)
        return Solution(list(layers), list(penalties), weights, objective, gap, steps, converged)

    def _allowed(self, objective: Tensor) -> Tensor:
        wanted = torch.clamp(RELATIVE_GAP * objective, max=self.tolerance)
        return torch.maximum(wanted, ATTAINABLE * objective)

    def _newton_direction(
        self, active: Tensor, gradient: Tensor, objective: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Directions [A, D + 1, C], the model's decreases [A] along them, and what it has left [A]."""
        scale = self.loss.preconditioner(active)
        direction, decrease = torch.zeros_like(gradient), torch.zeros_like(objective)
        penalty = self.loss.penalties[active]
        residual = -gradient
        left = 0.5 * dot(residual, residual) / penalty
        search = residual / scale
        slope = dot(residual, search)
        allowed = self._allowed(objective)
        least = self._least[active]
        used = torch.zeros_like(least)
        run = torch.arange(len(active), device=self._device)
        for count in range(1, MAX_PRODUCTS + 1):
            at = search[run]
            product = self.loss.curvature_product(active[run], at)
            length = slope[run] / dot(at, product)
            # Rounding can hide all curvature; what is found before stands.
            sound = torch.isfinite(length) & (length > 0.0)
            run, at, product, length = run[sound], at[sound], product[sound], length[sound]
            if len(run) == 0:
                break
            direction[run] += times(length, at)
            residual[run] -= times(length, product)
            gained = 0.5 * length * slope[run]
            decrease[run] += gained
            # What is left is at most |residual|^2 / (2 penalty), which says little for weak
            # penalties; and about count x the last gain (Nash and Sofer), once products are many.
            bound = 0.5 * dot(residual[run], residual[run]) / penalty[run]
            many = count >= least[run]
            left[run] = torch.where(many, torch.minimum(bound, count * gained), bound)
            done = left[run] <= SAFETY * allowed[run]
            far = decrease[run] > 2.0 * allowed[run]
            done |= far & (count * gained <= 0.5 * decrease[run])
            used[run] = count
            run = run[~done]
            if len(run) == 0:
                break
            scaled = residual[run] / scale[run]
            new_slope = dot(residual[run], scaled)
            search[run] = scaled + times(new_slope / slope[run], search[run])
            slope[run] = new_slope
        # What the step before found late, this one must not miss by stopping earlier.
        self._least[active] = torch.maximum(least, used)
        return direction, decrease, left

    def _line_search(
        self,
        active: Tensor,
        direction: Tensor,
        decrease: Tensor,
        *,
        last: Tensor,
        state: tuple[Tensor, Tensor, Tensor],
    ) -> Tensor:
        """Step along each direction, halving it until the objective falls; updates the state.

        Returns:
            [A] whether a step was found; the state of a problem without one stays.
        """
        weights, objective, gradient = state
        length = torch.ones_like(decrease)
        moved = torch.zeros_like(last)
        todo = (decrease > 0.0).nonzero().flatten()
        for _ in range(HALVINGS):
            if len(todo) == 0:
                break
            problems = active[todo]
            trial = weights[problems] + times(length[todo], direction[todo])
            value, slope = self.loss.evaluate(problems, trial, keep=~last[todo])
            wanted = objective[problems] - 1e-4 * length[todo] * decrease[todo]
            accepted = value <= wanted + NOISE * objective[problems]
            took = problems[accepted]
            weights[took], objective[took] = trial[accepted], value[accepted]
            gradient[took] = slope[accepted]
            moved[todo[accepted]] = True
            todo = todo[~accepted]
            length[todo] *= 0.5
        return moved
