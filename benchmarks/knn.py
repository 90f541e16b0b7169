"""k-NN of one layer, 50,000 x 10,000 x 384 with four k, against the bare search it is built on.

    python benchmarks/knn.py [--train 50000] [--test 10000] [--repeats 3]

Prints seconds of: top-k and votes of the suite; bare faiss IndexFlatIP.search(200); bare chunked
torch matmul and topk(200); the ratio to the faster of the two (target: at most 1.1); and the peak
memory above the banks (target: below 1 GB). Bare searches get unit vectors for free, make no vote,
and leave ties as they fall.
"""

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from sdssl_bench.neighbors.exact import top_k
from sdssl_bench.neighbors.vote import weighted_knn_vote

KS = (10, 20, 100, 200)
CLASSES = 100


def clustered(rows: int, width: int, *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit-variance clouds around class centres, off the origin like a ViT's class tokens."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, CLASSES, rows)
    centres = np.random.default_rng(0).normal(size=(CLASSES, width)).astype(np.float32)
    features = rng.standard_normal((rows, width), np.float32)
    features += centres[targets] + 2.0
    return features, targets


def best_of(repeats: int, work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def bare_torch(queries: NDArray[np.float32], bank: NDArray[np.float32]) -> None:
    columns = torch.from_numpy(bank).T
    for block in torch.from_numpy(queries).split(1000):
        (block @ columns).topk(max(KS), dim=1)


def bare_faiss(queries: NDArray[np.float32], bank: NDArray[np.float32]) -> None:
    import faiss

    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(bank)
    index.search(queries, max(KS))


def contenders(train: int, test: int, width: int) -> dict[str, Callable[[], object]]:
    """The suite's search and votes, and the bare searches, of the same features."""
    bank, bank_targets = clustered(train, width, seed=1)
    queries, targets = clustered(test, width, seed=2)

    def suite() -> None:
        scores, ids = top_k(queries, bank, k=max(KS))
        weighted_knn_vote(
            scores, bank_targets[ids], targets, ks=KS, temperature=0.07, num_classes=CLASSES
        )

    unit_bank = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    unit_queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    return {
        "suite": suite,
        "faiss": partial(bare_faiss, unit_queries, unit_bank),
        "torch": partial(bare_torch, unit_queries, unit_bank),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    works = contenders(arguments.train, arguments.test, arguments.width)
    start_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = {"suite": best_of(1, works["suite"])}
    above = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start_kib) / 2**20
    for _ in range(arguments.repeats):  # in turn, so that a slow minute hits all alike
        for name, work in works.items():
            seconds[name] = min(seconds.get(name, np.inf), best_of(1, work))
    print(f"suite, four k        {seconds['suite']:7.2f} s")
    for name in ("faiss", "torch"):
        print(f"bare {name} top-200   {seconds[name]:7.2f} s")
    ratio = seconds["suite"] / min(seconds["faiss"], seconds["torch"])
    print(f"ratio to the faster  {ratio:7.2f}    (target: at most 1.1)")
    print(f"memory above banks   {above:7.2f} GiB (target: below 0.93)")


if __name__ == "__main__":
    main()
