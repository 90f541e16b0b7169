"""Is it real? Intervals, paired tests and ranks from per-item scores.

In: records with their items. Out: intervals, p values, tie groups; no number without a sample behind it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.statistics.best_layers import (
        best_layer_test as best_layer_test,
    )
    from sdssl_bench.statistics.comparison import (
        Benchmark as Benchmark,
    )
    from sdssl_bench.statistics.comparison import (
        Outcome as Outcome,
    )
    from sdssl_bench.statistics.comparison import (
        compare as compare,
    )
    from sdssl_bench.statistics.comparison import (
        find_records as find_records,
    )
    from sdssl_bench.statistics.comparison import (
        pair as pair,
    )
    from sdssl_bench.statistics.intervals import (
        Interval as Interval,
    )
    from sdssl_bench.statistics.intervals import (
        layer_interval as layer_interval,
    )
    from sdssl_bench.statistics.intervals import (
        record_intervals as record_intervals,
    )
    from sdssl_bench.statistics.items import (
        Units as Units,
    )
    from sdssl_bench.statistics.items import (
        layer_units as layer_units,
    )
    from sdssl_bench.statistics.paired_tests import (
        Difference as Difference,
    )
    from sdssl_bench.statistics.paired_tests import (
        holm as holm,
    )
    from sdssl_bench.statistics.paired_tests import (
        paired_test as paired_test,
    )
    from sdssl_bench.statistics.ranks import (
        Standing as Standing,
    )
    from sdssl_bench.statistics.ranks import (
        standings as standings,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
