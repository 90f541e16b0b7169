"""sdssl-bench: how good is every layer of a self-supervised vision encoder, on every task?

Python API (imported on first use, so that `import sdssl_bench` costs nothing):

    import sdssl_bench
    encoder = sdssl_bench.load_encoder("checkpoint.safetensors")
    result = sdssl_bench.evaluate(encoder, task="knn", dataset="cifar10")
    result.frame(), result.plot()
    sdssl_bench.compare(result, "results"), sdssl_bench.leaderboard("results")

A result is the record that the command line stores; docs/notebook.ipynb shows the rest.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sdssl_bench._version import __version__

if TYPE_CHECKING:
    from sdssl_bench.api import (
        Result,
        Results,
        compare,
        evaluate,
        export,
        leaderboard,
        load_encoder,
        read_results,
        report,
    )
    from sdssl_bench.system import include

__all__ = [
    "Result",
    "Results",
    "__version__",
    "compare",
    "evaluate",
    "export",
    "include",
    "leaderboard",
    "load_encoder",
    "read_results",
    "report",
]

# In a bare checkout tasks/ and pretrain/ lie beside this package, in a wheel inside it. Appending the
# parent makes sdssl_bench.tasks the same module in both, whatever is installed elsewhere.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "tasks" / "knn.py").is_file() and (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))


def __getattr__(name: str) -> object:
    if name == "include":
        from sdssl_bench.system import include

        return include
    if name in __all__:
        from sdssl_bench import api

        return getattr(api, name)
    raise AttributeError(f"module 'sdssl_bench' has no attribute {name!r}")
