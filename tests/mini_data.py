"""One set of miniatures for a whole test process, and copies of single sets to damage."""

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import PIL
import pytest

from sdssl_bench.datasets import spec
from sdssl_bench.datasets.mini.make import make_mini
from sdssl_bench.datasets.specs.specification import MARKER, Miniature

of_recorded_pixels = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13,
    reason="recorded with Pillow 13; before, miniatures of tall photographs were resized otherwise",
)
"""Of what compares numbers of miniatures with committed ones."""


@cache
def shared_mini() -> Path:
    """All miniatures; never written to by a test."""
    folder = Path(tempfile.mkdtemp(prefix="sdssl-mini-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make_mini(folder / "mini")
    return folder / "mini"


def mini_of(name: str) -> Miniature:
    """How the miniature of a set is made."""
    mini = spec(name).mini
    assert mini is not None
    return mini


def copy_of(name: str, to: Path) -> Path:
    """A data root that holds one set and the marker; returns the set's folder."""
    folder = mini_of(name).folder
    shutil.copytree(shared_mini() / folder, to / folder)
    shutil.copy(shared_mini() / MARKER, to / MARKER)
    inner = to / folder / "data"
    return inner if inner.is_dir() else to / folder


def declare(root: Path, name: str, *, classes: int, train: int, test: int) -> None:
    """Marker that makes a hand-written tiny set a complete one."""
    entry = {"classes": classes, "train": train, "test": test}
    (root / MARKER).write_text(json.dumps({"folders": [], "datasets": {name: entry}}))
