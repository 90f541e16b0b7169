"""Exact k nearest neighbours by cosine, the same ids from every backend.

The answer is defined without reference to any backend: cosines of the stored values in float64,
rounded to 1e-13, in descending order, ties by lower index. A float32 search (torch or faiss)
proposes candidates; wherever its rounding error could change the order, the float64 cosine decides.

Search and error bound work on the bank minus its mean: subtracting one vector from every bank row
shifts all scores of a query alike, and the rounding error then scales with the spread of the bank.
Early layers, whose class tokens differ in the fourth digit, stay as cheap and exact as late ones.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdssl_bench.errors import TaskError, UsageError
from sdssl_bench.neighbors.search import Search, choose_search, place_of, product_error
from sdssl_bench.system import ThreadTeam

QUERY_ROWS = 16_384
"""Queries searched together; the bank is streamed once for each such group."""
DEVICE_QUERY_ROWS = 65_536
"""Likewise on an accelerator, which waits for the stream: the queries of ImageNet are one group."""
CHUNK_BYTES = 128 * 2**20
"""Size of a float32 piece of the bank."""
BLOCK_ROWS = 512
"""Rows in float64 that a thread works on at a time: a block stays near its core's cache."""
JOB_BLOCKS = 16
"""Such blocks that a thread takes at once where a block is little work."""
SAMPLE_ROWS = 2_048
"""Rows whose mean is taken for the bank's."""
OPEN_SCORES = 4 * 2**20
"""Scores looked at together when the boundary at k is open for some queries."""
DECIMALS = 13
"""Cosines that agree to this many decimals are ties; evaluating them in float64 errs by 1e-15."""
PAD = 16
"""Candidates beyond k, so that near-ties across the boundary at k rarely need a second search."""

Features = NDArray[np.floating[Any]]
Neighbors = tuple[NDArray[np.float32], NDArray[np.int64]]


def top_k(
    queries: Features,
    bank: Features,
    *,
    k: int,
    backend: str = "auto",
    device: str | torch.device = "cpu",
) -> Neighbors:
    """The k bank rows of highest cosine for every query.

    Uses less than 1 GB beyond its arguments and results; a memory-mapped bank is streamed.

    Args:
        queries: [Q, D] float32 or float16, of any length but finite.
        bank: [N, D] likewise, in memory or mapped.
        k: 1..N.
        backend: "torch", "faiss" or "auto", the faster one. All return the same ids.
        device: where to search; "auto" = cuda if there is one, else cpu. A faiss without GPU support
            searches on the CPU.

    Returns:
        scores [Q, k] float32, descending, and ids [Q, k] of bank rows, ties by lower id. A zero
        vector has cosine 0 with everything.

    Raises:
        UsageError: for k outside 1..N or a backend that is unknown or not installed.
        TaskError: for features that are not finite, or a device whose products are not float32.
        ValueError: for shapes that do not fit.
    """
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(f"expected [Q, D] and [N, D], found {queries.shape} and {bank.shape}")
    if not 1 <= k <= len(bank):
        raise UsageError(
            f"The number of neighbours k must be between 1 and the bank's rows: k = {k}, the bank "
            f"has {len(bank)}."
        )
    search = choose_search(backend, device)
    scores = np.empty((len(queries), k), np.float32)
    ids = np.empty((len(queries), k), np.int64)
    step = QUERY_ROWS if place_of(device).type == "cpu" else DEVICE_QUERY_ROWS
    with ThreadTeam("cpu") as crew:
        centred = _CentredBank(bank, crew)
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            scores[part], ids[part] = _search_group(queries[part], centred, k, search=search)
    return scores, ids


def _lengths(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = np.sqrt(np.einsum("md,md->m", rows, rows))
    return out


def _unit_rows(rows: Features, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows of length one in float64 (zero rows stay zero), and the lengths they had."""
    out = rows.astype(np.float64)
    lengths = _lengths(out)
    if not np.isfinite(lengths).all():
        first = int(np.flatnonzero(~np.isfinite(lengths))[0])
        raise TaskError(
            f"Features must be finite, found NaN or infinity in the {name} (first in row {first} of "
            f"a block of {len(rows)})."
        )
    out /= np.where(lengths > 0, lengths, 1.0)[:, None]
    return out, lengths


class _CentredBank:
    """Streams the bank as float32 rows [b - m, m (b - m)] of unit rows b and a constant vector m.

    For a unit query q the product of [q - m, 1] with such a row is q b - q m.
    """

    def __init__(self, bank: Features, crew: ThreadTeam) -> None:
        self.rows = bank
        self.crew = crew
        """Threads that share the work in float64, block by block."""
        sample = bank[np.unique(np.linspace(0, len(bank) - 1, SAMPLE_ROWS).astype(np.int64))]
        # Any constant vector keeps the order; the mean of a sample is near enough to the centre.
        self.mean = _unit_rows(sample, "bank")[0].mean(0)
        self.lengths = np.zeros(len(bank))
        """[N] lengths of the rows as given."""
        self.radius = 0.0
        """Largest |b - m| of the rows streamed so far."""
        self.tilt = 0.0
        """Largest |m (b - m)| likewise."""
        self._only_chunk: NDArray[np.float32] | None = None

    def chunks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(first row, [n, D + 1]) pieces of the bank in order."""
        if self._only_chunk is not None:
            yield 0, self._only_chunk
            return
        num_rows, width = self.rows.shape
        size = max(1, CHUNK_BYTES // (4 * width))
        for start in range(0, num_rows, size):
            chunk = np.empty((min(size, num_rows - start), width + 1), np.float32)
            blocks = range(0, len(chunk), BLOCK_ROWS)
            for radius, tilt in self.crew.map(partial(self._fill, chunk, start), blocks):
                self.radius, self.tilt = max(self.radius, radius), max(self.tilt, tilt)
            if len(chunk) == num_rows:
                self._only_chunk = chunk
            yield start, chunk

    def _fill(self, chunk: NDArray[np.float32], start: int, at: int) -> tuple[float, float]:
        """Write one block of a piece that begins at row `start`; its radius and tilt."""
        part = chunk[at : at + BLOCK_ROWS]
        rows = slice(start + at, start + at + len(part))
        block, self.lengths[rows] = _unit_rows(self.rows[rows], "bank")
        block -= self.mean
        tilts = block @ self.mean
        part[:, :-1] = block
        part[:, -1] = tilts
        return float(_lengths(block).max()), float(np.abs(tilts).max())


class _Queries:
    """Queries ready for a centred bank.

    Attributes:
        raw: [Q, D] as given.
        lengths: [Q] their lengths.
        lifted: [Q, D + 1] float32 [q - m, 1] of the unit queries q.
        shift: [Q] q m, to be added to products with the centred bank.
        spread: [Q] |q - m|.
    """

    def __init__(self, raw: Features, bank: _CentredBank) -> None:
        self.raw = raw
        unit, self.lengths = _unit_rows(raw, "queries")
        self.shift = unit @ bank.mean
        unit -= bank.mean
        self.spread = _lengths(unit)
        self.lifted = np.ones((len(raw), raw.shape[1] + 1), np.float32)
        self.lifted[:, :-1] = unit

    def error(self, bank: _CentredBank) -> NDArray[np.float64]:
        """[Q] by how much a float32 product with a centred row may be off."""
        relative = product_error(self.raw.shape[1])
        out: NDArray[np.float64] = relative * (self.spread * bank.radius + bank.tilt)
        return out


def _search_group(raw: Features, bank: _CentredBank, k: int, *, search: Search) -> Neighbors:
    queries = _Queries(raw, bank)
    found, ids = _candidates(queries, bank, min(len(bank.rows), k + PAD), search=search)
    gap = 2 * queries.error(bank) + 2 * 10.0**-DECIMALS
    scores = found + queries.shift[:, None]
    _settle_order(scores, ids, k, gap=gap, queries=queries, bank=bank)
    # An encoder that gives every image one vector, but for rounding, has nothing but ties.
    tied = queries.spread * bank.radius + bank.tilt < 10.0**-DECIMALS
    scores[tied], ids[tied] = queries.shift[tied, None], np.arange(ids.shape[1])
    if ids.shape[1] < len(bank.rows):
        # A row that is no candidate scores at most the last candidate: can it belong to the first k?
        lowest = found[:, k - 1] - gap
        open_rows = np.flatnonzero((found[:, -1] >= lowest) & ~tied)
        step = max(1, OPEN_SCORES // len(bank.rows))
        for start in range(0, len(open_rows), step):
            rows = open_rows[start : start + step]
            scores[rows, :k], ids[rows, :k] = _search_exactly(
                rows, k, lowest=lowest[rows], queries=queries, bank=bank
            )
    return scores[:, :k].astype(np.float32), ids[:, :k]


def _candidates(
    queries: _Queries, bank: _CentredBank, wanted: int, *, search: Search
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The `wanted` best rows by float32 product with the centred bank, best first."""
    values, rows = torch.empty(0), torch.empty(0, dtype=torch.int64)
    for start, chunk in bank.chunks():
        found = search(queries.lifted, chunk, min(wanted, len(chunk)))
        scores, ids = torch.from_numpy(found[0]), torch.from_numpy(found[1])
        if start == 0:
            values, rows = scores, ids
            continue
        values, rows = torch.cat([values, scores], 1), torch.cat([rows, ids + start], 1)
        values, order = values.topk(min(wanted, values.shape[1]), dim=1)
        rows = rows.gather(1, order)
    return values.numpy().astype(np.float64), rows.numpy()


def _settle_order(
    scores: NDArray[np.float64],
    ids: NDArray[np.int64],
    k: int,
    *,
    gap: NDArray[np.float64],
    queries: _Queries,
    bank: _CentredBank,
) -> None:
    """Order candidates whose float32 scores are too close to tell by their float64 cosine."""
    close = scores[:, :-1] - scores[:, 1:] <= gap[:, None]
    unsure = np.zeros(scores.shape, dtype=bool)
    unsure[:, 1:] = close
    unsure[:, :-1] |= close
    # Beyond k only what is linked back to the first k, without a gap, can still enter them.
    unsure[:, k:] &= np.logical_and.accumulate(close[:, k - 1 :], axis=1)
    rows, columns = np.nonzero(unsure)
    scores[rows, columns] = _exact_scores(rows, ids[rows, columns], queries=queries, bank=bank)
    falls = scores[:, :-1] - scores[:, 1:]
    wrong = np.flatnonzero(((falls < 0) | ((falls == 0) & (ids[:, :-1] > ids[:, 1:]))).any(axis=1))
    order = np.lexsort((ids[wrong], -scores[wrong]), axis=-1)
    scores[wrong] = np.take_along_axis(scores[wrong], order, axis=1)
    ids[wrong] = np.take_along_axis(ids[wrong], order, axis=1)


def _exact_scores(
    rows: NDArray[np.int64], ids: NDArray[np.int64], *, queries: _Queries, bank: _CentredBank
) -> NDArray[np.float64]:
    """[M] float64 cosines of query rows[m] with bank row ids[m], 0 where one of them is zero."""
    dots = np.empty(len(rows))

    def multiply(first: int) -> None:
        for start in range(first, min(first + step, len(rows)), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            # Each row is summed by itself in a fixed order: equal rows get equal sums wherever they lie.
            dots[part] = np.einsum(
                "md,md->m",
                queries.raw.take(rows[part], axis=0).astype(np.float64),
                bank.rows.take(ids[part], axis=0).astype(np.float64),
            )

    step = JOB_BLOCKS * BLOCK_ROWS
    bank.crew.map(multiply, range(0, len(rows), step))
    lengths = queries.lengths[rows] * bank.lengths[ids]
    np.divide(dots, lengths, out=dots, where=lengths > 0)
    return np.round(dots, DECIMALS)


def _search_exactly(
    rows: NDArray[np.int64],
    k: int,
    *,
    lowest: NDArray[np.float64],
    queries: _Queries,
    bank: _CentredBank,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The first k of some queries, from every bank row that may reach their `lowest` score."""
    parts = []
    for start, chunk in bank.chunks():
        which, columns = np.nonzero(queries.lifted[rows] @ chunk.T >= lowest[:, None])
        parts.append((which, columns + start))
    which = np.concatenate([part[0] for part in parts])
    ids = np.concatenate([part[1] for part in parts])
    scores = _exact_scores(rows[which], ids, queries=queries, bank=bank)
    order = np.lexsort((ids, -scores, which))
    first = np.searchsorted(which[order], np.arange(len(rows)))
    taken = order[first[:, None] + np.arange(k)]
    return scores[taken], ids[taken]
