"""What representations are like, layer by layer: similarity, alignment, uniformity, rank, maps.

In: feature banks. Out: numbers that describe and have no better or worse, and pictures.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.analysis import (
        cka,
        embedding,
        layer_scores,
        layer_similarity,
        pairs,
        rank,
        samples,
        uniformity,
    )
    from sdssl_bench.analysis.cka import LAYER_METRIC
    from sdssl_bench.analysis.layer_similarity import LayerSimilarity
    from sdssl_bench.analysis.panels import Panel, write_panels
    from sdssl_bench.analysis.rank import rankme, singular_values
    from sdssl_bench.analysis.samples import Sample
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
