"""Scores as pure functions of arrays: accuracies, average precision, J and F.

In: ranks, masks, scores. Out: fractions in [0, 1]. Each has a brute-force twin in the tests.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.metrics.accuracy import (
        class_ranks as class_ranks,
    )
    from sdssl_bench.metrics.accuracy import (
        mean_per_class as mean_per_class,
    )
    from sdssl_bench.metrics.average_precision import (
        KS as KS,
    )
    from sdssl_bench.metrics.average_precision import (
        ProtocolScores as ProtocolScores,
    )
    from sdssl_bench.metrics.average_precision import (
        micro_ap as micro_ap,
    )
    from sdssl_bench.metrics.average_precision import (
        revisited_scores as revisited_scores,
    )
    from sdssl_bench.metrics.average_precision import (
        single_ap as single_ap,
    )
    from sdssl_bench.metrics.region_boundary import (
        as_array as as_array,
    )
    from sdssl_bench.metrics.region_boundary import (
        boundary as boundary,
    )
    from sdssl_bench.metrics.region_boundary import (
        boundary_f as boundary_f,
    )
    from sdssl_bench.metrics.region_boundary import (
        jaccard as jaccard,
    )
    from sdssl_bench.metrics.region_boundary import (
        region_and_boundary as region_and_boundary,
    )
    from sdssl_bench.metrics.region_boundary import (
        score_frame as score_frame,
    )
    from sdssl_bench.metrics.region_boundary import (
        tolerance as tolerance,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
