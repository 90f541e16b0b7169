"""Segmentation without training: patches find their nearest labelled patches, all layers in one pass.

In: an encoder and images with masks. Out: pixels of each class per image, true, predicted and both.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.dense.forecast import dense_work
    from sdssl_bench.dense.scoring import DenseScorer
    from sdssl_bench.dense.settings import Candidate, Settings, best_candidate
    from sdssl_bench.dense.tables import choice_table, class_table
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
