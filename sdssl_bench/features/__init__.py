"""One forward pass per image for all layers, into banks on disk.

In: an encoder and images of one size or of many. Out: feature banks, memory-mapped, found again by what
they depend on.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.features import cache, loading, passes
    from sdssl_bench.features.bank import FeatureBank, skipped_images
    from sdssl_bench.features.cache import CacheEntry
    from sdssl_bench.features.extraction import extract, extract_from
    from sdssl_bench.features.forecast import batch_seconds, extract_from_work, extract_work
    from sdssl_bench.features.forward import DTYPES, Forward, automatic_batch_size, placed
    from sdssl_bench.features.identity import feature_identity, key_of, structure_digest
    from sdssl_bench.features.image_geometry import Box, Geometry, crop_box
    from sdssl_bench.features.loading import Batch, batches
    from sdssl_bench.features.sources import ManySizes
    from sdssl_bench.features.store import BankKey
    from sdssl_bench.features.views import (
        BLUR_SIGMA,
        JITTER,
        SOLARIZE_FROM,
        TwoViews,
        View,
        draw,
        recolour,
        sample_seed,
        text_seed,
        to_tensor,
        view_pair,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
