"""Nearest neighbours and their vote: exact, deterministic, independent of the backend."""

from sdssl_bench.neighbors.exact import top_k
from sdssl_bench.neighbors.search import BACKENDS
from sdssl_bench.neighbors.vote import class_votes, weighted_knn_vote

__all__ = ["BACKENDS", "class_votes", "top_k", "weighted_knn_vote"]
