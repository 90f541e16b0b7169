"""What representations are like, layer by layer: similarity, alignment, uniformity, rank, maps.

In: feature banks. Out: numbers that describe and have no better or worse, and pictures.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.analysis import layer_scores as layer_scores
    from sdssl_bench.analysis import layer_similarity as layer_similarity
    from sdssl_bench.analysis import pairs as pairs
    from sdssl_bench.analysis import samples as samples
    from sdssl_bench.analysis.cka import (
        LAYER_METRIC as LAYER_METRIC,
    )
    from sdssl_bench.analysis.panels import (
        Panel as Panel,
    )
    from sdssl_bench.analysis.panels import (
        write_panels as write_panels,
    )
    from sdssl_bench.analysis.rank import (
        rankme as rankme,
    )
    from sdssl_bench.analysis.rank import (
        singular_values as singular_values,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
