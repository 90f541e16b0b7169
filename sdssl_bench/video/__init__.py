"""Masks through a video by label propagation, and their J and F.

In: frames, the first frame's mask, an encoder. Out: masks and scores of every layer.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.video.affinities import (
        SHAPES as SHAPES,
    )
    from sdssl_bench.video.affinities import (
        Rule as Rule,
    )
    from sdssl_bench.video.folders import (
        score_folders as score_folders,
    )
    from sdssl_bench.video.scores import (
        VideoScorer as VideoScorer,
    )
    from sdssl_bench.video.segmentation import (
        Settings as Settings,
    )
    from sdssl_bench.video.summary import (
        GLOBAL as GLOBAL,
    )
    from sdssl_bench.video.summary import (
        SequenceScores as SequenceScores,
    )
    from sdssl_bench.video.summary import (
        csv_files as csv_files,
    )
    from sdssl_bench.video.summary import (
        object_statistics as object_statistics,
    )
    from sdssl_bench.video.summary import (
        per_object as per_object,
    )
    from sdssl_bench.video.summary import (
        summarise as summarise,
    )
    from sdssl_bench.video.tables import (
        sequence_table as sequence_table,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
