"""Damaged files of every kind: an error or the weights, no traceback, no code, bounded memory."""

import io
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

import fake_checkpoints as fake
from sdssl_bench import checkpoints
from sdssl_bench.checkpoints.files import read_file
from sdssl_bench.errors import DataError, UsageError

State = dict[str, Tensor]


class Bomb:
    """Leaves a file behind if it is unpickled by anybody who runs pickles."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


def training(state: State, bomb: Bomb) -> dict[str, Any]:
    return {
        "model": state,
        "best": np.float64(0.5),
        "epoch": 3,
        "evil": [bomb],
        "rng": np.arange(9),
    }


def _zip(path: Path, state: State, bomb: Bomb) -> None:
    torch.save(training(state, bomb), path)


def _legacy(path: Path, state: State, bomb: Bomb) -> None:
    torch.save(training(state, bomb), path, _use_new_zipfile_serialization=False)


def _module(path: Path, state: State, bomb: Bomb) -> None:
    model = torch.nn.ParameterDict({key.replace(".", "_"): value for key, value in state.items()})
    model.evil = bomb
    torch.save(model, path)


def _safetensors(path: Path, state: State, bomb: Bomb) -> None:
    save_file(state, path, metadata={"format": "pt"})


def _npz(path: Path, state: State, bomb: Bomb) -> None:
    np.savez(path.with_suffix(".npz"), **{key: value.numpy() for key, value in state.items()})
    path.with_suffix(".npz").rename(path)


def _pickle(path: Path, state: State, bomb: Bomb) -> None:
    arrays = {key: value.numpy() for key, value in state.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "evil": bomb}, 4))


KINDS: dict[str, Callable[[Path, State, Bomb], None]] = {
    "zip": _zip, "legacy": _legacy, "module": _module, "safetensors": _safetensors, "npz": _npz,
    "pickle": _pickle,
}  # fmt: skip
EXTREMES = [
    0, 1, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1,
]  # fmt: skip


def spots(data: bytes) -> list[tuple[int, int]]:
    """Where a file has structure: all but the inside of long runs that the structure points to."""
    found = [(0, min(4096, len(data))), (max(0, len(data) - 8192), len(data))]
    for mark in (b"PK\x03\x04", b"PK\x01\x02", b"data.pkl", b"_rebuild", b"NUMPY", b"storage"):
        at = data.find(mark)
        while at >= 0 and len(found) < 600:
            found.append((max(0, at - 16), min(len(data), at + 64)))
            at = data.find(mark, at + 1)
    return found


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four changes: bytes, numbers of extreme size, cuts, repeats and exchanges."""
    copy, places = bytearray(data), spots(data)
    for _ in range(rng.randint(1, 4)):
        low, high = rng.choice(places)
        at = min(rng.randrange(low, max(high, low + 1)), len(copy) - 1)
        what = rng.randrange(8)
        if what <= 2:
            copy[at] = rng.randrange(256)
        elif what == 3:
            copy[at] ^= 1 << rng.randrange(8)
        elif what == 4:
            width = rng.choice([1, 2, 4, 8])
            value = struct.pack("<Q", rng.choice(EXTREMES))[:width]
            copy[at : at + width] = value
        elif what == 5 and rng.random() < 0.3:
            del copy[at:]
        elif what == 6:
            del copy[at : at + rng.randrange(1, 9)]
        else:
            other = rng.randrange(len(copy))
            copy[at:at] = copy[other : other + rng.randrange(1, 17)]
        if not copy:
            return b"\0"
    return bytes(copy)


def mutate_inside(data: bytes, rng: random.Random) -> bytes:
    """A sound zip file, whose pickle is changed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(stream, "w") as target:
        for name in source.namelist():
            part = source.read(name)
            target.writestr(name, mutate(part, rng) if name.endswith("data.pkl") else part)
    return stream.getvalue()


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("mutations")
    state = fake.vit(1, dim=16, heads=1, patch=8, img=16).state_dict()
    found = {}
    for name, write in KINDS.items():
        write(folder / name, state, Bomb(folder / "pwned"))
        found[name] = (folder / name).read_bytes()
        content = read_file(folder / name).content
        assert content
    return folder, found


ASKED: list[str] = []
_watching = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watching and event in ("os.system", "subprocess.Popen", "pickle.find_class", "os.exec"):
        ASKED.append(event)


sys.addaudithook(_hook)


def attempt(path: Path) -> str:
    """Reads and, if it can be read, loads a file; what came of it."""
    global _watching
    _watching = True
    try:
        read_file(path)
        checkpoints.load(str(path), heads=1)
    except (DataError, UsageError):
        return "refused"
    finally:
        _watching = False
        assert not ASKED
    return "loaded"


SLOW = [pytest.param(2000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", [240, *SLOW])
def test_a_mutated_file_is_an_error_or_opens_and_runs_nothing(
    count: int, bases: tuple[Path, dict[str, bytes]]
) -> None:
    folder, found = bases
    outcomes = []

    @settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(kind=st.sampled_from(list(found)), rng=st.randoms(use_true_random=False))
    def check(kind: str, rng: random.Random) -> None:
        path = folder / "mutated"
        inside = kind in ("zip", "module") and rng.random() < 0.7
        path.write_bytes((mutate_inside if inside else mutate)(found[kind], rng))
        outcomes.append(attempt(path))

    check()
    assert not (folder / "pwned").exists()
    assert len(outcomes) >= count
    assert outcomes.count("loaded") > 0, "no change was harmless"
    assert outcomes.count("refused") > count // 10


MEMORY = """
import random, resource, sys
from pathlib import Path
import torch
from sdssl_bench.checkpoints.files import read_file
from sdssl_bench.checkpoints.keys import flat
from sdssl_bench.errors import DataError
from test_inert_mutations import mutate

folder, count = Path(sys.argv[1]), int(sys.argv[2])
small, path = folder / 'small', folder / 'mutated'

def touch(path):
    try:
        for tensor in flat(read_file(path).content).values():
            tensor.view(-1)[::512].sum() if tensor.is_contiguous() and tensor.numel() else None
    except DataError:
        pass
    except (RuntimeError, NotImplementedError):
        pass  # of the sum: a type that cannot be added

touch(small)
torch.ones(100).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size, edge = path.stat().st_size, 1 << 16
rng = random.Random(0)
with path.open('rb') as stream:
    head = stream.read(edge)
    stream.seek(size - edge)
    tail = stream.read(edge)
for _ in range(count):
    new_head, new_tail = rng.choice([(1, 0), (0, 1), (1, 1)])
    with path.open('r+b') as stream:
        stream.write((mutate(head, rng) if new_head else head)[:edge].ljust(edge, bytes(1)))
        stream.seek(size - edge)
        stream.write((mutate(tail, rng) if new_tail else tail)[-edge:].rjust(edge, bytes(1)))
    touch(path)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / size)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "npz"])
def test_a_mutated_file_never_costs_more_than_twice_its_size(kind: str, tmp_path: Path) -> None:
    """Resident memory of a process of its own, file pages that tensors touch included."""
    state = {f"blocks.{i}.weight": torch.randn(1 << 18) for i in range(32)}
    bomb = Bomb(tmp_path / "pwned")
    KINDS[kind](tmp_path / "small", {"w": torch.ones(3)}, bomb)
    KINDS[kind](tmp_path / "mutated", state, bomb)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path), "150"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([".", "tests", "tests/checkpoints"])},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout) <= 2.0
    assert not (tmp_path / "pwned").exists()
