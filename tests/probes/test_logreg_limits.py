"""Where float32 ends: nearly separable classes, directions of no variance, penalties next to none."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from sdssl_bench.probes.linear.design import Design
from sdssl_bench.probes.linear.inputs import Joined
from sdssl_bench.probes.linear.sweep import GRID
from sdssl_bench.probes.logistic.choice import Choice, Probe
from sdssl_bench.probes.logistic.probe import refitted
from sdssl_bench.probes.logistic.solver import Solution, Solver


def separable(
    seed: int = 0, *, rows: int = 120, width: int = 12, classes: int = 4, apart: float = 4.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Classes a hyperplane can part, in directions whose variances span eight decades."""
    rng = np.random.default_rng(seed)
    targets = np.arange(rows) % classes
    x = apart * rng.normal(size=(classes, width))[targets] + rng.normal(size=(rows, width))
    rotation = np.linalg.qr(rng.normal(size=(width, width)))[0]
    x = (x * np.geomspace(3.0, 3e-4, width)) @ rotation + 5.0
    return x.astype(np.float32), targets.astype(np.int64)


class Twin:
    """The objective by its definition in float64, and its optimum by Newton's method, class by class."""

    def __init__(self, x: NDArray[Any], y: NDArray[np.int64]) -> None:
        self.mean, self.classes = x.astype(np.float64).mean(0), int(y.max()) + 1
        centred = x.astype(np.float64) - self.mean
        self.basis = np.linalg.svd(centred, full_matrices=False)[2]
        self.rows = np.hstack([centred @ self.basis.T, np.ones((len(y), 1))])
        self.true = np.eye(self.classes)[y]
        self._at = np.zeros((self.rows.shape[1], self.classes))

    def value(self, weights: NDArray[Any], bias: NDArray[Any], penalty: float) -> float:
        """At weights for the raw features."""
        return self._value(np.vstack([self.basis @ weights, bias + self.mean @ weights]), penalty)

    def optimum(self, penalty: float) -> float:
        """Its lowest value; asked for one penalty after another, it starts from the last optimum."""
        size = self._at.size
        ridge = np.repeat(np.r_[np.full(len(self._at) - 1, penalty), 0.0], self.classes)
        value = self._value(self._at, penalty)
        for _ in range(200):
            p = softmax(self.rows @ self._at, axis=1)
            curvature = (
                np.einsum("nk,kl->nkl", p, np.eye(self.classes)) - p[:, :, None] * p[:, None]
            )
            hessian = np.einsum("nd,nkl,ne->dkel", self.rows, curvature, self.rows, optimize=True)
            hessian = hessian.reshape(size, size) / len(p) + np.diag(ridge)
            # Adding one number to all biases changes nothing: the least-norm step leaves it out.
            others = 1 - self.true
            error = p * others
            error -= self.true * error.sum(1, keepdims=True)
            gradient = (self.rows.T @ error / len(p)).ravel() + ridge * self._at.ravel()
            step = np.linalg.lstsq(hessian, gradient, rcond=1e-15)[0]
            decrease, length = float(gradient @ step), 1.0
            while True:
                trial = self._at - length * step.reshape(self._at.shape)
                new = self._value(trial, penalty)
                if new <= value - 0.1 * length * decrease or length < 1e-6:
                    break
                length /= 2
            if new < value:
                self._at, value = trial, new
            if decrease < 1e-9 * value:
                return value
        raise AssertionError(f"Newton's method is {decrease} from the optimum {value}")

    def _value(self, weights: NDArray[Any], penalty: float) -> float:
        logits = self.rows @ weights
        logits -= (logits * self.true).sum(1, keepdims=True)
        # Of the form log(1 + s): a loss of 1e-12 is not lost beside one.
        others = logsumexp(np.where(self.true == 1, -np.inf, logits), axis=1)
        losses = np.logaddexp(0.0, others)
        return float(losses.mean() + 0.5 * penalty * (weights[:-1] ** 2).sum())


def excess(solver: Solver, solution: Solution, place: int, twin: Twin) -> tuple[float, float]:
    """(objective by the definition, the optimum) of one solution."""
    head = solver.designs[solution.layers[place]].to_features(solution.weights[place])
    weights, bias = (part.double().numpy() for part in head)
    penalty = solution.penalties[place]
    return twin.value(weights, bias, penalty), twin.optimum(penalty)


@pytest.mark.parametrize("apart", [1.0, 4.0, 30.0])
@pytest.mark.parametrize("cache_bytes", [2**31, 0])
def test_the_whole_grid_is_solved_on_separable_classes(apart: float, cache_bytes: int) -> None:
    x, y = separable(apart=apart)
    solver = Solver([Design(x)], torch.from_numpy(y), num_classes=4, cache_bytes=cache_bytes)
    twin = Twin(x, y)
    for solution in solver.path([1 / (c * len(y)) for c in GRID]):
        value, best = excess(solver, solution, 0, twin)
        assert solution.converged.all()
        assert value - best < min(1e-5, 2e-3 * best), (solution.penalties, value, best)
        assert float(solution.objective[0]) == pytest.approx(value, rel=1e-4)


def test_losses_keep_their_relative_precision_however_small_they_are() -> None:
    x, y = separable()
    solver = Solver([Design(x)], torch.from_numpy(y), num_classes=4)
    *_, last = solver.path([1 / (c * len(y)) for c in GRID])
    twin, found = Twin(x, y), []
    solver.loss.begin([0], torch.tensor([1e-30], dtype=torch.float64))
    for strength in (0.1, 0.5, 1.0, 2.0, 3.0):
        weights = strength * last.weights
        found.append(float(solver.loss.evaluate(torch.tensor([0]), weights)[0]))
        head = (part[0].double().numpy() for part in solver.designs[0].to_features(weights))
        assert found[-1] == pytest.approx(twin.value(*head, 1e-30), rel=1e-3)
    assert found[-1] < 1e-9, "below what float32 resolves beside a probability of one"


def test_curvature_is_never_negative_on_separable_classes() -> None:
    x, y = separable(apart=30.0)
    solver = Solver([Design(x)], torch.from_numpy(y), num_classes=4)
    *_, last = solver.path([1 / (c * len(y)) for c in GRID])
    solver.loss.begin([0], torch.tensor([0.0], dtype=torch.float64))
    problem = torch.tensor([0])
    solver.loss.evaluate(problem, last.weights)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        at = torch.randn(last.weights.shape, generator=generator)
        assert float((at * solver.loss.curvature_product(problem, at)).sum()) > 0


def test_a_problem_that_is_given_up_says_so_and_changes_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (x, y), (bad, _) = separable(0), separable(1)
    targets = torch.from_numpy(y)
    layers, penalties = [0, 1, 0], [1e-2, 1e-2, 1e-6]
    alone = Solver([Design(x)], targets, num_classes=4)
    expected = alone.solve([0, 0], [1e-2, 1e-6], start=alone.loss.zeros(2))
    solver = Solver([Design(x), Design(bad)], targets, num_classes=4)
    curvature_product = solver.loss.curvature_product

    def poisoned(problems: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        product = curvature_product(problems, vectors)
        product[problems == 1] *= -1.0
        return product

    monkeypatch.setattr(solver.loss, "curvature_product", poisoned)
    found = solver.solve(layers, penalties, start=solver.loss.zeros(3))
    assert found.converged.tolist() == [True, False, True]
    assert float(found.gap[1]) > 1e-5
    assert torch.isfinite(found.weights).all()
    assert torch.equal(found.weights[[0, 2]], expected.weights)
    assert torch.equal(found.objective[[0, 2]], expected.objective)


@pytest.mark.parametrize("wild", [np.inf, np.nan, 1e30, 1e5])
def test_a_start_worse_than_zero_is_left_for_it(wild: float) -> None:
    x, y = separable()
    solver = Solver([Design(x)], torch.from_numpy(y), num_classes=4)
    start = solver.loss.zeros(2)
    start[0] = wild
    start[0, :, 0] = -wild
    found = solver.solve([0, 0], [1e-3, 1e-3], start=start)
    assert found.converged.all()
    assert float(found.objective[0]) == pytest.approx(float(found.objective[1]), abs=1e-5)


@pytest.mark.parametrize("power", [-20, 20])
def test_the_scale_of_features_is_that_of_the_penalty(power: int) -> None:
    """w / s on s x costs what w on x does, if the penalty is s^2 as large."""
    x, y = separable(apart=1.0)
    targets, scale = torch.from_numpy(y), 2.0**power
    penalties = [1 / (c * len(y)) for c in GRID[::4]]
    plain = Solver([Design(x)], targets, num_classes=4).path(penalties)
    scaled = Solver([Design((scale * x).astype(np.float32))], targets, num_classes=4)
    for one, other in zip(plain, scaled.path([p * scale**2 for p in penalties]), strict=True):
        assert one.converged.all()
        assert other.converged.all()
        assert float(other.objective) == pytest.approx(float(one.objective), abs=2e-5, rel=4e-3)


def test_features_beyond_float32_are_given_up_and_change_no_other() -> None:
    x, y = separable(apart=1.0)
    designs = [Design((1e25 * x.astype(np.float64)).astype(np.float32)), Design(x)]
    solver = Solver(designs, torch.from_numpy(y), num_classes=4)
    for solution in solver.path([1 / (c * len(y)) for c in GRID[::8]]):
        assert solution.converged.tolist() == [False, True]
        assert torch.isfinite(solution.weights).all()


def test_a_tolerance_below_rounding_is_met_as_far_as_rounding_goes() -> None:
    x, y = separable(apart=1.0)
    solver = Solver([Design(x)], torch.from_numpy(y), num_classes=4, tolerance=1e-15)
    twin = Twin(x, y)
    for solution in solver.path([1e-1, 1e-3, 1e-5]):
        value, best = excess(solver, solution, 0, twin)
        assert solution.converged.all()
        assert value - best < 1e-6 * best


def test_a_solver_that_runs_out_of_steps_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = separable()
    solver = Solver([Design(x)], torch.from_numpy(y), num_classes=4)
    start = solver.loss.zeros(1)
    whole = solver.solve([0], [1e-6], start=start)
    monkeypatch.setattr("sdssl_bench.probes.logistic.solver.MAX_STEPS", 1)
    cut = solver.solve([0], [1e-6], start=start)
    assert (whole.converged.item(), cut.converged.item()) == (True, False)
    assert float(cut.gap[0]) > solver.tolerance
    assert float(cut.objective[0]) > float(whole.objective[0])


def test_a_head_that_misleads_on_unseen_rows_is_left_for_the_path_of_penalties(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Real features took more than 100 steps from such a head; so many as a path needs stand for them."""
    x, y = separable(rows=40, width=64, classes=10, apart=1.0)
    everything = np.arange(len(y))
    probe = Probe(
        layers=[1], train=[Joined([x])], test=[Joined([x])], train_targets=y, test_targets=y,
        rows=everything, classes=np.arange(10), validation=everything < 10, score_name="top1",
        tolerance=1e-5, device="cpu",
    )  # fmt: skip
    *_, fitted = probe.solver(everything[10:]).path([1 / (c * 30) for c in GRID])
    head = probe.solver(everything[10:]).designs[0].to_features(fitted.weights[0])
    choice = Choice(GRID[-1], {}, {}, head)
    (known,) = refitted(probe, [choice]).values()
    monkeypatch.setattr("sdssl_bench.probes.logistic.solver.MAX_STEPS", 3)
    direct = probe.solver(everything)
    start = direct.designs[0].from_features(*head)[None]
    assert not direct.solve([0], [known.penalty], start=start).converged[0]
    (found,) = refitted(probe, [choice]).values()
    assert found.gap <= 1e-3 * found.objective
    assert found.objective == pytest.approx(known.objective, rel=2e-3)
    assert found.penalty == known.penalty
