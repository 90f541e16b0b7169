"""`data mini`: miniature versions of all sets, in their official layouts, from real photographs.

For tests, the quickstart and newcomers. Scores on them say that everything works, nothing else.
"""

import json
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np

from sdssl_bench.datasets import catalogue
from sdssl_bench.datasets.mini.studio import Studio
from sdssl_bench.datasets.specs.specification import MARKER, Miniature
from sdssl_bench.errors import DataError, UsageError, did_you_mean
from sdssl_bench.system import writing

_FORMAT = 2
"""Raised whenever the bytes of a miniature change for the same seed."""


def make_mini(root: Path, *, seed: int = 0, names: Iterable[str] | None = None) -> None:
    """Write miniatures to the folder `root`, all or nothing, the same bytes for the same seed (and Pillow).

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
    every = miniatures()
    chosen = tuple(every) if names is None else tuple(dict.fromkeys(names))
    for name in chosen:
        if name not in every:
            raise UsageError(did_you_mean("miniature dataset", name, every))
    sets = {name: every[name] for name in chosen}
    marker = _marker(sets, seed)
    if _refuse_foreign(root) == marker and _is_complete(root, sets):
        return
    with writing(root):
        root.parent.mkdir(parents=True, exist_ok=True)
    with (
        writing(root),
        tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch,
    ):
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        for name, mini in sets.items():
            resolve_name(mini.write)(fresh, _studio(name, mini, seed=seed))
        # Last: a folder with a marker is a whole one.
        (fresh / MARKER).write_text(json.dumps(marker, indent=1) + "\n", "utf-8")
        if root.exists():
            root.rename(Path(scratch) / "old")
        fresh.rename(root)


def miniatures() -> dict[str, Miniature]:
    """How each set that has a miniature is made, by name."""
    sets = {name: catalogue.spec(name).mini for name in catalogue.names()}
    return {name: mini for name, mini in sets.items() if mini}


def _studio(name: str, mini: Miniature, *, seed: int) -> Studio:
    # Seeded by name: a set has the same bytes whichever others are written with it.
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return Studio(rng, mini.first, classes=mini.classes, train=mini.train, test=mini.test)


def _marker(sets: Mapping[str, Miniature], seed: int) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "what": "miniature data written by 'sdssl-bench data mini'; delete the whole folder at will",
        "seed": seed,
        "folders": sorted({mini.folder for mini in sets.values()}),
        "datasets": {name: _studio(name, mini, seed=seed).counts() for name, mini in sets.items()},
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
        for name in names:
            catalogue.spec(name).load(data_root=root)
    except DataError:
        return False
    return True
