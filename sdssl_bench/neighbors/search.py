"""Candidates of a nearest-neighbour search: float32 inner products, by torch or by faiss.

What comes out is as accurate as float32 allows and may order near-ties either way; exact.py settles
those. All searches are exhaustive: no approximate index, which would be a second variable in every
score. On an accelerator a piece of the bank goes there once and is searched where it lies; that its
products are float32 is checked, since an environment variable is enough to make them TensorFloat-32.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from math import isqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.errors import TaskError, UsageError, did_you_mean
from sdssl_bench.system import ThreadTeam

Search = Callable[
    [NDArray[np.float32], NDArray[np.float32], int], tuple[NDArray[np.float32], NDArray[np.int64]]
]
"""(queries [Q, D], bank [N, D], k) -> inner products [Q, k], descending, and ids [Q, k]."""

BACKENDS = ("auto", "torch", "faiss")
BLOCK_SCORES = 64 * 2**20
"""Scores that torch holds at a time (256 MB), all cores together."""
MOST_ROWS = 512
"""Queries of a core's block: no core is idle for long at the end."""
LEAST_ROWS = 64
"""Queries for each core from which on every core takes blocks of its own."""
DEVICE_BLOCK_SCORES = 256 * 2**20
"""Likewise on an accelerator (1 GB): it prefers few large products."""
FAISS_ROWS = 1_000
"""Queries from which on "auto" takes faiss on a CPU."""
BLOCK_QUERIES = 1_024
"""Queries whose products faiss computes together on a CPU; its own 4,096 take 4 % longer."""
MAX_K_FAISS = 2048
"""Neighbours that faiss selects on a GPU."""
CHECKED_ROWS = 256
"""Queries of a search on an accelerator whose best product is computed again in float64."""


def place_of(device: str | torch.device) -> torch.device:
    """The device meant; "auto" is cuda if there is one, else cpu."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def choose_search(backend: str, device: str | torch.device) -> Search:
    """The search that a backend's name stands for on a device.

    "auto" on a CPU follows a measurement: faiss is a tenth faster than torch with very many queries
    and up to 3 x slower with few. On an accelerator it is torch, for want of one: `make gpu` times
    both there. "faiss" searches on the GPU if the installed package can, else on the CPU.

    Raises:
        UsageError: for an unknown backend, or faiss where it is not installed.
    """
    if backend not in BACKENDS:
        raise UsageError(did_you_mean("backend", backend, BACKENDS))
    place = place_of(device)
    if backend == "faiss" and find_spec("faiss") is None:
        raise UsageError(
            "--backend faiss needs the package faiss, which is not installed. Install faiss-cpu or "
            "use --backend torch, which finds the same neighbours."
        )
    on_torch = partial(search_torch, device=place)
    if backend == "auto" and place.type == "cpu" and find_spec("faiss") is not None:
        return lambda queries, bank, k: (search_faiss if len(queries) >= FAISS_ROWS else on_torch)(
            queries, bank, k
        )
    if backend != "faiss":
        return on_torch if place.type == "cpu" else checked(on_torch)
    if place.type == "cuda" and faiss_has_gpu():
        return checked(partial(search_faiss_gpu, device=place))
    return search_faiss


def search_faiss(
    queries: NDArray[np.float32], bank: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Brute-force search of faiss on the CPU, without an index and so without a copy of the bank."""
    import faiss

    threads, block = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_query_bs
    faiss.omp_set_num_threads(torch.get_num_threads())
    faiss.cvar.distance_compute_blas_query_bs = BLOCK_QUERIES
    try:
        scores, ids = faiss.knn(queries, bank, k, metric=faiss.METRIC_INNER_PRODUCT)
    finally:
        faiss.omp_set_num_threads(threads)
        faiss.cvar.distance_compute_blas_query_bs = block
    return scores, ids


def faiss_has_gpu() -> bool:
    """Whether the installed faiss was built for GPUs and sees one."""
    import faiss

    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


@cache
def _gpu_resources(index: int) -> Any:
    """What faiss keeps on GPU `index` between searches: handles, 1.5 GB of scratch memory at most."""
    import faiss

    resources = faiss.StandardGpuResources()
    # 256 MB of the host's memory, for transfers that device tensors do without.
    resources.setPinnedMemory(0)
    return resources


def search_faiss_gpu(
    queries: NDArray[np.float32], bank: NDArray[np.float32], k: int, *, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Brute-force search of faiss on device tensors: no index, no copy. More than MAX_K_FAISS: torch's.

    faiss.contrib.torch_utils puts the work on torch's current stream, so nothing needs to be waited for.
    """
    if k > MAX_K_FAISS:
        return search_torch(queries, bank, k, device=device)
    import faiss
    import faiss.contrib.torch_utils  # teaches faiss.knn_gpu to read tensors

    with torch.cuda.device(device):
        index = torch.cuda.current_device()
        scores, ids = faiss.knn_gpu(
            _gpu_resources(index),
            torch.from_numpy(queries).to(device),
            torch.from_numpy(bank).to(device),
            k,
            metric=faiss.METRIC_INNER_PRODUCT,
            device=index,
        )
        return scores.cpu().numpy(), ids.cpu().numpy()


def search_torch(
    queries: NDArray[np.float32], bank: NDArray[np.float32], k: int, *, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Products and selection in blocks of queries, on any device; on a CPU a block per core."""
    columns = torch.from_numpy(bank).to(device).T
    rows = torch.from_numpy(queries).to(device)
    count, size = len(rows), len(bank)
    scores = torch.empty((count, k), device=device)
    ids = torch.empty((count, k), dtype=torch.int64, device=device)
    with ThreadTeam(device.type) as crew, full_precision(device):
        # Few queries are one block after the other, whose products the cores share.
        workers = crew.size if count >= LEAST_ROWS * crew.size else 1
        if device.type == "cpu":
            step = min(BLOCK_SCORES // (workers * size), MOST_ROWS, -(-count // workers))
        else:
            step = min(DEVICE_BLOCK_SCORES // size, count)
        step = max(step, 1)
        # Room for one block after the other: the pages of new memory cost as much as the selection.
        spare = deque(torch.empty((step, size), device=device) for _ in range(workers))

        def work(start: int) -> None:
            part, room = slice(start, start + step), spare.pop()
            products = torch.mm(rows[part], columns, out=room[: count - start])
            scores[part], ids[part] = largest(products, k)
            spare.append(room)

        starts = range(0, count, step)
        if workers > 1:
            crew.map(work, starts)
        else:
            for start in starts:
                work(start)
    return scores.cpu().numpy(), ids.cpu().numpy()


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row, descending, and their columns; equal values in any order.

    A row is cut into m groups of g, every m-th column a group. An entry among the k largest lies in
    a group whose maximum is among the k largest maxima, so the long search is over m maxima and k * g
    entries and not over all; together they are fewest where g is the root of N / k.

    Args:
        scores: [Q, N].
        k: 1..N.

    >>> largest(torch.tensor([[1.0, 5.0, 3.0, 4.0]]), 2)[1]
    tensor([[1, 3]])
    """
    wide = scores.shape[1]
    g = isqrt(wide // k)
    if g < 2:
        best, columns = scores.topk(k, dim=1)
        return best, columns
    m, whole = wide // g, wide // g * g
    groups = scores[:, :whole].unflatten(1, (g, m))
    chosen = groups.amax(1).topk(k, dim=1, sorted=False).indices
    values = groups.gather(2, chosen[:, None].expand(-1, g, -1)).flatten(1)
    best, place = torch.cat([values, scores[:, whole:]], 1).topk(k, dim=1)
    # Places are turned back into columns last: there are k of them, and not k * g.
    inside = place // k * m + chosen.gather(1, place % k)
    return best, torch.where(place < g * k, inside, place + (whole - g * k))


def checked(search: Search) -> Search:
    """The search, with an error in place of products that are less accurate than float32."""

    def run(
        queries: NDArray[np.float32], bank: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores, ids = search(queries, bank, k)
        some = np.unique(
            np.linspace(0, len(queries) - 1, min(CHECKED_ROWS, len(queries))).astype(int)
        )
        left = queries[some].astype(np.float64)
        right = bank[ids[some, 0]].astype(np.float64)
        off = np.abs(np.einsum("md,md->m", left, right) - scores[some, 0])
        lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        if (off > product_error(queries.shape[1]) * lengths).any():
            raise TaskError(
                "Neighbours are exact only if the device multiplies in float32, and it does not: a "
                f"product is off by {off.max():.1e}. Unset NVIDIA_TF32_OVERRIDE, or use --device cpu."
            )
        return scores, ids

    return run


def product_error(width: int) -> float:
    """By how much a float32 inner product of `width` terms may be off, relative to both lengths.

    Rounding errors of additions grow as the root of their number (Higham and Mary 2019, probabilistic
    bound; the factor 5 is generous even where every magnitude is the worst case), and the factors
    themselves are rounded.
    """
    return float((5 * width**0.5 + 4) * 2.0**-24)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """True float32 products: TensorFloat-32 and bfloat16 shortcuts would void the error bound."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
