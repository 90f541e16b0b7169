"""A checkpoint in pieces becomes one file in a cache, once, for the many jobs that will open it.

Shards are put together and digested at every opening: all of them, an optimizer's moments too. The one
file holds the same tensors under the same names, and says what it was gathered from: opening it gives the
same encoder and the same record as the pieces do, but for the path that was typed.
"""

import hashlib
import json
from pathlib import Path

from torch import Tensor

from sdssl_bench.checkpoints.files import GATHERED
from sdssl_bench.checkpoints.folders import weights_of
from sdssl_bench.checkpoints.native import write_tensors
from sdssl_bench.checkpoints.read import parse, read
from sdssl_bench.errors import DataError

FOLDER = "checkpoints"
"""Of the cache."""


def whole(uri: str, cache: Path) -> str:
    """What to open instead of a checkpoint in pieces, of which there need be none yet; `uri` for others."""
    place = _place(uri, cache)
    return uri if place is None else str(place)


def gather(uri: str, cache: Path) -> str:
    """Puts a checkpoint in pieces together, unless that was done; returns what to open, as `whole`.

    Raises:
        DataError: if the pieces cannot be read.
    """
    place = _place(uri, cache)
    if place is None:
        return uri
    if not place.is_file():
        contents = read(uri)
        file = contents.file
        assert file is not None
        tensors = {name: it for name, it in file.content.items() if isinstance(it, Tensor)}
        if tensors.keys() != file.content.keys():
            raise DataError(f"{uri} holds more than tensors; give the job the whole file instead.")
        origin = {
            "name": contents.name,
            "path": str(file.path.resolve()),
            "sha256": file.sha256(),
            "container": file.container,
            "stood_in": list(file.stood_in),
            "hints": dict(file.hints),
        }
        write_tensors(place, tensors, {GATHERED: json.dumps(origin, sort_keys=True)})
    return str(place)


def file_identity(uri: str) -> tuple[str, str] | None:
    """The name and the digest that records have of a file, by looking at no tensor; None for no file.

    Raises:
        DataError: if the file is missing or damaged.
    """
    parsed = parse(uri)
    if parsed.scheme != "file" or parsed.path.is_dir() or parsed.path.name.endswith(".index.json"):
        return None
    contents = read(uri)
    assert contents.file is not None
    return contents.name, contents.file.sha256()


def _place(uri: str, cache: Path) -> Path | None:
    """The file for pieces as they now lie there: their names, sizes and times decide."""
    parsed = parse(uri)
    if parsed.scheme != "file":
        return None
    path = parsed.path
    index = path if path.name.endswith(".index.json") else weights_of(path)
    if index is None or not (index.name.endswith(".index.json") or index.name == ".metadata"):
        return None
    lines = [str(path.resolve())]
    for part in sorted(index.parent.iterdir()):
        stat = part.stat()
        lines.append(f"{part.name} {stat.st_size} {stat.st_mtime_ns}")
    key = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    name = path.resolve().name.removesuffix(".index.json")
    return cache.expanduser().resolve() / FOLDER / key / f"{name}.safetensors"
