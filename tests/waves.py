"""Deterministic features: g(n, d; a, b, c)[i, j] = sin(a i + b j + c i j), as in the golden vectors."""

import numpy as np
from numpy.typing import NDArray


def g(n: int, d: int, a: float, b: float, c: float) -> NDArray[np.float64]:
    """[n, d]."""
    i, j = np.arange(n)[:, None], np.arange(d)[None]
    return np.sin(a * i + b * j + c * i * j)


def unit_rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length 1."""
    return values / np.linalg.norm(values, axis=1, keepdims=True)
