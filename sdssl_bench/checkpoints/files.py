"""Reads checkpoint files without executing anything in them.

safetensors by its own reader, zip and legacy `torch.save` files with `weights_only=True`. The one
class allowed beyond tensors and plain containers is `argparse.Namespace`, which DINO, MAE and DeiT
store beside their weights. Everything else a pickle may ask for is refused by name.
"""

import argparse
import hashlib
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdssl_bench.errors import DataError

_HARMLESS = ("collections.OrderedDict", "argparse.Namespace")
_CHUNK = 1 << 22


@dataclass(frozen=True, eq=False)
class CheckpointFile:
    """What a checkpoint file holds, before anybody interprets it.

    Attributes:
        path: the file.
        container: "safetensors", "zip" or "legacy".
        content: top-level keys; tensors may be memory-mapped.
        metadata: the text metadata of a safetensors file.
        hints: what else a folder says: the content of its JSON files, by name.
    """

    path: Path
    container: str
    content: Mapping[str, Any]
    metadata: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)


def read_file(path: Path) -> CheckpointFile:
    """The content of a checkpoint file; the container is recognised by its first bytes.

    Raises:
        DataError: if the file is missing, empty, truncated, no checkpoint, or asks to run code.
    """
    _check_is_file(path)
    with path.open("rb") as stream:
        head = stream.read(64)
    if head.startswith(b"PK\x03\x04"):
        return _read_torch(path, "zip")
    if path.suffix == ".safetensors" or (head[8:9] == b"{" and not head.startswith(b"\x80")):
        return _read_safetensors(path)
    if head.startswith(b"\x80"):
        return _read_torch(path, "legacy")
    raise DataError(
        f"{path} is no checkpoint: expected a safetensors file or a file written by torch.save, "
        f"found {_guess(head)}."
    )


def file_sha256(path: Path) -> str:
    """sha256 of a file, streamed."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _check_is_file(path: Path) -> None:
    if path.is_dir():
        names = sorted(p.name for p in path.iterdir() if p.suffix in _SUFFIXES)
        held = f"It holds {', '.join(names[:10])}." if names else "It holds no checkpoint file."
        raise DataError(f"{path} is a folder, expected a checkpoint file. {held}")
    if not path.exists():
        folder = path.parent
        names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        close = get_close_matches(path.name, names, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        where = "" if folder.is_dir() else f" (the folder {folder} does not exist either)"
        raise DataError(
            f"Checkpoint {path} does not exist{where}. Nothing else is loaded in its place.{hint}"
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes); copy or download it again.")


_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")


def _guess(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: run `git lfs pull` to get the file it stands for"
    if head.lstrip()[:1] == b"<":
        return "an HTML or XML page (a download that was answered by a web page?)"
    if head.startswith(b"\x1f\x8b"):
        return "a gzip archive; unpack it first"
    text = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    return f"text beginning with {head[:24]!r}" if text else f"bytes beginning with {head[:8]!r}"


def _read_safetensors(path: Path) -> CheckpointFile:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt", device="cpu") as stream:
            metadata = dict(stream.metadata() or {})
            content: dict[str, Tensor] = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(
            f"{path} is no complete safetensors file ({_first_line(error)}); "
            "it is truncated or damaged: copy or download it again."
        ) from error
    return CheckpointFile(path, "safetensors", content, metadata)


def _read_torch(path: Path, container: str) -> CheckpointFile:
    """torch.load with weights_only; zip files are memory-mapped, so unused networks cost nothing."""
    try:
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals([argparse.Namespace]),
        ):
            warnings.simplefilter("ignore")
            content = torch.load(
                path, map_location="cpu", weights_only=True, mmap=container == "zip"
            )
    except Exception as error:  # any failure of a parser of untrusted bytes is a fault of the file
        raise _refusal(path, error) from error
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise DataError(
            f"{path} holds a {type(content).__name__}, expected a dictionary with text keys "
            "(a state dict, or a training checkpoint that contains one)."
        )
    return CheckpointFile(path, container, content)


def _refusal(path: Path, error: Exception) -> DataError:
    """Names the blocked class or function if there is one, else says that the file is damaged."""
    found = re.findall(r"(?:GLOBAL|class|function|global:?) `?([A-Za-z_][\w.]*\.\w+)", str(error))
    names = [name for name in found if not name.startswith("torch.load")][:1]
    if not names and "PytorchStreamReader" not in str(error):
        names = sorted(_globals(path))
    if names:
        return DataError(
            f"{path} is refused: its pickle asks for {', '.join(names[:10])}, and what a pickle asks "
            "for can run code. Expected tensors, plain containers and argparse.Namespace only. "
            "Nothing in it was executed. If you trust its maker, open it once in the environment that "
            "wrote it and save the weights alone, e.g. torch.save({'state_dict': checkpoint['state_dict']}, "
            "'weights.pth')."
        )
    return DataError(
        f"{path} cannot be read as a torch checkpoint ({type(error).__name__}: "
        f"{_first_line(error)}); it is truncated, damaged or of another kind: copy or download "
        "it again."
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else "no detail"


def _globals(path: Path) -> set[str]:
    """Dotted names a pickle refers to, found by disassembly; nothing is imported or executed."""
    names: set[str] = set()
    texts: list[str] = []
    # A damaged tail hides further names only; the file is refused either way.
    with ExitStack() as stack, suppress(ValueError, OSError, zipfile.BadZipFile, IndexError):
        stream: Any = stack.enter_context(path.open("rb"))
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            stream = stack.enter_context(archive.open(pickles[0]))
        while stream.peek(1):  # older files hold several pickles, one after the other
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "GLOBAL":
                    names.add(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.add(".".join(texts[-2:]))
                elif isinstance(argument, str):
                    texts.append(argument)
    return {n for n in names if n not in _HARMLESS and not n.startswith("torch.")}
