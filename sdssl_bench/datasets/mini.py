"""`data mini`: miniature versions of all sets, in their official layouts, from real photographs.

For tests, the quickstart and newcomers. Scores on them say that everything works, nothing else.
"""

import json
import tempfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdssl_bench.datasets import (
    copydays,
    davis,
    mini_davis,
    mini_fine_grained,
    mini_general,
    mini_retrieval,
    roxford_rparis,
)
from sdssl_bench.datasets.inspection import MARKER, inspect
from sdssl_bench.datasets.specs import SPECS
from sdssl_bench.datasets.studio import Studio
from sdssl_bench.errors import DataError, UsageError, did_you_mean


@dataclass(frozen=True)
class MiniSet:
    """One miniature.

    Attributes:
        folder: its folder directly below the data root.
        write: fills the data root.
        first: index of its first photograph; sets start at different ones.
        classes, train, test: classes, and images per class.
    """

    folder: str
    write: Callable[[Path, Studio], None]
    first: int
    classes: int
    train: int
    test: int


MINI_SETS: dict[str, MiniSet] = {
    "cifar10": MiniSet("cifar-10-batches-py", mini_general.write_cifar10, 0, 10, 20, 10),
    "cifar100": MiniSet("cifar-100-python", mini_general.write_cifar100, 0, 20, 12, 6),
    "flowers": MiniSet("flowers-102", mini_fine_grained.write_flowers, 3, 10, 12, 8),
    "pets": MiniSet("oxford-iiit-pet", mini_fine_grained.write_pets, 0, 8, 12, 8),
    "cub": MiniSet("CUB_200_2011", mini_fine_grained.write_cub, 7, 8, 12, 8),
    "aircraft": MiniSet("fgvc-aircraft-2013b", mini_fine_grained.write_aircraft, 10, 10, 12, 8),
    "cars": MiniSet("stanford_cars", mini_fine_grained.write_cars, 13, 8, 12, 8),
    "dogs": MiniSet("stanford_dogs", mini_fine_grained.write_dogs, 5, 6, 12, 8),
    "nabirds": MiniSet("nabirds", mini_fine_grained.write_nabirds, 16, 8, 12, 8),
    "imagenet": MiniSet("imagenet", mini_general.write_imagenet, 2, 12, 16, 8),
    # Its photographs are no classes; datasets.davis knows what a complete copy has.
    "davis": MiniSet("DAVIS", mini_davis.write_davis, 1, 12, 0, 0),
    # A class is a landmark; "train" and "test" count database images and queries of each.
    "roxford5k": MiniSet("roxford5k", mini_retrieval.write_roxford5k, 4, 8, 9, 1),
    "rparis6k": MiniSet("rparis6k", mini_retrieval.write_rparis6k, 14, 6, 10, 2),
    # copydays-attacks.json in its folder says what it has.
    "copydays": MiniSet("copydays", mini_retrieval.write_copydays, 0, 12, 0, 0),
}
"""The table of writers; another benchmark adds its own here."""

_FORMAT = 2
"""Raised whenever the bytes of a miniature change for the same seed."""


def make_mini(root: Path, *, seed: int = 0, names: Iterable[str] | None = None) -> None:
    """Write miniatures to the folder `root`, all or nothing, the same bytes for the same seed.

    An intact copy of the same seed and sets is left as it is, so that nothing computed from it goes
    stale; other miniatures are replaced.

    Args:
        root: does not exist, is empty, or holds miniatures and nothing else.
        seed: of crops and brightness.
        names: sets to write; all by default.

    Raises:
        UsageError: for an unknown set, or if `root` holds anything else.
        DataError: if a photograph is not installed.
    """
    root = root.absolute()
    chosen = tuple(MINI_SETS) if names is None else tuple(dict.fromkeys(names))
    for name in chosen:
        if name not in MINI_SETS:
            raise UsageError(did_you_mean("dataset", name, MINI_SETS))
    marker = _marker(chosen, seed)
    if _refuse_foreign(root) == marker and _is_complete(root, chosen):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        for name in chosen:
            MINI_SETS[name].write(fresh, _studio(name, seed))
        # Last: a folder with a marker is a whole one.
        (fresh / MARKER).write_text(json.dumps(marker, indent=1) + "\n", "utf-8")
        if root.exists():
            root.rename(Path(scratch) / "old")
        fresh.rename(root)


def _studio(name: str, seed: int) -> Studio:
    mini = MINI_SETS[name]
    # Seeded by name: a set has the same bytes whichever others are written with it.
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return Studio(rng, mini.first, classes=mini.classes, train=mini.train, test=mini.test)


def _marker(names: Iterable[str], seed: int) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "what": "miniature data written by 'sdssl-bench data mini'; delete the whole folder at will",
        "seed": seed,
        "folders": sorted({MINI_SETS[name].folder for name in names}),
        "datasets": {name: _studio(name, seed).counts() for name in names},
    }


def _refuse_foreign(root: Path) -> dict[str, Any] | None:
    """The marker of a folder that may be replaced, None if there is nothing to replace."""
    if root.is_symlink() or (root.exists() and not root.is_dir()):
        raise UsageError(f"Expected {root} to be a folder or nothing, found another kind of file.")
    there = {path.name for path in root.iterdir()} if root.is_dir() else set()
    if not there:
        return None
    marker: dict[str, Any] = {}
    if MARKER in there:
        try:
            marker = json.loads((root / MARKER).read_text("utf-8"))
            strangers = there - {MARKER, *marker["folders"]}
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{root / MARKER} is damaged; delete {root} and try again.") from error
    else:
        strangers = there
    if strangers:
        raise UsageError(
            f"Expected {root} to be empty or to hold miniature data only, found "
            f"{', '.join(sorted(strangers)[:5])}. Choose another folder: this one would be replaced."
        )
    return marker


def _is_complete(root: Path, names: Iterable[str]) -> bool:
    try:
        if davis.NAME in names:
            davis.load(davis.NAME, data_root=root)
        for name in roxford_rparis.NAMES:
            if name in names:
                roxford_rparis.load(name, data_root=root)
        if copydays.NAME in names:
            copydays.load(data_root=root)
        return all(not inspect(SPECS[name], root).problems for name in names if name in SPECS)
    except DataError:
        return False
