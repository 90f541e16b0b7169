"""What logistic regression will cost, roughly: how many products it takes is known only when it is solved."""

import time
from collections.abc import Sequence

import numpy as np
import torch

from sdssl_bench.datasets import ClassificationData, LabelDraws
from sdssl_bench.encoders import Encoder
from sdssl_bench.probes.linear.design import Design
from sdssl_bench.probes.linear.inputs import parts_of
from sdssl_bench.probes.linear.sweep import GRID
from sdssl_bench.probes.logistic.solver import Solver
from sdssl_bench.system import Work, resolve_device
from sdssl_bench.task import RunContext, limited_indices

ROWS = 4096
"""Of the slice."""
TIMED = 4
"""Values of C that it is solved for."""
PRODUCTS = 30
"""With all rows, for one C of one layer: 12 to 80 were seen, fewest where classes are easily parted."""
TRIED = {"grid": len(GRID) + 1, "clip": 14}
"""Problems of a layer, the last one on all rows."""


def logreg_work(
    encoder: Encoder,
    data: ClassificationData,
    layers: Sequence[int],
    *,
    kind: str,
    sweep: str,
    draws: LabelDraws | None = None,
    ctx: RunContext,
) -> Work:
    """What `score_logreg_layers` would do with the same arguments."""
    rows, tests = (len(limited_indices(len(s), ctx.limit)) for s in (data.train, data.test))
    tries = 1
    if draws is not None:
        rows, tries = draws.size, len(draws.rows)
    widths = [sum(encoder.dims[n - 1] for n, _ in parts_of(kind, layer)) for layer in layers]
    classes = data.train.num_classes

    def measure() -> float:
        each = {width: _product(rows, width, classes, ctx=ctx) for width in set(widths)}
        return sum(each[width] for width in widths) * tries * TRIED[sweep] * PRODUCTS

    return Work(
        what="logistic regression",
        items=len(layers),
        unit="layers",
        measure=measure,
        rough="logistic regression takes as many steps as the features demand: three times less or more",
        memory=4 * sum(widths) * (2 * rows + tests),
    )


def _product(num_rows: int, width: int, classes: int, *, ctx: RunContext) -> float:
    """Seconds of a product with all rows of a layer, from solving a few easy problems on a slice."""
    rng = np.random.default_rng(0)
    count = max(classes, min(num_rows, ROWS))
    features = rng.standard_normal((count, width), np.float32)
    targets = torch.arange(count) % classes
    design = Design(features, device=resolve_device(ctx.device))
    solver = Solver([design], targets, num_classes=classes)
    started = time.perf_counter()
    for _ in solver.path([1.0 / (c * count) for c in GRID[len(GRID) // 2 :][:TIMED]]):
        pass
    return (time.perf_counter() - started) / solver.loss.products * num_rows / count
