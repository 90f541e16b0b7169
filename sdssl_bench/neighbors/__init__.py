"""Nearest neighbours and their vote: exact, deterministic, independent of the backend.

In: features of a bank and of queries. Out: similarities and ids, votes for classes.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.neighbors import exact, search
    from sdssl_bench.neighbors.exact import top_k
    from sdssl_bench.neighbors.forecast import top_k_bytes, top_k_cost
    from sdssl_bench.neighbors.foreign_features import score_knn
    from sdssl_bench.neighbors.vote import soft_votes, weighted_knn_vote
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
