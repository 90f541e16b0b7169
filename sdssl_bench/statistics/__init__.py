"""Is it real? Intervals, paired tests and ranks from per-item scores.

In: records with their items. Out: intervals, p values, tie groups; no number without a sample behind it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.statistics.best_layers import best_layer_test
    from sdssl_bench.statistics.comparison import (
        Benchmark,
        Outcome,
        benchmark_name,
        compare,
        find_records,
        pair,
    )
    from sdssl_bench.statistics.derived import known_interval, record_intervals
    from sdssl_bench.statistics.intervals import Interval
    from sdssl_bench.statistics.items import ItemScores, layer_item_scores
    from sdssl_bench.statistics.paired_tests import Difference, holm, paired_test, sign_flip
    from sdssl_bench.statistics.pixels import mixed_pixels
    from sdssl_bench.statistics.ranks import RankInterval, rank_intervals
    from sdssl_bench.statistics.results import read_proven, read_results
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
