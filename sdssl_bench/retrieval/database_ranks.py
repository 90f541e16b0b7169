"""Where labelled images stand in the full ranking of a database, without keeping the ranking.

Retrieval scores need the position of every positive among all images, distractors included, so every
similarity counts and a top-k search is not enough. The database is streamed in pieces; a labelled
image's position is the number of images before it. Order is defined as in `neighbors.top_k`: cosine
in float64 rounded to 1e-13, descending, ties by lower row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdssl_bench.errors import TaskError

DECIMALS = 13
"""Cosines that agree to this many decimals are ties."""
TOLERANCE = 1e-12
"""A matrix product in float64 of unit vectors errs by far less; closer scores are compared exactly."""
BLOCK_ROWS = 2048
"""Database rows at a time."""
BLOCK_QUERIES = 512
"""Queries at a time: a block of similarities is 8 MB."""

Features = NDArray[np.floating[Any]]


def labelled_positions(
    queries: Features,
    parts: Sequence[Features],
    *,
    labelled: Sequence[NDArray[np.int64]],
    stops: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
) -> list[NDArray[np.int64]]:
    """0-based positions of each query's labelled rows in the ranking of the first rows of a database.

    Args:
        queries: [Q, D], of any length but finite.
        parts: arrays [N_i, D] in memory or mapped, one after the other: database, distractors.
        labelled: per query, the rows asked for, each < min(stops).
        stops: numbers of rows that make up the database, ascending, e.g. with 0, 100 and 1,000
            distractors; None is all rows only.
        device: where the products are computed.

    Returns:
        Per query, [S, P]: for every stop, the positions in the order of `labelled`.

    Raises:
        TaskError: for features that are not finite.
        ValueError: for stops that do not fit.
    """
    total = sum(len(part) for part in parts)
    ends = np.asarray([total] if stops is None else stops, np.int64)
    most = max((int(rows.max()) for rows in labelled if len(rows)), default=-1)
    if not len(ends) or ends[-1] > total or ends[0] <= most or (np.diff(ends) < 0).any():
        raise ValueError(f"stops {ends.tolist()} for {total} rows, labelled up to {most}")
    results: list[NDArray[np.int64]] = []
    for start in range(0, len(queries), BLOCK_QUERIES):
        group = slice(start, start + BLOCK_QUERIES)
        results += _positions(
            _Queries.of(queries[group]), parts, labelled[group], ends=ends, device=device
        )
    return results


@dataclass(frozen=True, eq=False)
class _Queries:
    """Queries ready to be compared.

    Attributes:
        raw: [Q, D] float64, as given.
        lengths: [Q].
        unit: [Q, D] float64, zero rows stay zero.
    """

    raw: NDArray[np.float64]
    lengths: NDArray[np.float64]
    unit: NDArray[np.float64]

    @staticmethod
    def of(features: Features) -> "_Queries":
        raw = features.astype(np.float64)
        lengths = _lengths(raw, "queries")
        return _Queries(raw, lengths, raw / np.where(lengths > 0, lengths, 1.0)[:, None])

    def cosines(self, query: int, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """[M] rounded cosines of one query with raw rows [M, D], each summed by itself."""
        # Row by row in a fixed order: equal rows get equal scores wherever they lie.
        dots = np.einsum("d,md->m", self.raw[query], rows)
        lengths = self.lengths[query] * np.sqrt(np.einsum("md,md->m", rows, rows))
        cosines = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
        out: NDArray[np.float64] = np.round(cosines, DECIMALS)
        return out


def _lengths(rows: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.sqrt(np.einsum("md,md->m", rows, rows))
    if not np.isfinite(lengths).all():
        raise TaskError(f"Features must be finite, found NaN or infinity in the {name}.")
    return lengths


def _positions(
    queries: _Queries,
    parts: Sequence[Features],
    labelled: Sequence[NDArray[np.int64]],
    *,
    ends: NDArray[np.int64],
    device: str | torch.device,
) -> list[NDArray[np.int64]]:
    thresholds = _thresholds(queries, parts, labelled)
    counts = [np.zeros((len(ends), len(rows)), np.int64) for rows in labelled]
    on_device = torch.from_numpy(queries.unit).to(device)
    for first, segment, raw in _pieces(parts, ends):
        lengths = _lengths(raw, "database")
        columns = torch.from_numpy(raw).to(device).T
        products = (on_device @ columns).cpu().numpy()
        products /= np.where(lengths > 0, lengths, 1.0)
        for query, cuts in enumerate(thresholds):
            if len(cuts):
                counts[query][segment] += _before(
                    products[query],
                    cuts,
                    rows=labelled[query] - first,
                    exact=lambda near, query=query, raw=raw: queries.cosines(query, raw[near]),
                )
    return [np.cumsum(found, axis=0) for found in counts]


def _thresholds(
    queries: _Queries, parts: Sequence[Features], labelled: Sequence[NDArray[np.int64]]
) -> list[NDArray[np.float64]]:
    """Per query, [P] exact similarities of its labelled rows."""
    # One buffer for all queries: fresh memory would cost more than the arithmetic.
    buffer = np.empty((max((len(rows) for rows in labelled), default=0), queries.raw.shape[1]))
    thresholds = []
    for query, wanted in enumerate(labelled):
        rows, offset = buffer[: len(wanted)], 0
        for part in parts:
            here = (wanted >= offset) & (wanted < offset + len(part))
            if here.any():
                rows[here] = part[wanted[here] - offset]
            offset += len(part)
        thresholds.append(queries.cosines(query, rows))
    return thresholds


def _before(
    products: NDArray[np.float64],
    cuts: NDArray[np.float64],
    *,
    rows: NDArray[np.int64],
    exact: Any,
) -> NDArray[np.int64]:
    """[P] how many of the piece's rows stand before each labelled row.

    Args:
        products: [n] similarities of the piece, as a matrix product gives them.
        cuts: [P] exact similarities of the labelled rows.
        rows: [P] their rows, counted from the piece's first.
        exact: maps row numbers of the piece to exact similarities.
    """
    ascending = np.sort(products)
    surely = len(ascending) - np.searchsorted(ascending, cuts + TOLERANCE, side="right")
    near = len(ascending) - np.searchsorted(ascending, cuts - TOLERANCE) - surely
    inside = (rows >= 0) & (rows < len(products))
    # A labelled row of this piece is near itself; anything else that near is settled exactly.
    for index in np.flatnonzero(near > inside):
        close = np.flatnonzero(np.abs(products - cuts[index]) <= TOLERANCE)
        scores = exact(close)
        surely[index] += int(
            ((scores > cuts[index]) | ((scores == cuts[index]) & (close < rows[index]))).sum()
        )
    counted: NDArray[np.int64] = surely
    return counted


def _pieces(
    parts: Sequence[Features], ends: NDArray[np.int64]
) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """(first row, index of the first stop that includes it, rows in float64 until the next piece)."""
    buffer = np.empty((BLOCK_ROWS, parts[0].shape[1]))
    offset = 0
    for part in parts:
        at = 0
        while at < len(part) and offset + at < ends[-1]:
            segment = int(np.searchsorted(ends, offset + at, side="right"))
            stop = min(at + BLOCK_ROWS, len(part), int(ends[segment]) - offset)
            piece = buffer[: stop - at]
            piece[:] = part[at:stop]
            yield offset + at, segment, piece
            at = stop
        offset += len(part)
