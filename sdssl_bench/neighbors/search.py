"""Candidates of a nearest-neighbour search: float32 inner products, by torch or by faiss.

What comes out is as accurate as float32 allows and may order near-ties either way; exact.py settles
those. Both searches are exhaustive: no approximate index, which would be a second variable in every
score.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from sdssl_bench.errors import UsageError, did_you_mean

Search = Callable[
    [NDArray[np.float32], NDArray[np.float32], int], tuple[NDArray[np.float32], NDArray[np.int64]]
]
"""(queries [Q, D], bank [N, D], k) -> inner products [Q, k], descending, and ids [Q, k]."""

BACKENDS = ("auto", "torch", "faiss")
BLOCK_SCORES = 32 * 2**20
"""Scores that torch holds at a time (128 MB)."""


def choose_search(backend: str, device: str | torch.device) -> Search:
    """The search that a backend's name stands for on a device.

    "auto" follows a measurement: faiss fuses product and selection, which on a CPU is 1.5 x faster
    than torch; on an accelerator torch is on the spot.

    Raises:
        UsageError: for an unknown backend, or faiss where it is not installed.
    """
    if backend not in BACKENDS:
        raise UsageError(did_you_mean("backend", backend, BACKENDS))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(device)
    has_faiss = find_spec("faiss") is not None
    if backend == "faiss" and not has_faiss:
        raise UsageError(
            "--backend faiss needs the package faiss, which is not installed. Install faiss-cpu or "
            "use --backend torch, which finds the same neighbours."
        )
    if backend == "faiss" or (backend == "auto" and place.type == "cpu" and has_faiss):
        return search_faiss
    return lambda queries, bank, k: search_torch(queries, bank, k, device=place)


def search_faiss(
    queries: NDArray[np.float32], bank: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Brute-force search of faiss on the CPU, without an index and so without a copy of the bank."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(torch.get_num_threads())
    try:
        scores, ids = faiss.knn(queries, bank, k, metric=faiss.METRIC_INNER_PRODUCT)
    finally:
        faiss.omp_set_num_threads(threads)
    return scores, ids


def search_torch(
    queries: NDArray[np.float32], bank: NDArray[np.float32], k: int, *, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Products and selection in blocks of queries, on any device."""
    columns = torch.from_numpy(bank).to(device).T
    rows = max(1, BLOCK_SCORES // len(bank))
    scores = np.empty((len(queries), k), np.float32)
    ids = np.empty((len(queries), k), np.int64)
    with full_precision():
        for start in range(0, len(queries), rows):
            block = torch.from_numpy(queries[start : start + rows]).to(device) @ columns
            best = block.topk(k, dim=1)
            scores[start : start + rows] = best.values.cpu().numpy()
            ids[start : start + rows] = best.indices.cpu().numpy()
    return scores, ids


@contextmanager
def full_precision() -> Iterator[None]:
    """True float32 products: TensorFloat-32 and bfloat16 shortcuts would void the error bound."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
