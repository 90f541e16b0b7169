"""All sets: read from their official layouts, verified, and made in miniature.

Importing this package is cheap; numpy and the readers are imported when a set is loaded.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sdssl_bench.datasets.catalogue import layout, names, spec
from sdssl_bench.datasets.spec import DatasetSpec, Miniature

if TYPE_CHECKING:
    from sdssl_bench.datasets.base import ClassificationData

__all__ = ["DatasetSpec", "Miniature", "layout", "load", "names", "spec"]


def load(name: str, *, data_root: Path | None, allow_partial: bool = False) -> "ClassificationData":
    """A classification set by name, or "folder:PATH"; see loading.load."""
    from sdssl_bench.datasets import loading

    return loading.load(name, data_root=data_root, allow_partial=allow_partial)
