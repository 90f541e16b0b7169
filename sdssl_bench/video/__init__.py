"""Masks through a video by label propagation, and their J and F.

In: frames, the first frame's mask, an encoder. Out: masks and scores of every layer.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.video.affinities import SHAPES, Rule
    from sdssl_bench.video.folders import score_listed
    from sdssl_bench.video.forecast import videos_work
    from sdssl_bench.video.scores import VideoScorer
    from sdssl_bench.video.segmentation import Settings
    from sdssl_bench.video.summary import (
        GLOBAL,
        SequenceScores,
        object_statistics,
        per_object,
        summarise,
        write_csv,
    )
    from sdssl_bench.video.tables import object_tables, sequence_table
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
