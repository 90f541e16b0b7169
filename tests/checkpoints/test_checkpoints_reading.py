"""Reading a file executes nothing, names what it refuses, and calls every damage by its name."""

import argparse
import os
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sdssl_bench import checkpoints
from sdssl_bench.checkpoints.files import read_file
from sdssl_bench.checkpoints.keys import flat
from sdssl_bench.checkpoints.verify import check_values, digest_of_state
from sdssl_bench.errors import DataError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


class Exploit:
    """Pickled as a call that would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_a_command_beside_weights_is_named_and_does_not_run(
    tmp_path: Path, legacy: bool, nested: bool
) -> None:
    target, path = tmp_path / "pwned", tmp_path / "evil.pth"
    bomb = Exploit(target)
    content = {"model": dict(STATE), "args": {"x": [bomb]} if nested else bomb}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    file = read_file(path)
    assert digest_of_state(file.content["model"]) == digest_of_state(STATE)
    assert file.stood_in == ("posix.system",)
    assert not target.exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_bare_pickle_of_any_protocol_does_not_run(tmp_path: Path, protocol: int) -> None:
    target, path = tmp_path / "pwned", tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"model": Exploit(target)}, protocol=protocol))
    with pytest.raises(DataError) as error:
        checkpoints.load(str(path))
    assert ("holds no tensors" if protocol > 1 else "no checkpoint") in str(error.value)
    assert not target.exists()


def test_a_class_is_named_and_not_imported(tmp_path: Path) -> None:
    module = types.ModuleType("omegaconf_stand_in")
    config = type("ListConfig", (), {"__module__": "omegaconf_stand_in"})
    module.ListConfig = config  # type: ignore[attr-defined]
    path = tmp_path / "unknown.pth"
    sys.modules["omegaconf_stand_in"] = module
    try:
        torch.save({"model": dict(STATE), "config": config()}, path)
    finally:
        del sys.modules["omegaconf_stand_in"]
    assert read_file(path).stood_in == ("omegaconf_stand_in.ListConfig",)
    assert "omegaconf_stand_in" not in sys.modules


def test_an_object_becomes_its_attributes(tmp_path: Path) -> None:
    path = tmp_path / "dino.pth"
    torch.save({"student": dict(STATE), "args": argparse.Namespace(lr=0.1)}, path)
    assert read_file(path).content["args"] == {"lr": 0.1}


@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors"])
def test_every_container_gives_the_same_tensors(tmp_path: Path, container: str) -> None:
    path = write(tmp_path, container)
    file = read_file(path)
    assert file.container == container
    assert digest_of_state(dict(file.content)) == digest_of_state(STATE)


def write(folder: Path, container: str) -> Path:
    path = folder / {"safetensors": "x.safetensors"}.get(container, "x.pth")
    if container == "safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=container == "zip")
    return path


@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_file_cut_at_any_point_is_refused(tmp_path: Path, container: str, kept: float) -> None:
    path = write(tmp_path, container)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DataError):
        read_file(path)


def test_every_single_cut_of_a_small_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "safetensors")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_file(path)


def _empty(path: Path) -> None:
    path.touch()


def _text(path: Path) -> None:
    path.write_text("hello, this is no checkpoint")


def _html(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html>404</html>")


def _pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0")


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "inner.pth").touch()


def _npz(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("features.npy", b"\x93NUMPY")


def _noise(path: Path) -> None:
    path.write_bytes(bytes(range(255, 0, -1)) * 10)


def _tensor(path: Path) -> None:
    torch.save(torch.zeros(3), path)


def _missing(path: Path) -> None:
    (path.parent / "wrong_nam.pth").touch()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_empty, "is empty"),
        (_text, "text beginning with"),
        (_html, "web page"),
        (_pointer, "git lfs pull"),
        (_folder, r"folder.*inner\.pth"),
        (_npz, "'features' is no array"),
        (_noise, "no checkpoint"),
        (_tensor, "holds a Tensor"),
        (_missing, r"does not exist.*Did you mean 'wrong_nam\.pth'"),
    ],
)
def test_what_is_no_checkpoint_is_called_by_its_name(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "wrong_name.pth"
    make(path)
    with pytest.raises(DataError, match=message) as error:
        checkpoints.load(str(path))
    assert error.value.exit_code == 3


def test_a_missing_file_never_becomes_random_weights(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        checkpoints.load(str(tmp_path / "no" / "such.pth"), arch="vit_small_p16")


def test_unrecognised_content_lists_adapters_and_keys(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"generator": dict(STATE), "step": 3}, path)
    with pytest.raises(DataError) as error:
        checkpoints.load(str(path))
    for part in ("patch_embed.proj.weight (timm)", "generator.a.weight", "--arch"):
        assert part in str(error.value)


def test_wrappers_leave_names_wherever_they_stand() -> None:
    names = [
        "module._orig_mod.a",
        "b._fsdp_wrapped_module.c",
        "d.0._checkpoint_wrapped_module.e",
        "module_f",
    ]
    content = {"module": {name: torch.zeros(1) for name in names}, "x": {"y": torch.zeros(1)}}
    assert sorted(flat(content)) == ["a", "b.c", "d.0.e", "module_f", "x.y"]
    assert flat(content).homes["x.y"] == "x."
    with pytest.raises(DataError, match="Two tensors"):
        flat({"module.a": torch.zeros(1), "a": torch.zeros(1)})


def test_a_trainers_state_is_no_weight_and_a_circle_ends() -> None:
    content: dict[str, Any] = {"optimizer": {"state": {"a": torch.zeros(1)}}, 7: torch.zeros(1)}
    content["self"] = content
    assert flat(content) == {}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_float_types_become_float32(dtype: torch.dtype) -> None:
    out = check_values({"w": torch.ones(2, dtype=dtype)}, source="x")
    assert out["w"].dtype == torch.float32


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(2, dtype=torch.int64), r"w \(int64\)"),
        (torch.ones(2, dtype=torch.complex64), r"w \(complex64\)"),
        (torch.eye(2).to_sparse(), r"w \(float32\)"),
        (torch.tensor([1.0, float("nan")]), "NaN or infinite values in w"),
        (torch.tensor([1.0, float("inf")]), "NaN or infinite values in w"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(tensor: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_values({"w": tensor}, source="x")


def test_the_digest_depends_on_names_types_shapes_and_values_only() -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.ones(())}
    same = {"b": torch.ones(()), "a": torch.zeros(3, 2).T.contiguous()}
    assert digest_of_state(base) == digest_of_state(same)
    assert digest_of_state({"a": torch.arange(6.0).view(2, 3).T}) == digest_of_state(
        {"a": torch.arange(6.0).view(2, 3).T.contiguous()}
    )
    others = [
        {"a": torch.zeros(3, 2), "b": torch.ones(())},
        {"a": torch.zeros(2, 3), "c": torch.ones(())},
        {"a": torch.zeros(2, 3).half(), "b": torch.ones(())},
        {"a": torch.zeros(2, 3), "b": torch.full((), 2.0)},
        {"a": -torch.zeros(2, 3), "b": torch.ones(())},
    ]
    digests = [digest_of_state(base), *map(digest_of_state, others)]
    assert len(set(digests)) == len(digests)
