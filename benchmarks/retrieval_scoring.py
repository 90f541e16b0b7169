"""CPU time of scoring 70 queries x 6,392 images under all three protocols.

    python benchmarks/retrieval_scoring.py

Target: under 50 ms of CPU, from similarities to Easy, Medium and Hard. Printed beside it: the same from
features (products included), and a full argsort per query for comparison.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sdssl_bench.metrics.average_precision import revisited_scores
from sdssl_bench.retrieval.database_ranks import labelled_positions

QUERIES, IMAGES, WIDTH, EASY, HARD, JUNK = 70, 6392, 384, 60, 60, 60


def cpu_milliseconds(run: Callable[[], object], repeats: int = 15) -> float:
    run()
    spent = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        spent.append(1e3 * (time.process_time() - started))
    return statistics.median(spent)


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((QUERIES, WIDTH)).astype(np.float32)
    database = rng.standard_normal((IMAGES, WIDTH)).astype(np.float32)
    labelled = [rng.permutation(IMAGES)[: EASY + HARD + JUNK] for _ in range(QUERIES)]

    def metrics(positions: list[np.ndarray]) -> object:
        parts = [np.split(p, [EASY, EASY + HARD]) for p in positions]
        return revisited_scores(
            [dict(zip(("easy", "hard", "junk"), p, strict=True)) for p in parts]
        )

    def from_features() -> object:
        return metrics([p[0] for p in labelled_positions(queries, [database], labelled=labelled)])

    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, database)]
    similarities = unit[0] @ unit[1].T

    def from_similarities() -> object:
        positions = []
        for row, wanted in zip(similarities, labelled, strict=True):
            ascending = np.sort(row)
            positions.append(IMAGES - np.searchsorted(ascending, row[wanted], side="right"))
        return metrics(positions)

    sorted_all = cpu_milliseconds(lambda: np.argsort(-similarities, axis=1, kind="stable"))
    print(
        f"ranking and all three protocols {cpu_milliseconds(from_similarities):.1f} ms (target 50)"
    )
    print(f"the same from features, exact   {cpu_milliseconds(from_features):.1f} ms")
    print(f"a full argsort alone            {sorted_all:.1f} ms")


if __name__ == "__main__":
    main()
