"""The SDSSL paper's tables and figures, and numbers that others reported.

In: records and reference numbers. Out: the paper's tables filled with ours, and what is missing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.paper import figures as figures
    from sdssl_bench.paper import reproduction as reproduction
    from sdssl_bench.paper.filled_tables import (
        Cell as Cell,
    )
    from sdssl_bench.paper.filled_tables import (
        Row as Row,
    )
    from sdssl_bench.paper.filled_tables import (
        Shaped as Shaped,
    )
    from sdssl_bench.paper.filled_tables import (
        shape as shape,
    )
    from sdssl_bench.paper.layouts import (
        LAYOUTS as LAYOUTS,
    )
    from sdssl_bench.paper.layouts import (
        Column as Column,
    )
    from sdssl_bench.paper.pairs import (
        model_pairs as model_pairs,
    )
    from sdssl_bench.paper.references import (
        CONTRADICTION as CONTRADICTION,
    )
    from sdssl_bench.paper.references import (
        PaperCell as PaperCell,
    )
    from sdssl_bench.paper.references import (
        Published as Published,
    )
    from sdssl_bench.paper.references import (
        method_name as method_name,
    )
    from sdssl_bench.paper.references import (
        paper_cells as paper_cells,
    )
    from sdssl_bench.paper.references import (
        published as published,
    )
    from sdssl_bench.paper.reproduction import (
        Checkpoint as Checkpoint,
    )
    from sdssl_bench.paper.reproduction import (
        Outcome as Outcome,
    )
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
