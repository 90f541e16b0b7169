"""Features of every image, layer and pooling from one forward pass each, kept in a cache on disk."""

from sdssl_bench.features.bank import FeatureBank, skipped_images
from sdssl_bench.features.extraction import extract, extract_from
from sdssl_bench.features.sources import ManySizes

__all__ = ["FeatureBank", "ManySizes", "extract", "extract_from", "skipped_images"]
