"""What a nearest-neighbour search will cost: from two slices of it, on vectors of its width."""

import time
from math import ceil

import numpy as np
import torch

from sdssl_bench.neighbors.exact import CHUNK_BYTES, DEVICE_QUERY_ROWS, QUERY_ROWS, top_k
from sdssl_bench.neighbors.search import BLOCK_SCORES, place_of

ROWS, QUERIES = 16_384, (128, 640)
"""Of the slices: enough rows for the speed of a large bank, and two numbers of queries."""


def top_k_cost(
    num_queries: int,
    num_rows: int,
    width: int,
    *,
    k: int,
    backend: str = "auto",
    device: str | torch.device = "cpu",
) -> float:
    """Seconds of `top_k`: preparing the bank grows with its rows, searching with rows times queries.

    Args:
        num_queries: Q.
        num_rows: N.
        width: D.
        k: neighbours.
        backend: as of `top_k`.
        device: as of `top_k`.
    """
    rng = np.random.default_rng(0)
    bank = rng.standard_normal((min(num_rows, max(ROWS, k)), width), np.float32)
    queries = rng.standard_normal((min(num_queries, QUERIES[1]), width), np.float32)
    few = max(1, len(queries) // 5)
    spent = []
    for count in (few, few, len(queries)):  # the first warms up
        started = time.perf_counter()
        top_k(queries[:count], bank, k=k, backend=backend, device=device)
        spent.append(time.perf_counter() - started)
    each = max(0.0, spent[2] - spent[1]) / max(1, len(queries) - few)
    fixed = max(0.0, spent[1] - each * few)
    group = QUERY_ROWS if place_of(device).type == "cpu" else DEVICE_QUERY_ROWS
    # A bank of several pieces is streamed again for every group of queries.
    times = ceil(num_queries / group) if 4 * num_rows * width > CHUNK_BYTES else 1
    return (fixed * times + each * num_queries) * num_rows / len(bank)


def top_k_bytes(num_queries: int, num_rows: int, width: int, *, k: int) -> int:
    """Memory of `top_k` beside its arguments: a piece of the bank, queries, products, candidates."""
    piece = min(CHUNK_BYTES, 4 * num_rows * (width + 1))
    queries = min(num_queries, QUERY_ROWS)
    products = 4 * min(BLOCK_SCORES, queries * (piece // (4 * (width + 1))))
    return piece + products + queries * (12 * width + 40 * k)
