"""Whitening against the bare matrix products and eigen-decompositions it needs, in one run.

    python benchmarks/retrieval_whitening.py --layers 2

Target: 12 layers x 20,000 x 768 within 1.2 x of X'X, eigh and one product with the result, in float64.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sdssl_bench.retrieval.whitening import fit_whitening


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=768)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((options.rows, options.width)).astype(np.float32)
    wide = rows.astype(np.float64)
    fit_whitening(rows[:2000]).apply(rows[:2000])
    bare, ours = 0.0, 0.0
    for _ in range(options.layers):
        started = time.perf_counter()
        _, vectors = np.linalg.eigh(wide.T @ wide)
        wide @ vectors
        bare += time.perf_counter() - started
        started = time.perf_counter()
        fit_whitening(rows).apply(rows)
        ours += time.perf_counter() - started
    print(f"bare {bare:.2f} s, whitening {ours:.2f} s, ratio {ours / bare:.3f} (target 1.2)")


if __name__ == "__main__":
    main()
