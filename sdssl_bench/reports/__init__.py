"""What people look at: terminal tables, CSV, Markdown, LaTeX, the page, figures.

In: records, comparisons, filled tables. Out: text and pictures; nothing is computed from images here.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.reports import drawing, figures, leaderboard_formats, page, pictures
    from sdssl_bench.reports.comparison_text import (
        about_draws,
        as_json,
        difference_table,
        num_tests,
        overall,
        sentence,
        summary_table,
    )
    from sdssl_bench.reports.figures import write_figures
    from sdssl_bench.reports.leaderboard import VIEWS, coverage, csv_text, tidy, wide
    from sdssl_bench.reports.leaderboard_formats import latex
    from sdssl_bench.reports.page_data import collect
    from sdssl_bench.reports.pictures import add_pictures
    from sdssl_bench.reports.plots import plot_curve, plot_panels
    from sdssl_bench.reports.reported_layers import released_layers
    from sdssl_bench.reports.reproduction_text import (
        released_notes,
        released_table,
        reproduction_table,
    )
    from sdssl_bench.reports.shown import Part, Shown, html_link
    from sdssl_bench.reports.tables import (
        cache_table,
        frame_table,
        layer_table,
        points_table,
        ranges,
        result_line,
        results_table,
        score_table,
        similarity_table,
        size,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
