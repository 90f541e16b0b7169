"""What ranking a database will cost: one layer's worth, on vectors of its shape and the true ground truth."""

import time
from collections.abc import Sequence

import numpy as np

from sdssl_bench.datasets import GroundTruth
from sdssl_bench.retrieval.revisited import score_layer
from sdssl_bench.system import Work, resolve_device
from sdssl_bench.task import RunContext

DISTRACTORS = 20_000
"""Ranked to see how a layer's time grows with them."""


def ranking_work(
    widths: Sequence[int],
    truth: GroundTruth,
    *,
    distractors: int,
    curve: Sequence[int],
    ctx: RunContext,
) -> Work:
    """What `score_layer` would do for layers of these widths."""
    database, queries = len(truth.database), len(truth.queries)

    def measure() -> float:
        each = {width: _layer(width) for width in set(widths)}
        return sum(each[width] for width in widths)

    def _layer(width: int) -> float:
        rng = np.random.default_rng(0)
        some = min(distractors, DISTRACTORS)
        rows, *parts = (
            rng.standard_normal((count, width), np.float32)
            for count in (queries, database, *([some] if some else []))
        )
        started = time.perf_counter()
        score_layer(rows, parts, truth, curve=curve, device=resolve_device(ctx.device))
        return (time.perf_counter() - started) * (database + distractors) / (database + some)

    return Work(
        what="ranking",
        items=len(widths),
        unit="layers",
        measure=measure,
        memory=4 * max(widths) * (queries + database + distractors),
    )
