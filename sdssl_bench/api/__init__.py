"""The suite in Python: the same words, numbers and tables as the command line, in a notebook or a loop.

    encoder = sdssl_bench.load_encoder("timm:vit_small_patch16_224.dino")
    result = sdssl_bench.evaluate(encoder, task="knn", dataset="cifar10", data_root="data")
    result["layers"]["12"]["metrics"]["k20/top1"]
    result.frame(), result.plot()

In: a module, folders of records, results of before. Out: mappings that are what is stored or what --json
prints, with `frame`, `plot` and representations for a terminal and a notebook.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdssl_bench.api.comparing import compare
    from sdssl_bench.api.evaluation import as_encoder, evaluate, load_encoder
    from sdssl_bench.api.exporting import export
    from sdssl_bench.api.pairs import at_points, task_runs
    from sdssl_bench.api.ranking import leaderboard
    from sdssl_bench.api.reading import LeftOut, read_results
    from sdssl_bench.api.reporting import report
    from sdssl_bench.api.results import Result, Results
else:
    from sdssl_bench.exports import lazily

    __getattr__ = lazily(__name__, __file__)
