"""The SDSSL paper's tables and figures, and numbers that others reported.

In: records and reference numbers. Out: the paper's tables filled with ours, and what is missing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.paper import figures, references, released_numbers, releases, reproduction
    from sdssl_bench.paper.filled_tables import Cell, FilledTable, Row, fill_table
    from sdssl_bench.paper.layouts import LAYOUTS, Column
    from sdssl_bench.paper.pairs import model_pairs
    from sdssl_bench.paper.references import (
        CONTRADICTION,
        RESNET_50,
        PaperCell,
        Published,
        method_name,
        paper_cells,
        published,
    )
    from sdssl_bench.paper.released_numbers import Benchmark, Compared
    from sdssl_bench.paper.releases import Release
    from sdssl_bench.paper.reproduction import Checkpoint, Outcome
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
