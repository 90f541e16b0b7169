"""Ranking a database: revisited Oxford and Paris, copies among distractors, whitening.

In: features of queries and database. Out: average precisions of one layer, and pictures of rankings.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.retrieval import gallery
    from sdssl_bench.retrieval.copy_detection import CopyFeatures, readable, score_copies
    from sdssl_bench.retrieval.forecast import ranking_work
    from sdssl_bench.retrieval.foreign_features import (
        precision_table,
        score_copydays,
        score_retrieval,
    )
    from sdssl_bench.retrieval.revisited import score_layer
    from sdssl_bench.retrieval.whitening import PRESETS
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
