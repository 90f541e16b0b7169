"""DAVIS-2017 scores: pure functions on masks, folders of masks, palette PNGs and the official tables.

    from sdssl_bench.davis import score_sequence, summarise
    scores = [score_sequence(predicted_ids, annotated_ids, name=name) for ...]   # [T, H, W] each
    print(summarise(scores)["J&F-Mean"])

Numpy and Pillow are all it imports.
"""

from sdssl_bench.datasets.palette import read_mask, voc_palette, write_mask
from sdssl_bench.davis.measures import (
    boundary,
    boundary_f,
    jaccard,
    region_and_boundary,
    score_frame,
    tolerance,
)
from sdssl_bench.davis.summary import (
    GLOBAL,
    SequenceScores,
    csv_files,
    object_statistics,
    per_object,
    score_sequence,
    statistics,
    summarise,
)

__all__ = [
    "GLOBAL",
    "SequenceScores",
    "boundary",
    "boundary_f",
    "csv_files",
    "jaccard",
    "object_statistics",
    "per_object",
    "read_mask",
    "region_and_boundary",
    "score_frame",
    "score_sequence",
    "statistics",
    "summarise",
    "tolerance",
    "voc_palette",
    "write_mask",
]
