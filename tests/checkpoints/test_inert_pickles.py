"""Pickles are read as data: as Python reads plain ones, at bounded cost, and no code of any runs."""

import os
import pickle
import pickletools
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdssl_bench.checkpoints.files import read_file
from sdssl_bench.errors import DataError
from sdssl_bench.system import unpickle
from sdssl_bench.system.pickles.machine import FLOOR_BYTES, PickleError, StandIn, allowance
from sdssl_bench.system.pickles.opcodes import STEPS

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.text(), st.integers()), inner)
    ),
    max_leaves=20,
)


def read(data: bytes) -> Any:
    return unpickle(data, budget=allowance(len(data))).value


def plain(value: Any) -> Any:
    """Bytes of the protocols that have no opcode for them."""
    if isinstance(value, StandIn):
        return value.args[0].encode("latin1") if value.args else b""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value


@given(value=PLAIN, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_what_python_reads(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    found = unpickle(data + b"more", budget=allowance(len(data)))
    assert plain(found.value) == value
    assert found.end == len(data)


def test_shared_and_recursive_values_stay_so() -> None:
    shared: list[Any] = [1]
    loop: list[Any] = [shared, shared]
    loop.append(loop)
    found = read(pickle.dumps(loop))
    assert found[0] is found[1]
    assert found[2] is found


def test_sets_are_lists_and_texts_of_python_2_are_texts() -> None:
    assert sorted(read(pickle.dumps({3, 1}))) == [1, 3]
    assert read(pickle.dumps(frozenset((3,)))) == [3]
    assert read(b"U\x03abc.") == read(b"T\x03\x00\x00\x00abc.") == read(b"S'abc'\n.") == "abc"
    assert read(b"U\x01\xff.") == b"\xff"


def test_every_opcode_of_python_is_known() -> None:
    """The frequent ones in the loop, the others in the table: none is told as damage."""
    known = set(STEPS) | set(range(256)) - {code for code in range(256) if _unknown(code)}
    assert {ord(one.code) for one in pickletools.opcodes} == known


def _unknown(code: int) -> bool:
    with pytest.raises(PickleError) as error:
        read(bytes([code]))
    return f"no opcode {code:#x}" in str(error.value)


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def hostile(target: str) -> dict[str, bytes]:
    """Pickles that run code when Python's unpickler, or one of torch's functions, is given them."""
    touch = _text(f"touch {target}")
    system, evaluate = b"cposix\nsystem\n", b"cbuiltins\neval\n"
    write = _text(f"open({target!r}, 'w')")
    body = {
        "reduce": system + touch + b"\x85R",
        "reduce eval": evaluate + write + b"\x85R",
        "stack global": _text("posix") + _text("system") + b"\x93" + touch + b"\x85R",
        "inst": b"(" + touch + b"iposix\nsystem\n",
        "obj": b"(" + system + touch + b"o",
        "newobj": system + touch + b"\x85\x81",
        "newobj ex": system + touch + b"\x85}\x92",
        "newobj of a class": b"csubprocess\nPopen\n" + touch + b"\x85\x81",
        "popen with keywords": b"csubprocess\nPopen\n" + touch + b"\x85}" + _text("shell") + b"\x88s\x92",
        "build with setstate": b"ctypes\nSimpleNamespace\n)R}" + _text("__setstate__") + system + b"sb"
        + touch + b"b",
        "build with slots": b"ctypes\nSimpleNamespace\n)RN}" + _text("__setstate__") + system + b"s\x86b"
        + touch + b"b",
        "build on a function": b"ctorch._utils\n_rebuild_tensor\nN}" + _text("__code__") + touch + b"s\x86b",
        "build on a class": b"ccollections\nOrderedDict\nN}" + _text("__init__") + system + b"s\x86b"
        + b"ccollections\nOrderedDict\n" + touch + b"\x85R",
        "getattr": b"cbuiltins\ngetattr\ncposix\nos\n" + _text("system") + b"\x86R" + touch + b"\x85R",
        "dotted name": _text("builtins") + _text("eval.__call__") + b"\x93" + write + b"\x85R",
        "import": b"cbuiltins\n__import__\n" + _text("antigravity") + b"\x85R",
        "map": b"cbuiltins\nlist\ncbuiltins\nmap\n" + system + b"(" + touch + b"l\x86R\x85R",
        "partial": b"cfunctools\npartial\n" + system + touch + b"\x86R)R",
        "timeit": b"ctimeit\ntimeit\n" + write + b"\x85R",
        "runpy": b"crunpy\n_run_code\n" + write + b"}\x86R",
        "pickle in a pickle": b"cpickle\nloads\nC" + bytes([len(system + touch) + 3]) + system + touch
        + b"\x85R.\x85R",
        "load from bytes": b"ctorch.storage\n_load_from_bytes\nC\x02N.\x85R",
        "torch load": b"ctorch.serialization\nload\n" + _text(target) + b"\x85R",
        "from type": b"ctorch._tensor\n_rebuild_from_type_v2\n(" + system + b"ctorch\nTensor\n" + touch
        + b"\x85NtR",
        "from type eval": b"ctorch._tensor\n_rebuild_from_type\n(" + evaluate + b"ctorch\nTensor\n" + write
        + b"\x85}tR",
        "parameter state": b"ctorch._utils\n_rebuild_parameter_with_state\n(" + system + touch + b"\x85R\x89"
        + b"}}tR",
        "hooks": b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))\x89" + system + touch + b"\x85R" + b"tR",
        "numpy scalar": b"cnumpy.core.multiarray\nscalar\n" + system + touch + b"\x86R",
        "numpy reconstruct": b"cnumpy.core.multiarray\n_reconstruct\n(" + system + b"K\x00\x85C\x01btR("
        + b"K\x01K\x00\x85" + system + b"\x89" + touch + b"tb",
        "numpy dtype": b"cnumpy\ndtype\n" + system + b"\x85R",
        "encode": b"c_codecs\nencode\n" + touch + _text("../" + target) + b"\x86R",
        "codec": b"c_codecs\nlookup\n" + system + b"\x85R",
        "old object": b"ccopy_reg\n_reconstructor\n(" + system + b"cbuiltins\nobject\n" + touch + b"tR",
        "key": b"}" + system + touch + b"\x85RK\x01s",
        "item": b"](" + system + touch + b"\x85Re",
        "persistent id": system + touch + b"\x85RQ",
        "persistent line": b"Pposix.system\n",
        "persistent storage": b"(" + _text("storage") + system + touch + _text("cpu") + b"K\x04tQ",
        "memo": system + b"q\x00" + touch + b"q\x010h\x00h\x01\x85R",
        "memo over a function": b"ctorch._utils\n_rebuild_tensor_v2\nq\x000" + system + b"q\x000h\x00"
        + touch + b"\x85R",
        "extension 1": b"\x82\x01" + touch + b"\x85R",
        "extension 2": b"\x83\x01\x02" + touch + b"\x85R",
        "extension 4": b"\x84\x01\x02\x03\x04" + touch + b"\x85R",
        "call of a result": system + touch + b"\x85R" + touch + b"\x85R" + touch + b"\x85R",
        "slots of a dict": b"}N}" + _text("__class__") + system + b"s\x86b",
        "out of band": b"\x97",
        "read only": touch + b"\x98",
    }  # fmt: skip
    return {name: b"\x80\x02}" + _text("x") + code + b"s." for name, code in body.items()}


NAMES = list(hostile("x"))


def canaried(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs `code` where every import, process, evaluation and opened file is told on stdout."""
    watch = """
import sys
from pathlib import Path
from sdssl_bench.checkpoints.files import read_file
from sdssl_bench.errors import DataError
import torch, numpy, numpy.lib.format, safetensors, warnings, zipfile
own = sys.argv[1]
asked = ('import', 'os.system', 'subprocess.Popen', 'exec', 'compile', 'os.exec', 'pickle.find_class')
active = False
def hook(event, args):
    if active and event in asked:
        print('RAN', event, args[:1])
    if active and event == 'open' and not str(args[0]).startswith(own) and isinstance(args[1], str):
        print('RAN', event, args[:2])
sys.addaudithook(hook)
"""
    done = [sys.executable, "-c", watch + code, *map(str, arguments)]
    return subprocess.run(done, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Every hostile pickle: bare, in a zip file, and in a file of before torch 1.6."""
    folder = tmp_path_factory.mktemp("hostile")
    target = folder / "pwned"
    for name, data in hostile(str(target)).items():
        stem = folder / name.replace(" ", "_")
        stem.with_suffix(".pkl").write_bytes(data)
        torch.save({}, stem.with_suffix(".pth"))
        whole = stem.with_suffix(".pth").read_bytes()
        with zipfile.ZipFile(stem.with_suffix(".pth"), "w") as archive:
            archive.writestr("a/data.pkl", data)
            archive.writestr("a/version", "3")
        torch.save({}, stem.with_suffix(".old"), _use_new_zipfile_serialization=False)
        whole = stem.with_suffix(".old").read_bytes()
        empty = pickle.dumps({}, 2)
        assert whole.count(empty) == 1
        stem.with_suffix(".old").write_bytes(whole.replace(empty, data))
    return folder, target


def test_no_hostile_pickle_runs_anything(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    """In a process of its own, which tells imports, calls and processes: there are none."""
    folder, target = corpus
    code = """
read_file(Path(sys.argv[2]))  # what the reader itself imports when it is first asked,
"".encode("cp437")  # and the codec of names in zip files
before = set(sys.modules)
active = True
for path in sorted(Path(own).iterdir()):
    try:
        read_file(path)
        print('read', path.name)
    except DataError as error:
        print('refused', path.name)
active = False
print('MODULES', sorted(set(sys.modules) - before))
"""
    torch.save({}, tmp_path / "harmless.pth")
    done = canaried(code, folder, tmp_path / "harmless.pth")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert not [line for line in lines if line.startswith("RAN")]
    assert "MODULES []" in lines
    assert sum(line.startswith(("read", "refused")) for line in lines) == 3 * len(NAMES)
    assert sum(line.startswith("read") for line in lines) > len(NAMES)
    assert not target.exists()


def test_the_corpus_is_hostile(tmp_path: Path) -> None:
    """Python's own unpickler runs enough of it: the corpus would tell a reader that does."""
    code = """
import pickle
active = True
for path in sorted(Path(own).iterdir()):
    try:
        pickle.loads(path.read_bytes())
    except BaseException as error:
        pass
"""
    target = tmp_path / "out" / "pwned"
    target.parent.mkdir()
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in hostile(str(target)).items():
        if name not in ("import", "runpy", "timeit"):
            (folder / f"{name}.pkl").write_bytes(data)
    done = canaried(code, folder)
    assert target.exists()
    assert done.stdout.count("RAN os.system") > 10, done.stdout


def floods() -> Iterator[tuple[str, Callable[[int], bytes]]]:
    """Pickles of n bytes that make as much of each byte as they can."""
    for code in ("}", "]", "\x8f", "(", ")", "N", "(t", "(l", "(d", "N\x94", "]\x94", "}\x94", "N\x85",
                 "K\x01", "K\x01K\x02\x86", "}NNs", "]Na", "cA\nB\n)R", "cA\nB\n)\x81N", "J\x01\x02\x03\x04",
                 "N2",
                 "G\x01\x02\x03\x04\x05\x06\x07\x08", "C\x01a", "U\x01\xff", "X\x01\x00\x00\x00a", "NQ",
                 "(iA\nB\n", "L12345678901234567890\n"):  # fmt: skip
        raw = code.encode("latin1")
        yield code, lambda n, raw=raw: raw * (n // len(raw))  # type: ignore[misc]
    yield "names", lambda n: b"".join(b"c%d\n\n" % i for i in range(n // 8))
    yield "memo", lambda n: b"N" + b"".join(b"r" + struct.pack("<I", i << 8) for i in range(n // 5))
    yield (
        "keys",
        lambda n: b"}" + b"".join(b"J" + struct.pack("<i", i) + b"Ns" for i in range(n // 7)),
    )
    yield (
        "wide text",
        lambda n: b"X" + struct.pack("<I", n) + b"a" * (n - 4) + "\U0001f600".encode(),
    )
    yield "calls of calls", lambda n: b"cA\nB\n" + b")R" * (n // 2)


@pytest.mark.parametrize(
    ("name", "make"), list(floods()), ids=lambda x: repr(x) if isinstance(x, str) else ""
)
def test_the_memory_of_a_pickle_is_bounded_by_its_file(
    name: str, make: Callable[[int], bytes]
) -> None:
    data = make(200_000)
    budget = 2 * len(data) + (1 << 20)  # a lower floor, so that the bound is felt
    tracemalloc.start()
    refusal = ""
    try:
        unpickle(data + b".", budget=budget)
    except PickleError as error:
        refusal = str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert not refusal or "accounts for" in refusal
    assert peak <= budget + len(data), f"{peak / len(data):.1f} bytes a byte"


@pytest.mark.parametrize(
    "lie",
    [
        b"N\x72\xff\xff\xff\xff.", b"Np4294967295\n.", b"\x95" + b"\xff" * 8 + b"N.",
        b"X\xff\xff\xff\xffabc.", b"\x8d" + b"\xff" * 8 + b"abc.", b"\x8e" + b"\xff" * 7 + b"\x0fabc.",
        b"\x96" + b"\xff" * 7 + b"\x0fabc.", b"\x8b\xff\xff\xff\x7fabc.", b"B\xff\xff\xff\xffabc.",
        b"T\xff\xff\xff\x7fabc.", b"\x8b\xff\xff\xff\xffabc.", b"I" + b"9" * 10_000 + b"\n.",
    ],
)  # fmt: skip
def test_a_length_that_lies_costs_nothing(lie: bytes) -> None:
    tracemalloc.start()
    try:
        unpickle(lie, budget=allowance(len(lie)))
    except PickleError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 1 << 17


def zipped(path: Path, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", data)
    return path


def test_nesting_is_bounded_and_sharing_is_counted(tmp_path: Path) -> None:
    deep = b"\x80\x02}" + _text("x") + b"]" * 40_000 + b"a" * 39_999 + b"s."
    with pytest.raises(DataError, match="nested more than"):
        read_file(zipped(tmp_path / "deep.pth", deep))
    tuples = b"\x80\x02}" + _text("x") + b")" + b"\x85" * 40_000 + b"s."
    with pytest.raises(DataError, match="nested more than"):
        read_file(zipped(tmp_path / "tuples.pth", tuples))
    key = b"\x80\x02})" + b"\x85" * 40_000 + b"Ns."  # whose hash would overflow the stack
    assert len(read_file(zipped(tmp_path / "key.pth", key)).content) == 1
    # Each list holds the one before twice: 2 ** 60 in all.
    twice: list[Any] = []
    for _ in range(60):
        twice = [twice, twice]
    laughs = pickle.dumps({"x": twice}, 2)
    with pytest.raises(DataError, match="more objects"):
        read_file(zipped(tmp_path / "laughs.pth", laughs))
    loop = b"\x80\x02}q\x00" + _text("x") + b"h\x00s."
    assert isinstance(read_file(zipped(tmp_path / "loop.pth", loop)).content["x"], StandIn)


def test_texts_cannot_be_multiplied(tmp_path: Path) -> None:
    """Bytes of protocol 2 are texts that a call encodes: one text encoded a million times is refused."""
    text = "a" * 1_000_000
    many = (
        b"\x80\x02}"
        + _text("x")
        + b"](c_codecs\nencode\nq\x00"
        + _text(text)
        + _text("latin1")
        + b"\x86q\x01"
    )
    data = many + b"h\x00h\x01R" * 1000 + b"es."
    tracemalloc.start()
    file = read_file(zipped(tmp_path / "many.pth", data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(file.content["x"]) > 1000
    assert peak < allowance(len(data))


def test_the_floor_is_what_a_small_file_may_cost() -> None:
    assert allowance(0) == FLOOR_BYTES
    assert os.sysconf("SC_PAGE_SIZE") < FLOOR_BYTES


@pytest.mark.parametrize(("letter", "fits"), [("a", True), ("ÿ", True), ("Ā", False), ("𝄞", False)])
def test_a_text_costs_what_its_widest_letter_needs(letter: str, fits: bool) -> None:
    """So bytes that Python 3 writes in protocol 2, as a text in latin1, fit in any file."""
    data = pickle.dumps("a" * FLOOR_BYTES + letter, 4)
    if fits:
        assert read(data)[-1] == letter
    else:
        with pytest.raises(PickleError, match="more text than"):
            read(data)
