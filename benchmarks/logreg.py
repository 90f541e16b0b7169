"""Logistic regression of all layers and penalties at once, against scikit-learn looped over them.

    python benchmarks/logreg.py --threads 2               12 layers x 45 values, 6,000 x 384, 100 classes
    python benchmarks/logreg.py --layers 2 --values 9     short: a sample of the same problems
    python benchmarks/logreg.py --features bank.npz       real features: X [L, N, D], y [N]

Target: at least 20 x faster. Both solve to an objective at most 1e-4 above the optimum, scikit-learn's
L-BFGS at the loosest of the tolerances 1e-3 ... 1e-7 that reaches it for the problem, which favours it:
a user does not know it. Only that one fit is counted, none of the search. With --values below 45 or
--sklearn-layers, scikit-learn's time is that of a sample, spread evenly over the sweep and scaled to all
problems; ours is always measured whole. The ratio of processor seconds is that of a quiet machine even
on a busy one.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from sdssl_bench.probes.linear.design import Design
from sdssl_bench.probes.linear.sweep import GRID
from sdssl_bench.probes.logistic.solver import Solver

ALLOWED = 1e-4
TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)


def synthetic(layers: int, rows: int, width: int, classes: int) -> NDArray[np.float32]:
    """Features with a decaying spectrum, classes better separated in later layers."""
    rng = np.random.default_rng(0)
    y = np.arange(rows) % classes
    banks = []
    for layer in range(layers):
        basis = np.linalg.qr(rng.normal(size=(width, width)))[0] * np.arange(1, width + 1) ** -0.5
        centres = rng.normal(size=(classes, width)) * (0.3 + 0.7 * layer / max(layers - 1, 1))
        x = (centres[y] + rng.normal(size=(rows, width))) @ basis
        banks.append(x / x.std() + rng.normal(size=width))
    return np.stack(banks).astype(np.float32)


def clocks() -> NDArray[np.float64]:
    """Seconds on the wall and of all processors."""
    return np.array([time.perf_counter(), time.process_time()])


def excess(
    x: NDArray[np.float32], y: NDArray[np.int64], model: LogisticRegression, c: float
) -> float:
    """Objective of a fitted scikit-learn model."""
    logits = x.astype(np.float64) @ model.coef_.T + model.intercept_
    losses = logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]
    return float(losses.mean() + 0.5 / (c * len(y)) * (model.coef_**2).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--values", type=int, default=45, help="penalties scikit-learn solves")
    parser.add_argument("--sklearn-layers", type=int, default=0, help="0: all layers")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--block", type=int, default=1)
    parser.add_argument("--features", help="npz with X [L, N, D] and y [N]")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.features:
        with np.load(args.features) as file:
            banks, y = file["X"].astype(np.float32)[: args.layers], file["y"].astype(np.int64)
    else:
        banks = synthetic(args.layers, args.rows, args.width, args.classes)
        y = np.arange(args.rows) % args.classes
    rows, classes = len(y), int(y.max()) + 1
    print(
        f"{len(banks)} layers x {len(GRID)} penalties, {banks.shape[1:]} features, {classes} classes"
    )

    started = clocks()
    solver = Solver([Design(x) for x in banks], torch.from_numpy(y), num_classes=classes)
    ours: dict[tuple[int, float], float] = {}
    for solution in solver.path([1 / (c * rows) for c in GRID], block=args.block):
        for place, key in enumerate(zip(solution.layers, solution.penalties, strict=True)):
            ours[key] = float(solution.objective[place])
    spent = clocks() - started
    print(
        f"ours: {spent[0]:.1f} s, {spent[1]:.1f} of processors, for {len(ours)} problems, "
        f"{solver.loss.products} products"
    )

    sample = [
        GRID[i] for i in np.unique(np.linspace(0, len(GRID) - 1, args.values).round().astype(int))
    ]
    chosen_layers = np.unique(
        np.linspace(0, len(banks) - 1, args.sklearn_layers or len(banks)).round().astype(int)
    )
    theirs, worst = np.zeros(2), 0.0
    for layer in chosen_layers.tolist():
        for c in sample:
            seconds, over, tolerance, steps = fit(
                banks[layer], y, c, ours[layer, 1 / (c * rows)], args
            )
            theirs += seconds
            # Ours minus the better of the two: how far we are from the best that is known.
            worst = max(worst, -over)
            print(
                f"  layer {layer + 1:2d} C {c:.1e}: scikit-learn {seconds[0]:7.2f} s, {steps:4d} steps, "
                f"tol {tolerance:.0e}, objective {over:+.1e} to ours",
                flush=True,
            )
    solved = len(chosen_layers) * len(sample)
    whole = theirs * len(ours) / solved
    print(
        f"scikit-learn: {theirs[0]:.1f} s, {theirs[1]:.1f} of processors, for {solved} problems; "
        f"{whole[0]:.1f} and {whole[1]:.1f} s "
        + ("measured" if solved == len(ours) else f"scaled to all {len(ours)}")
    )
    print(f"ours is at most {worst:.1e} above scikit-learn's objective (allowed {ALLOWED:.0e})")
    print(
        f"ratio {whole[0] / spent[0]:.1f} of time, {whole[1] / spent[1]:.1f} of processors (target 20)"
    )


def fit(
    x: NDArray[np.float32], y: NDArray[np.int64], c: float, ours: float, args: argparse.Namespace
) -> tuple[NDArray[np.float64], float, float, int]:
    """Seconds on both clocks, objective minus ours, tolerance, steps: of the first fit that will do."""
    x64 = x.astype(np.float64)
    for tolerance in TOLERANCES:
        model = LogisticRegression(C=c, tol=tolerance, max_iter=5000)
        started = clocks()
        with threadpool_limits(args.threads), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(x64, y)
        seconds = clocks() - started
        over = excess(x, y, model, c) - ours
        if over <= ALLOWED:
            break
    return seconds, over, tolerance, int(model.n_iter_[0])


if __name__ == "__main__":
    main()
