"""The ten classification sets and `folder:PATH`, read from their official layouts and verified.

Importing this package is cheap; numpy and the readers are imported when a set is loaded.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sdssl_bench.datasets.layout import layout
from sdssl_bench.datasets.spec import DatasetSpec
from sdssl_bench.datasets.specs import NAMES, SPECS

if TYPE_CHECKING:
    from sdssl_bench.datasets.base import ClassificationData

__all__ = ["NAMES", "SPECS", "DatasetSpec", "layout", "load"]


def load(name: str, *, data_root: Path | None, allow_partial: bool = False) -> "ClassificationData":
    """One of NAMES, or "folder:PATH"; see loading.load."""
    from sdssl_bench.datasets import loading

    return loading.load(name, data_root=data_root, allow_partial=allow_partial)
