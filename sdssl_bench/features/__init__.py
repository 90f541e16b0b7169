"""One forward pass per image for all layers, into banks on disk.

In: an encoder and images of one size or of many. Out: feature banks, memory-mapped, found again by what
they depend on.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.features import cache as cache
    from sdssl_bench.features.bank import (
        FeatureBank as FeatureBank,
    )
    from sdssl_bench.features.bank import (
        skipped_images as skipped_images,
    )
    from sdssl_bench.features.cache import (
        CacheEntry as CacheEntry,
    )
    from sdssl_bench.features.extraction import (
        extract as extract,
    )
    from sdssl_bench.features.extraction import (
        extract_from as extract_from,
    )
    from sdssl_bench.features.forward import (
        DTYPES as DTYPES,
    )
    from sdssl_bench.features.forward import (
        Forward as Forward,
    )
    from sdssl_bench.features.forward import (
        automatic_batch_size as automatic_batch_size,
    )
    from sdssl_bench.features.forward import (
        placed as placed,
    )
    from sdssl_bench.features.identity import (
        feature_identity as feature_identity,
    )
    from sdssl_bench.features.identity import (
        key_of as key_of,
    )
    from sdssl_bench.features.identity import (
        structure_digest as structure_digest,
    )
    from sdssl_bench.features.image_geometry import (
        Box as Box,
    )
    from sdssl_bench.features.image_geometry import (
        Geometry as Geometry,
    )
    from sdssl_bench.features.image_geometry import (
        crop_box as crop_box,
    )
    from sdssl_bench.features.loading import (
        Batch as Batch,
    )
    from sdssl_bench.features.loading import (
        batches as batches,
    )
    from sdssl_bench.features.sources import (
        ManySizes as ManySizes,
    )
    from sdssl_bench.features.store import (
        bank_name as bank_name,
    )
    from sdssl_bench.features.views import (
        BLUR_SIGMA as BLUR_SIGMA,
    )
    from sdssl_bench.features.views import (
        JITTER as JITTER,
    )
    from sdssl_bench.features.views import (
        SOLARIZE_FROM as SOLARIZE_FROM,
    )
    from sdssl_bench.features.views import (
        TwoViews as TwoViews,
    )
    from sdssl_bench.features.views import (
        View as View,
    )
    from sdssl_bench.features.views import (
        draw as draw,
    )
    from sdssl_bench.features.views import (
        recolour as recolour,
    )
    from sdssl_bench.features.views import (
        sample_seed as sample_seed,
    )
    from sdssl_bench.features.views import (
        text_seed as text_seed,
    )
    from sdssl_bench.features.views import (
        to_tensor as to_tensor,
    )
    from sdssl_bench.features.views import (
        view_pair as view_pair,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
