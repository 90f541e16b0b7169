"""Tensors of a file are those that torch and numpy read in it, bit for bit, and lie within it."""

import argparse
import collections
import datetime
import enum
import io
import pathlib
import pickle
import random
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor, nn

import fake_checkpoints as fake
from sdssl_bench import checkpoints
from sdssl_bench.checkpoints.files import read_file
from sdssl_bench.checkpoints.inert.arrays import contiguous
from sdssl_bench.checkpoints.inert.restore import DTYPES
from sdssl_bench.checkpoints.keys import flat
from sdssl_bench.errors import DataError

GENERATOR = torch.Generator().manual_seed(0)


def filled(size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Random bits."""
    count = torch.empty(size, dtype=dtype).numel() * dtype.itemsize
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (count,), generator=GENERATOR)
    return (
        raw.to(torch.uint8).view(dtype).reshape(size) if count else torch.empty(size, dtype=dtype)
    )


def bits(tensor: Tensor) -> bytes:
    whole = (
        tensor.resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format).reshape(-1)
    )
    return whole.view(torch.uint8).numpy().tobytes() if whole.numel() else b""


def same(ours: Any, theirs: Any) -> None:
    """Equal in bits, type, shape, strides, offset, and in what shares memory with what."""
    homes: dict[int, int] = {}
    waiting = [(ours, theirs)]
    while waiting:
        one, other = waiting.pop()
        if isinstance(other, Mapping):
            assert list(one) == list(other)
            waiting += [(one[key], other[key]) for key in other]
        elif isinstance(other, list | tuple):
            assert type(one) is type(other)
            assert len(one) == len(other)
            waiting += zip(one, other)
        elif isinstance(other, Tensor):
            assert isinstance(one, Tensor)
            assert (one.dtype, one.shape, one.stride()) == (
                other.dtype,
                other.shape,
                other.stride(),
            )
            assert one.storage_offset() == other.storage_offset()
            assert (one.is_conj(), one.is_neg()) == (other.is_conj(), other.is_neg())
            assert bits(one) == bits(other)
            if other.numel():
                home = other.untyped_storage().data_ptr()
                assert homes.setdefault(home, one.untyped_storage().data_ptr()) == (
                    one.untyped_storage().data_ptr()
                )
        else:
            assert one == other


def both(content: Any, path: Path, *, legacy: bool = False) -> tuple[Any, Any]:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return read_file(path).content, torch.load(path, weights_only=True)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_every_type_is_read_as_torch_reads_it(
    dtype: torch.dtype, legacy: bool, tmp_path: Path
) -> None:
    content = {
        "a": filled((3, 5), dtype),
        "scalar": filled((), dtype),
        "none": filled((0, 4), dtype),
        "view": filled((4, 6), dtype)[1:, ::2].T,
    }
    if (
        legacy and dtype in torch.storage._new_dtypes()
    ):  # torch writes them so, and cannot read them
        torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
        same(read_file(tmp_path / "x.pth").content, content)
        return
    same(*both(content, tmp_path / "x.pth", legacy=legacy))


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Any]:
    """Tensors of all layouts over a few storages, in nested containers."""
    names = st.sampled_from(
        ["float32", "bfloat16", "int64", "bool", "complex64", "float16", "uint8"]
    )
    found: dict[str, Any] = {}
    for index in range(draw(st.integers(1, 3))):
        size = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
        base = filled(size, getattr(torch, draw(names)))
        for view in range(draw(st.integers(1, 3))):
            one = base
            for _ in range(draw(st.integers(0, 3))):
                one = draw(st.sampled_from(VIEWS))(one, draw(st.integers(0, 7)))
            key = f"{index}.{view}"
            if draw(st.booleans()) and one.dtype.is_floating_point:
                one = nn.Parameter(one, requires_grad=draw(st.booleans()))
            found[key] = [one, {"inner": (one, index)}] if draw(st.booleans()) else one
    return found


def _narrow(x: Tensor, n: int) -> Tensor:
    return x.narrow(n % x.ndim, x.shape[n % x.ndim] // 2, x.shape[n % x.ndim] // 2) if x.ndim else x


VIEWS: list[Callable[[Tensor, int], Tensor]] = [
    lambda x, n: x.transpose(n % x.ndim, -1) if x.ndim else x,
    lambda x, n: x[..., :: n + 1] if x.ndim else x,
    lambda x, n: x.unsqueeze(0).expand(n + 1, *x.shape),
    lambda x, n: x.conj() if x.is_complex() else x,
    lambda x, n: x.clone().conj().imag if x.is_complex() else x,  # of its own: one type a storage
    lambda x, n: x.reshape(-1),
    lambda x, n: x.detach(),
    _narrow,
]


@settings(deadline=None, max_examples=60)
@given(content=tensors(), legacy=st.booleans())
def test_views_and_shared_memory_are_read_as_torch_reads_them(
    content: dict[str, Any], legacy: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    same(*both(content, tmp_path_factory.mktemp("twin") / "x.pth", legacy=legacy))


def test_state_dicts_optimisers_and_plain_values_are_read_as_torch_reads_them(
    tmp_path: Path,
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4))
    optimiser = torch.optim.AdamW(model.parameters())
    model[2](model[0](torch.ones(1, 3, 3, 3)).flatten(1)).sum().backward()
    optimiser.step()
    content = {
        "model": model.state_dict(),
        "optimizer": optimiser.state_dict(),
        "epoch": 3, "loss": 0.5, "flag": True, "none": None, "bytes": b"\xff\x00",
        "nested": {"list": [1, (2.5, "x")], 7: "int key"},
        "ordered": collections.OrderedDict(a=1),
    }  # fmt: skip
    for legacy in (False, True):
        ours, theirs = both(content, tmp_path / "x.pth", legacy=legacy)
        assert ours.pop("bytes").args[0].encode("latin1") == theirs.pop("bytes")
        same(ours, theirs)


class Colour(enum.Enum):
    RED = 1


class Plain:
    """Keeps state that `torch.load` refuses."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


class Slots:
    __slots__ = ("weight",)


def test_all_that_people_put_beside_weights_opens_with_equal_tensors(tmp_path: Path) -> None:
    weights = {"w": torch.arange(6.0).reshape(2, 3)}
    slots = Slots()
    slots.weight = torch.ones(2)
    generator = np.random.default_rng(0)
    content = {
        "state_dict": weights,
        "best_acc": np.float64(71.3),
        "flags": np.bool_(True),
        "count": np.int32(-3),
        "rng": {
            "numpy": np.random.RandomState(0).get_state(),
            "generator": generator, "python": random.getstate(), "torch": torch.get_rng_state(),
        },
        "path": pathlib.PurePosixPath("/data/x"),
        "when": datetime.datetime(2021, 1, 1),
        "colour": Colour.RED,
        "callbacks": {Plain: {"best": torch.tensor(2.0)}, Colour.RED: 1},
        "args": argparse.Namespace(lr=0.1, heads=6),
        "config": collections.defaultdict(list, a=[1]),
        "counter": collections.Counter("aab"),
        "set": {1, 2},
        "frozen": frozenset({3}),
        "object": Plain(inner=Plain(weight=torch.full((2,), 7.0)), name="x"),
        "slots": slots,
        "function": torch.nn.functional.relu,
        "dtype": torch.bfloat16,
        "size": torch.Size((1, 2)),
        "device": torch.device("cpu"),
        "array": np.arange(6, dtype=np.int16).reshape(2, 3).T,
        "names": np.array(["a", "bc"]),
        "objects": np.array([Plain()], dtype=object),
        "complex": 1 + 2j,
    }  # fmt: skip
    for protocol in (2, 4, 5):
        path = tmp_path / f"{protocol}.pth"
        torch.save(content, path, pickle_protocol=protocol)
        file = read_file(path)
        found = file.content
        same(found["state_dict"], weights)
        assert (found["best_acc"], found["flags"], found["count"]) == (71.3, True, -3)
        assert found["args"] == {"lr": 0.1, "heads": 6}
        assert found["config"] == {"a": [1]}
        assert found["counter"] == {"a": 2, "b": 1}
        assert sorted(found["set"]) == [1, 2]
        assert found["frozen"] == [3]
        assert found["object"]["name"] == "x"
        assert torch.equal(found["object"]["inner"]["weight"], torch.full((2,), 7.0))
        assert torch.equal(found["slots"]["weight"], torch.ones(2))
        assert found["dtype"] is torch.bfloat16
        assert found["size"] == (1, 2)
        assert torch.equal(found["array"], torch.arange(6, dtype=torch.int16).reshape(2, 3).T)
        assert torch.equal(found["rng"]["torch"], content["rng"]["torch"])
        mersenne = content["rng"]["numpy"][1]
        assert np.array_equal(found["rng"]["numpy"][1].numpy(), mersenne)
        names = list(found["callbacks"])
        assert names[0].endswith("Plain")
        # Python before 3.11.3 pickles a member as getattr of its class.
        assert names[1].endswith(("Colour(1)", "getattr"))
        assert torch.equal(found["callbacks"][names[0]]["best"], torch.tensor(2.0))
        closed = " ".join(file.stood_in)
        for name in (
            "Plain",
            "Colour",
            "PurePosixPath",
            "datetime.datetime",
            "argparse.Namespace",
            "relu",
        ):
            assert name in closed
        assert "OrderedDict" not in closed
        assert "FloatStorage" not in closed


class Norm(nn.Module):
    """With buffers of both kinds, a module that stands twice, and attributes that are no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(3))
        self.register_buffer("mean", torch.rand(3))
        self.register_buffer("cache", torch.rand(3), persistent=False)
        self.register_parameter("bias", None)
        self.inner = nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.BatchNorm1d(3)})
        self.again = self.inner["a"]
        self.nothing = None
        self.loose = torch.rand(5)
        self.cycle: Any = [self]


MODULES: dict[str, Callable[[], nn.Module]] = {
    "own": Norm,
    "parallel": lambda: nn.DataParallel(Norm()),
    "sequential": lambda: nn.Sequential(Norm(), nn.ReLU(), nn.Sequential(nn.Conv2d(3, 4, 3))),
    "attention": lambda: nn.MultiheadAttention(8, 2),
    "frozen": lambda: Norm().requires_grad_(False),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source")
def test_a_pickled_module_has_the_names_and_tensors_of_its_state_dict(
    name: str, legacy: bool, tmp_path: Path
) -> None:
    module = MODULES[name]()
    path = tmp_path / "x.pth"
    torch.save(module, path, _use_new_zipfile_serialization=not legacy)
    same(read_file(path).content, {k: v.detach() for k, v in module.state_dict().items()})
    torch.save({"epoch": 1, "model": module}, path, _use_new_zipfile_serialization=not legacy)
    file = read_file(path)
    same(file.content["model"], {k: v.detach() for k, v in module.state_dict().items()})
    assert any(type(module).__qualname__ in name for name in file.stood_in)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_an_archive_of_torchscript_has_the_names_of_its_module(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    torch.jit.script(module).save(str(tmp_path / "x.pt"))
    found = flat(read_file(tmp_path / "x.pt").content)
    assert found.keys() == module.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in module.state_dict().items())


def test_a_file_with_everything_beside_is_the_encoder_of_its_weights(tmp_path: Path) -> None:
    """End to end: the same encoder as of the weights alone, and `doctor` names what was left closed."""
    model = fake.vit(1)
    plain = checkpoints.load(str(fake.plain(tmp_path / "plain.pth", model)))
    lightning = {
        "state_dict": fake.prefixed(model.state_dict(), "backbone."),
        "callbacks": {Plain: {"best_model_score": torch.tensor(1.0)}},
        "hyper_parameters": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("x")),
        "best": np.float32(0.5),
        "rng": np.random.RandomState(0),
    }
    for name, content in (
        ("lightning", lightning),
        ("module", model),
        ("pair", [model, {"epoch": 3}]),
    ):
        path = tmp_path / f"{name}.pth"
        torch.save(content, path)
        found = checkpoints.diagnose(str(path))
        assert found.model.weights_sha256 == plain.info.weights_sha256  # type: ignore[union-attr]
        assert any(part in " ".join(found.closed) for part in ("numpy.random", "VisionTransformer"))
        console = Console(width=80, file=io.StringIO())
        console.print(checkpoints.render(found))
        assert "left closed" in console.file.getvalue()  # type: ignore[attr-defined]
    assert checkpoints.diagnose(str(tmp_path / "plain.pth")).closed == ()


def test_lists_and_shared_dictionaries_keep_their_places(tmp_path: Path) -> None:
    state = {"w": torch.ones(2)}
    torch.save([state, {"best": state, 3: state}], tmp_path / "x.pth")
    found = read_file(tmp_path / "x.pth").content
    assert list(found) == ["0", "1"]
    assert found["0"] is found["1"]["best"] is found["1"][3]


UNREADABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "sparse": (lambda: torch.eye(3).to_sparse(), r"sparse.*to_dense"),
    "csr": (lambda: torch.eye(3).to_sparse_csr(), r"sparse.*to_dense"),
    "quantised": (
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        r"quantised.*dequantize",
    ),
    "meta": (lambda: torch.empty(3, device="meta"), "meta device and holds no values"),
    "meta parameter": (lambda: nn.Parameter(torch.empty(3, device="meta")), "meta device"),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
    "lazy": (lambda: nn.parameter.UninitializedParameter(), "not initialised"),
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.filterwarnings("ignore")
def test_a_tensor_that_cannot_be_read_says_why_and_what_to_do(name: str, tmp_path: Path) -> None:
    make, message = UNREADABLE[name]
    path = tmp_path / "x.pth"
    torch.save({"model": {"a": torch.ones(2), "b.weight": make()}}, path)
    with pytest.raises(DataError, match=rf"'model\.b\.weight' is.*{message}"):
        read_file(path)
    torch.save({"model": {"a": torch.ones(2)}, "graph": {"x": 1, "y": make()}}, path)
    assert torch.equal(read_file(path).content["model"]["a"], torch.ones(2))


def craft(
    path: Path,
    *,
    storage: Any = torch.FloatStorage,
    numel: Any = 6,
    offset: Any = 0,
    size: Any = (2, 3),
    stride: Any = (3, 1),
    data: bytes = bytes(24),
    key: Any = "0",
    more: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """A file of torch.save with one tensor, of which anything can be a lie."""

    class Storage:
        pass

    class Rebuilt:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (
                Storage(), offset, size, stride, False, collections.OrderedDict(),
            )  # fmt: skip

    class Pickler(pickle.Pickler):
        def persistent_id(self, it: Any) -> Any:
            return ("storage", storage, key, "cpu", numel) if isinstance(it, Storage) else None

    stream = io.BytesIO()
    Pickler(stream, 2).dump({"w": Rebuilt()})
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a/data.pkl", stream.getvalue(), zipfile.ZIP_STORED)
        archive.writestr("a/data/0", data)
        for name, part in (more or {}).items():
            archive.writestr(f"a/{name}", part)
    return path


def test_a_crafted_file_without_a_lie_opens(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32)
    path = craft(tmp_path / "x.pth", data=values.tobytes())
    assert torch.equal(read_file(path).content["w"], torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "lie",
    [
        {"offset": 1}, {"offset": -1}, {"offset": 2**62}, {"size": (3, 3)}, {"stride": (4, 1)},
        {"size": (2**40, 2**40)}, {"size": (2**31, 3), "stride": (0, 1)}, {"stride": (-3, 1)},
        {"size": (2,)}, {"stride": (1, 1, 1)}, {"size": (-2, -3)}, {"size": (2.0, 3)}, {"size": "ab"},
        {"size": (True, 3)}, {"size": None}, {"numel": 7}, {"numel": 2**61}, {"numel": -6},
        {"numel": 6.0}, {"key": "1"}, {"key": "../data.pkl"}, {"key": None}, {"storage": torch.DoubleStorage},
        {"storage": dict}, {"storage": "FloatStorage"}, {"data": bytes(20)}, {"data": b""},
        {"size": (1,) * 60 + (2, 3), "stride": (1,) * 60 + (3, 1)},
    ],
    ids=str,
)  # fmt: skip
def test_a_tensor_that_reaches_out_of_its_data_is_an_error(
    lie: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"x\.pth"):
        read_file(craft(tmp_path / "x.pth", **lie))


def test_the_data_of_a_packed_or_encrypted_archive_is_not_guessed(tmp_path: Path) -> None:
    path = craft(tmp_path / "x.pth", compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"compressed or encrypted.*zip -0"):
        read_file(path)


def test_data_lies_where_the_local_header_says(tmp_path: Path) -> None:
    path = craft(tmp_path / "x.pth", more={"other": bytes(24)})
    whole = bytearray(path.read_bytes())
    at = whole.index(b"a/data/0")
    for change in ({at: ord("b")}, {at - 30: 0}, {at - 4: 255, at - 3: 255}):
        copy = bytearray(whole)
        for place, byte in change.items():
            copy[place] = byte
        path.write_bytes(copy)
        with pytest.raises(DataError, match="complete zip file"):
            read_file(path)


def test_two_parts_of_one_name_are_an_error(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = craft(tmp_path / "x.pth", more={"data/0": bytes(24)})
    with pytest.raises(DataError, match="one name"):
        read_file(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.int64])
def test_the_byte_order_is_obeyed(dtype: torch.dtype, tmp_path: Path) -> None:
    """Twin: torch's own, of which no file of the other order can be had here."""
    tensor = filled((3, 4), dtype)
    first, other = tmp_path / "first.pth", tmp_path / "other.pth"
    torch.save({"w": tensor, "again": tensor.T}, first)
    storage = tensor.clone().untyped_storage()
    storage.byteswap(dtype)
    with zipfile.ZipFile(first) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("byteorder"):
                data = b"big" if sys.byteorder == "little" else b"little"
            if name.endswith("data/0"):
                data = bytes(storage)
            target.writestr(name, data)
    ours, theirs = read_file(other).content, torch.load(other, weights_only=True)
    assert bits(ours["w"]) == bits(tensor) == bits(theirs["w"])
    assert bits(ours["again"]) == bits(tensor.T)


def test_tensors_that_share_much_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    base = torch.zeros(1 << 20)
    torch.save({str(i): base[i:] for i in range(4)}, tmp_path / "few.pth")
    assert len(read_file(tmp_path / "few.pth").content) == 4
    torch.save({str(i): base[i:] for i in range(9)}, tmp_path / "many.pth")
    with pytest.raises(DataError, match="8 times the size"):
        read_file(tmp_path / "many.pth")
    torch.save({"w": torch.zeros(1).expand(1 << 40)}, tmp_path / "huge.pth")
    with pytest.raises(DataError, match="8 times the size"):
        read_file(tmp_path / "huge.pth")


def test_an_old_tar_archive_says_what_it_is(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "x.pth", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    with pytest.raises(DataError, match=r"tar archive.*torch\.save"):
        read_file(tmp_path / "x.pth")


ARRAYS = {
    "float": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
    "double": np.random.default_rng(0).normal(size=(2, 3, 4)),
    "half": np.ones(3, np.float16),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    "other order": np.arange(6).astype(">i4").reshape(2, 3),
    "complex": np.array([1 + 2j]),
    "flags": np.array([True, False]),
    "scalar": np.array(2.5),
    "none": np.zeros((0, 4), np.float32),
    "Transformer/encoderblock_0/LayerNorm_0/bias": np.arange(5, dtype=np.uint8),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files_are_read_as_numpy_reads_them(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "x.npz", **ARRAYS, padding=np.random.default_rng(0).bytes(4096))
    with pytest.raises(DataError, match="expected numbers"):
        read_file(tmp_path / "x.npz")
    noise = np.frombuffer(np.random.default_rng(0).bytes(4096), np.uint8)
    save(tmp_path / "x.npz", **ARRAYS, noise=noise)
    file = read_file(tmp_path / "x.npz")
    assert file.container == "npz"
    theirs = np.load(tmp_path / "x.npz")
    assert list(file.content) == list(theirs)
    for name, array in theirs.items():
        ours = file.content[name].numpy()
        assert ours.dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(ours, array)
        assert ours.shape == array.shape


def test_bfloat16_of_jax_is_bfloat16(tmp_path: Path) -> None:
    raw = torch.arange(6.0).bfloat16()
    np.savez(tmp_path / "x.npz", w=raw.view(torch.int16).numpy().view("V2").reshape(2, 3))
    assert torch.equal(read_file(tmp_path / "x.npz").content["w"], raw.reshape(2, 3))


def test_arrays_that_lie_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, w=np.zeros((10, 10), np.float32))
    whole = path.read_bytes()
    for lie in (b"(99999999, 10), ", b"(10, -10),      ", b"(10, 1e9),      "):
        path.write_bytes(whole.replace(b"(10, 10), }     ", lie[:10] + b" }     "[: 16 - 10]))
        with pytest.raises(DataError):
            read_file(path)
    np.savez(path, w=np.array([print], dtype=object))
    with pytest.raises(DataError, match="expected numbers"):
        read_file(path)
    np.savez_compressed(path, w=np.zeros(1 << 20))
    with pytest.raises(DataError, match="twice its size"):
        read_file(path)


@given(size=st.lists(st.integers(1, 4), max_size=4), fortran=st.booleans())
def test_strides_of_contiguous_arrays_are_numpys(size: list[int], fortran: bool) -> None:
    array = np.zeros(size, np.int8, order="F" if fortran else "C")
    wide = [s for s, n in zip(array.strides, size) if n > 1]
    assert [s for s, n in zip(contiguous(size, fortran=fortran), size) if n > 1] == wide


def test_a_pickle_of_arrays_is_a_checkpoint(tmp_path: Path) -> None:
    """As detectron2 keeps converted weights."""
    content = {"model": {"w": ARRAYS["double"], "b": ARRAYS["other order"]}, "__author__": "x"}
    for protocol in (2, 3, 4, 5):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol))
        file = read_file(tmp_path / "x.pkl")
        assert file.container == "pickle"
        for name in ("w", "b"):
            assert np.array_equal(file.content["model"][name].numpy(), content["model"][name])
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, 4) + b"more")
    with pytest.raises(DataError, match="4 bytes follow"):
        read_file(tmp_path / "x.pkl")
