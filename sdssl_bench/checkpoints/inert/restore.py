"""What an inert pickle means: tensors, arrays, modules and plain containers; all else stays closed.

Weights of a pickled module are found where modules keep them and get the names that its `state_dict` would
give them. An object becomes a dictionary of its attributes, and one that has none stays a `StandIn`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, UntypedStorage

from sdssl_bench.checkpoints.inert.arrays import array
from sdssl_bench.checkpoints.inert.mapped import Mapped
from sdssl_bench.errors import DataError
from sdssl_bench.system import OPCODE_BYTES, StandIn

DEPTH = 100
"""Containers within containers; what people save stays far below."""

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64, "UntypedStorage": torch.uint8,
}  # fmt: skip
_NAMES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
    "complex128", "complex64", "complex32", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2",
    "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
)  # fmt: skip
DTYPES = {f"torch.{name}": getattr(torch, name) for name in _NAMES if hasattr(torch, name)}

_GATHER = (
    "gather it where it was trained: torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
    "options=StateDictOptions(full_state_dict=True, cpu_offload=True))"
)
UNREADABLE = {
    "torch._utils._rebuild_sparse_tensor": ("sparse", "save it as tensor.to_dense()"),
    "torch._utils._rebuild_sparse_csr_tensor": ("sparse", "save it as tensor.to_dense()"),
    "torch._utils._rebuild_nested_tensor": ("nested", "save its tensors one by one"),
    "torch._utils._rebuild_qtensor": ("quantised", "save the float weights, or tensor.dequantize()"),
    "torch._utils._rebuild_meta_tensor_no_storage": (
        "on the meta device and holds no values",
        "save it from a model that was filled with weights",
    ),
    "torch._utils._rebuild_wrapper_subclass": ("one process's shard (a DTensor)", _GATHER),
    "torch.distributed._shard.sharded_tensor.api.ShardedTensor": ("one process's shard", _GATHER),
    "torch.nn.parameter.UninitializedParameter": (
        "not initialised", "run the model once before saving it",
    ),
    "torch.storage._load_from_bytes": ("pickled without torch.save", "save it with torch.save"),
}  # fmt: skip
_FIRST_ARGUMENT = (
    "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state",
    "torch.nn.parameter.Parameter", "torch._utils._rebuild_device_tensor_from_numpy",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor", "torch.Size", "collections.Counter",
    "builtins.set", "builtins.frozenset", "builtins.list", "builtins.tuple", "builtins.dict",
)  # fmt: skip
_DENSE = tuple(f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3"))
_FROM_TYPE = ("torch._tensor._rebuild_from_type", "torch._tensor._rebuild_from_type_v2")
_NUMPY = ("numpy.core.multiarray.", "numpy.core.numeric.")
_ORDERED = "collections.OrderedDict"
_PLAIN = (
    "_codecs.encode", "numpy.dtype", "numpy.ndarray", "torch.device", "torch.strided", "torch.Tensor",
    "torch._tensor.Tensor", "copy_reg._reconstructor", "copyreg._reconstructor", "copyreg.__newobj__",
    *(f"builtins.{name}" for name in ("bytes", "bool", "int", "long", "float", "str", "complex", "object")),
    *(f"numpy.{core}.{name}" for core in ("core", "_core") for name in
      ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")),
    *(f"torch.{name}" for name in STORAGES), *(f"torch.storage.{name}" for name in STORAGES),
)  # fmt: skip
KNOWN = frozenset((*_FIRST_ARGUMENT, *_DENSE, *_FROM_TYPE, *DTYPES, *UNREADABLE, _ORDERED, *_PLAIN))
"""Names that have a meaning here; others stood in for what nobody opened."""

Storages = Callable[[Any], tuple[UntypedStorage, torch.dtype]]
"""From a persistent id to the bytes it stands for, and the type of their elements."""


class Restorer:
    """Gives the objects of one pickle their meaning.

    Args:
        file: where the tensors lie.
        storages: how the file keeps them.
    """

    def __init__(self, file: Mapped, storages: Storages) -> None:
        self.file, self.storages = file, storages
        self._most = file.budget // 2 // OPCODE_BYTES
        self._count = 0
        self._done: dict[int, tuple[Any, int]] = {}
        self._open: set[int] = set()

    def restore(self, value: Any, where: str = "") -> Any:
        """The meaning of a value.

        Args:
            value: of a pickle.
            where: its keys, for messages.

        Raises:
            DataError: if a tensor lies outside of the file, or its kind cannot be read here; if all is
                nested too deeply, or more than the file accounts for.
        """
        if type(value) not in (dict, list, tuple, StandIn):
            return value
        mine = id(value)
        if mine in self._done:  # counted again: whoever walks through it will meet it again
            result, count = self._done[mine]
            self._spend(count)
            return result
        if mine in self._open:
            return StandIn("a reference to what holds it")
        if len(self._open) >= DEPTH:
            raise DataError(
                f"{self.file.path} is refused: it is nested more than {DEPTH} deep at '{where}'."
            )
        before = self._count
        self._open.add(mine)
        self._spend(1)
        if type(value) is dict:
            result = self._mapping(value, where)
        elif type(value) is StandIn:
            result = self._object(value, where)
        else:
            self._spend(len(value))
            result = type(value)(self.restore(part, where) for part in value)
        self._open.remove(mine)
        self._done[mine] = result, self._count - before
        return result

    def _spend(self, count: int) -> None:
        self._count += count
        if self._count > self._most:
            raise DataError(
                f"{self.file.path} is refused: it holds more objects than a file of this size accounts for."
            )

    def _mapping(self, pairs: Mapping[Any, Any], where: str) -> dict[Any, Any]:
        self._spend(len(pairs))
        found: dict[Any, Any] = {}
        for key, value in pairs.items():
            name = _text(key) if isinstance(key, StandIn) else key
            while name in found:
                name = f"{name}'"
            found[name] = self.restore(value, _path(where, name))
        return self._checked(found, where)

    def _checked(self, found: dict[Any, Any], where: str) -> dict[Any, Any]:
        """A dictionary of tensors is no place for one that cannot be read."""
        closed = {
            key: value.kind
            for key, value in found.items()
            if isinstance(value, StandIn) and value.kind in UNREADABLE and value.args is not None
        }
        if closed and all(isinstance(v, Tensor) or key in closed for key, v in found.items()):
            key, kind = next(iter(closed.items()))
            what, how = UNREADABLE[kind]
            more = f" ({len(closed)} such tensors)" if len(closed) > 1 else ""
            raise DataError(
                f"{self.file.path}: '{_path(where, key)}' is {what}{more}, expected dense weights: {how}."
            )
        return found

    def _object(self, it: StandIn, where: str) -> Any:
        kind, args = it.kind.replace("numpy._core", "numpy.core"), it.args
        if args is None:
            return DTYPES.get(kind, it)
        if type(args) is not tuple:
            return it
        if kind in _DENSE:
            return self._dense(kind, args)
        if kind in _FIRST_ARGUMENT and args:
            return self.restore(args[0], where)
        if kind in _FROM_TYPE and len(args) > 2 and isinstance(args[0], StandIn):
            return self._object(StandIn(args[0].kind, args[2]), where)
        if kind in UNREADABLE:
            return it
        if kind.startswith(_NUMPY):
            return self._numpy(kind, it)
        attributes = self._attributes(it)
        if "_parameters" in attributes and "_modules" in attributes:
            return self._checked(self._module(attributes, where), where)
        if it.items and not attributes:
            return self.restore(it.items, where)
        if attributes or kind == _ORDERED:
            return self._mapping(attributes, where)
        return it

    def _attributes(self, it: Any) -> Mapping[Any, Any]:
        """What an object holds by name: what was put into it, else its attributes and slots."""
        if type(it) is dict:
            return it
        if not isinstance(it, StandIn):
            return {}
        if it.kind == _ORDERED and it.args and not it.pairs and type(it.args[0]) is list:
            self._spend(len(it.args[0]))  # Python 2 gives the pairs as an argument
            pairs = [pair for pair in it.args[0] if type(pair) in (list, tuple) and len(pair) == 2]
            return {key: value for key, value in pairs if type(key) in (str, int)}
        found = dict[Any, Any]()
        for part in it.state if type(it.state) is tuple and len(it.state) == 2 else (it.state,):
            found |= part if type(part) is dict else {}
        self._spend(len(found) + len(it.pairs))
        return {**found, **it.pairs} if it.kind != _ORDERED else it.pairs

    def _module(self, attributes: Mapping[Any, Any], where: str) -> dict[str, Any]:
        """The `state_dict` of a module: parameters, persistent buffers, and those of its modules."""
        found: dict[str, Any] = {}
        hidden = self.restore(attributes.get("_non_persistent_buffers_set"), where) or ()
        for group in ("_parameters", "_buffers"):
            for name, value in self._attributes(attributes.get(group)).items():
                if value is None or (group == "_buffers" and name in hidden):
                    continue
                found[str(name)] = self.restore(value, _path(where, name))
        for name, child in self._attributes(attributes["_modules"]).items():
            inner = self.restore(child, _path(where, name))
            if isinstance(inner, dict):
                self._spend(sum(1 + len(f"{name}.{key}") // OPCODE_BYTES for key in inner))
                found |= {f"{name}.{key}": value for key, value in inner.items()}
        return found

    def _numpy(self, kind: str, it: StandIn) -> Any:
        """An array as a tensor, a number as Python's; what holds no numbers stays closed."""
        args, state = it.args, it.state
        tensor, name = None, kind.rpartition(".")[2]
        if name == "scalar" and len(args) == 2:
            tensor = array(args[0], (), args[1])
            return it if tensor is None else tensor.item()
        if name == "_reconstruct" and type(state) is tuple and len(state) == 5:
            tensor = array(state[2], state[1], state[4], fortran=state[3] is True)
        elif name == "_frombuffer" and len(args) == 4:
            tensor = array(args[1], args[2], args[0], fortran=args[3] == "F")
        if tensor is not None:
            self._spend(tensor.numel() * tensor.itemsize // OPCODE_BYTES)
        return it if tensor is None else tensor

    def _dense(self, kind: str, args: tuple[Any, ...]) -> Tensor:
        """A tensor: storage, offset, size, stride; then gradient and hooks, which are of no interest."""
        if len(args) < 4 or not isinstance(args[0], StandIn):
            raise DataError(f"{self.file.path} is damaged: a tensor without data.")
        storage, dtype = self.storages(args[0].args)
        if kind == _DENSE[2]:
            named = args[6] if len(args) > 6 else None
            given = DTYPES.get(named.kind) if isinstance(named, StandIn) else None
            if given is None:
                raise DataError(f"{self.file.path}: a tensor of unknown type {named}.")
            dtype = given
        tensor = self.file.tensor(storage, dtype, *args[1:4])
        bits = args[-1] if type(args[-1]) is dict else {}
        tensor = tensor.conj() if bits.get("conj") is True else tensor
        return torch._neg_view(tensor) if bits.get("neg") is True else tensor


def _text(key: StandIn) -> str:
    """What a key that is an object or a class is called."""
    plain = type(key.args) is tuple and all(type(part) in (str, int, float) for part in key.args)
    return f"{key.kind}({', '.join(map(str, key.args))})"[:200] if plain else key.kind


def _path(where: str, name: object) -> str:
    """Keys from the outermost inwards, for messages."""
    return f"{where}.{name}"[:200] if where else str(name)[:200]
