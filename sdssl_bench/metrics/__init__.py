"""Scores as pure functions of arrays: accuracies, average precision, J and F, IoU.

In: ranks, masks, scores. Out: fractions in [0, 1]. Each has a brute-force twin in the tests.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.metrics.accuracy import class_ranks, mean_per_class
    from sdssl_bench.metrics.average_precision import (
        KS,
        ProtocolScores,
        micro_ap,
        revisited_scores,
        single_ap,
    )
    from sdssl_bench.metrics.overlap import class_counts, class_iou, overlap_scores
    from sdssl_bench.metrics.region_boundary import as_array, boundary, score_frame
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
