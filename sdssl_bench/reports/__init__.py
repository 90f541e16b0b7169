"""What people look at: terminal tables, CSV, Markdown, LaTeX, the page, figures.

In: records, comparisons, filled tables. Out: text and pictures; nothing is computed from images here.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.reports import leaderboard_formats as leaderboard_formats
    from sdssl_bench.reports import page as page
    from sdssl_bench.reports.comparison_text import (
        as_json as as_json,
    )
    from sdssl_bench.reports.comparison_text import (
        difference_table as difference_table,
    )
    from sdssl_bench.reports.comparison_text import (
        num_tests as num_tests,
    )
    from sdssl_bench.reports.comparison_text import (
        overall as overall,
    )
    from sdssl_bench.reports.comparison_text import (
        sentence as sentence,
    )
    from sdssl_bench.reports.comparison_text import (
        summary_table as summary_table,
    )
    from sdssl_bench.reports.figures import (
        write_figures as write_figures,
    )
    from sdssl_bench.reports.leaderboard import (
        VIEWS as VIEWS,
    )
    from sdssl_bench.reports.leaderboard import (
        coverage as coverage,
    )
    from sdssl_bench.reports.leaderboard import (
        tidy as tidy,
    )
    from sdssl_bench.reports.leaderboard import (
        wide as wide,
    )
    from sdssl_bench.reports.leaderboard_formats import (
        latex as latex,
    )
    from sdssl_bench.reports.page_data import (
        collect as collect,
    )
    from sdssl_bench.reports.pictures import (
        add_pictures as add_pictures,
    )
    from sdssl_bench.reports.reproduction_text import (
        reproduction_table as reproduction_table,
    )
    from sdssl_bench.reports.tables import (
        cache_table as cache_table,
    )
    from sdssl_bench.reports.tables import (
        frame_table as frame_table,
    )
    from sdssl_bench.reports.tables import (
        layer_table as layer_table,
    )
    from sdssl_bench.reports.tables import (
        ranges as ranges,
    )
    from sdssl_bench.reports.tables import (
        result_line as result_line,
    )
    from sdssl_bench.reports.tables import (
        score_table as score_table,
    )
    from sdssl_bench.reports.tables import (
        similarity_table as similarity_table,
    )
    from sdssl_bench.reports.tables import (
        size as size,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
