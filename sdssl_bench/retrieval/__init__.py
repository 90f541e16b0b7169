"""Ranking a database: revisited Oxford and Paris, copies among distractors, whitening.

In: features of queries and database. Out: average precisions of one layer, and pictures of rankings.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.retrieval import gallery as gallery
    from sdssl_bench.retrieval.copy_detection import (
        CopyFeatures as CopyFeatures,
    )
    from sdssl_bench.retrieval.copy_detection import (
        CopyScores as CopyScores,
    )
    from sdssl_bench.retrieval.copy_detection import (
        score_copies as score_copies,
    )
    from sdssl_bench.retrieval.foreign_features import (
        score_copydays as score_copydays,
    )
    from sdssl_bench.retrieval.foreign_features import (
        score_retrieval as score_retrieval,
    )
    from sdssl_bench.retrieval.gallery import (
        Gallery as Gallery,
    )
    from sdssl_bench.retrieval.gallery import (
        write_gallery as write_gallery,
    )
    from sdssl_bench.retrieval.revisited import (
        RevisitedScores as RevisitedScores,
    )
    from sdssl_bench.retrieval.revisited import (
        score_layer as score_layer,
    )
    from sdssl_bench.retrieval.whitening import (
        PRESETS as PRESETS,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
