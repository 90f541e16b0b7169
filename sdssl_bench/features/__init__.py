"""Features of every image, layer and pooling from one forward pass each, kept in a cache on disk."""

from sdssl_bench.distributed import is_main_process, wait_for_everyone
from sdssl_bench.features.bank import FeatureBank
from sdssl_bench.features.extraction import extract

__all__ = ["FeatureBank", "extract", "is_main_process", "wait_for_everyone"]
