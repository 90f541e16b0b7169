"""Folders of torch.distributed.checkpoint: torch's own reader puts the shards together.

torch reads the index `.metadata` by running it as a pickle, and so the values that are no tensors. Here the
index is read inert, and torch gets a copy of it that lists the tensors alone; of the shards it unpickles
weights only.
"""

import math
import warnings
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sdssl_bench.checkpoints.inert.mapped import mapping
from sdssl_bench.checkpoints.inert.restore import DTYPES
from sdssl_bench.errors import DataError
from sdssl_bench.system import PickleError, StandIn, Unpickled, unpickle

if TYPE_CHECKING:
    from torch.distributed.checkpoint.metadata import Metadata

INDEX = ".metadata"


class _Place(NamedTuple):
    """Where a shard lies, with the attributes that torch's reader asks for."""

    relative_path: str
    offset: int
    length: int
    transform_descriptors: tuple[str, ...] = ()


class _Shard(NamedTuple):
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]


def read_distributed(folder: Path) -> tuple[dict[str, Tensor], tuple[Path, ...], tuple[str, ...]]:
    """The tensors of a folder by their whole names, its files, and the values that were left closed.

    Raises:
        DataError: if a shard is missing, damaged or states more than it holds, or shards leave a hole.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.state_dict_loader import load

    index = folder / INDEX
    with mapping(index) as file:
        try:
            found = unpickle(file.data, budget=file.budget)
            state = _attributes(found.value, "Metadata")
            tensors = {
                name: it for name, it in state["state_dict_metadata"].items() if _is_tensor(it)
            }
            shapes = {name: _shape(it) for name, it in tensors.items()}
            shards = {name: list(_shards(it)) for name, it in tensors.items()}
            places = dict(_places(state["storage_data"]))
        except (PickleError, LookupError, TypeError, AttributeError, ValueError) as error:
            raise DataError(
                f"{index} is no index of torch.distributed.checkpoint ({error}); it is damaged, or of a "
                "version of torch that is not known here: gather the weights with torch.distributed."
                "checkpoint.format_utils.dcp_to_torch_save, where you trust it."
            ) from error
    names = {place.relative_path for place in places.values()}
    paths = tuple(folder / name for name in sorted(names))
    for name, path in zip(sorted(names), paths):
        if Path(name).name != name or not path.is_file():
            raise DataError(
                f"{folder} is incomplete: its index names the file {name!r}, which is missing."
            )
    held = sum(path.stat().st_size for path in paths)
    if sum(dtype.itemsize * math.prod(size) for dtype, size in shapes.values()) > held:
        raise DataError(
            f"{folder} is incomplete: its index states more than the {held} bytes it holds."
        )
    for name, (_, size) in shapes.items():
        if not _fills(shards[name], size) or any(
            (name, one.offsets) not in places for one in shards[name]
        ):
            raise DataError(
                f"{folder} is incomplete: its shards do not make up the whole of '{name}'."
            )
    content = {name: torch.empty(size, dtype=dtype) for name, (dtype, size) in shapes.items()}
    metadata = _metadata(shapes, shards, places)

    class Reader(FileSystemReader):
        def read_metadata(self, *args: Any, **kwargs: Any) -> "Metadata":
            return metadata

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are no other processes
            load(dict(content), storage_reader=Reader(folder), no_dist=True)
    except (Exception, CheckpointException) as error:  # of a parser of untrusted bytes
        causes = getattr(error, "failures", {0: (error,)})
        cause = next(iter(causes.values()))[0]
        line = next(iter(str(cause).strip().splitlines()), "no detail")[:200]
        raise DataError(
            f"{folder} cannot be put together ({type(cause).__name__}: {line}); it is damaged or "
            "incomplete: copy it again."
        ) from error
    return content, (index, *paths), _closed(found, state, tensors)


def _metadata(
    shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]],
    shards: dict[str, list[_Shard]],
    places: dict[tuple[str, tuple[int, ...]], _Place],
) -> "Metadata":
    """Torch's index of these tensors."""
    from torch.distributed.checkpoint import metadata as index

    known: dict[str, Any] = {
        name: index.TensorStorageMetadata(
            index.TensorProperties(dtype),
            torch.Size(size),
            [
                index.ChunkStorageMetadata(torch.Size(one.offsets), torch.Size(one.sizes))
                for one in shards[name]
            ],
        )
        for name, (dtype, size) in shapes.items()
    }
    lie = {index.MetadataIndex(*where): place for where, place in places.items()}
    return index.Metadata(known, storage_data=lie, storage_meta=index.StorageMeta())


def _attributes(it: Any, kind: str) -> dict[str, Any]:
    if not isinstance(it, StandIn) or it.kind.rpartition(".")[2] != kind:
        raise PickleError(f"expected {kind}, found {it!r}"[:200])
    if type(it.state) is not dict:
        raise PickleError(f"{kind} without attributes")
    return it.state


def _is_tensor(it: Any) -> bool:
    return isinstance(it, StandIn) and it.kind.rpartition(".")[2] == "TensorStorageMetadata"


def _size(it: Any) -> tuple[int, ...]:
    size = it.args[0] if isinstance(it, StandIn) and it.kind == "torch.Size" else it
    if type(size) not in (tuple, list) or any(type(n) is not int or n < 0 for n in size):
        raise PickleError(f"expected a shape, found {size!r}"[:200])
    return tuple(size)


def _shape(it: StandIn) -> tuple[torch.dtype, tuple[int, ...]]:
    state = _attributes(it, "TensorStorageMetadata")
    properties = state["properties"].state
    first = properties["dtype"] if type(properties) is dict else properties[0]
    return DTYPES[first.kind], _size(state["size"])


def _shards(it: StandIn) -> Iterator[_Shard]:
    for part in _attributes(it, "TensorStorageMetadata")["chunks"]:
        state = _attributes(part, "ChunkStorageMetadata")
        yield _Shard(_size(state["offsets"]), _size(state["sizes"]))


def _places(data: Any) -> Iterator[tuple[tuple[str, tuple[int, ...]], _Place]]:
    for key, value in data.items():
        where, place = _attributes(key, "MetadataIndex"), _attributes(value, "_StorageInfo")
        if where.get("offset") is None:
            continue  # not of a tensor
        if place.get("transform_descriptors"):
            raise PickleError(f"shards that are packed ({place['transform_descriptors']})"[:200])
        numbers = place["offset"], place["length"]
        if type(where["fqn"]) is not str or any(type(n) is not int or n < 0 for n in numbers):
            raise PickleError("a shard at no place")
        yield (where["fqn"], _size(where["offset"])), _Place(str(place["relative_path"]), *numbers)


def _fills(shards: list[_Shard], size: tuple[int, ...]) -> bool:
    """Whether shards lie within a tensor, apart from each other, and leave no element out."""
    whole = (_Shard((0,) * len(size), size), *shards)
    if any(len(one.offsets) != len(size) or len(one.sizes) != len(size) for one in shards):
        return False
    inside = all(o + n <= end for one in shards for o, n, end in zip(one.offsets, one.sizes, size))
    count = sum(math.prod(one.sizes) for one in shards)
    return inside and count == math.prod(whole[0].sizes) and not any(
        all(o < p + m and p < o + n for o, n, p, m in zip(a.offsets, a.sizes, b.offsets, b.sizes))
        for a, b in combinations((one for one in shards if math.prod(one.sizes)), 2)
    )  # fmt: skip


def _closed(
    found: Unpickled, state: dict[str, Any], tensors: dict[str, StandIn]
) -> tuple[str, ...]:
    """Names of the values that are no tensors."""
    return tuple(sorted(str(name) for name in state["state_dict_metadata"] if name not in tensors))
