"""Reads checkpoint files without executing anything in them: `read_file` knows each kind by its first bytes.

safetensors by its own reader; files of `torch.save` and pickles as `unpickle` and `restore` say; arrays of
numpy's `.npz`. What a folder is made of, `folders` knows.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor

from sdssl_bench.checkpoints.inert.arrays import read_npz
from sdssl_bench.checkpoints.inert.mapped import Archive, mapping
from sdssl_bench.checkpoints.inert.torch_files import as_mapping, read_legacy, read_zip
from sdssl_bench.errors import DataError

GATHERED = "sdssl_bench_gathered"
"""Metadata of a safetensors file that `gathering` made of pieces: what they were, and their digest."""


@dataclass(frozen=True, eq=False)
class CheckpointFile:
    """What a checkpoint file or folder holds, before anybody interprets it.

    Attributes:
        path: the file or folder.
        container: "safetensors", "zip", "legacy", "pickle", "npz" or "distributed".
        content: top-level keys; below them tensors, which may be memory-mapped, plain values, and
            dictionaries and lists of these. An object is a dictionary of its attributes.
        metadata: the text metadata of a safetensors file.
        stood_in: names of classes and functions that a pickle asked for and did not get.
        hints: what else a folder says: the content of its JSON files, by name.
        parts: the files that were read; () = `path` alone.
        gathered: of a file that was made of pieces, their name and digest.
    """

    path: Path
    container: str
    content: Mapping[str, Any]
    metadata: Mapping[str, str] = field(default_factory=dict)
    stood_in: tuple[str, ...] = ()
    hints: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Path, ...] = ()
    gathered: Mapping[str, str] = field(default_factory=dict)

    def sha256(self) -> str:
        """Digest of the file; of several, the digest over their names and digests, gathered or not."""
        if self.gathered:
            return self.gathered["sha256"]
        if not self.parts:
            return file_sha256(self.path)
        if len(self.parts) == 1:
            return file_sha256(self.parts[0])
        lines = [f"{part.name} {file_sha256(part)}\n" for part in sorted(self.parts)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_file(path: Path) -> CheckpointFile:
    """The content of a checkpoint file; the container is recognised by its first bytes.

    Raises:
        DataError: if the file is missing, empty, truncated or no checkpoint, or holds what cannot be read.
    """
    _check_is_file(path)
    with path.open("rb") as stream:
        head = stream.read(512)
    if head[4:9] == b"\0\0\0\0{":  # the length of a header of JSON in eight bytes, and its begin
        return _read_safetensors(path)
    if not head.startswith((b"PK\x03\x04", b"\x80")):
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        raise DataError(
            f"{path} is no checkpoint: expected a safetensors file or a file written by torch.save, "
            f"found {_guess(head)}."
        )
    try:
        with mapping(path) as file:
            if head.startswith(b"\x80"):
                container, (content, stood_in) = read_legacy(file)
                return CheckpointFile(path, container, as_mapping(content, path), {}, stood_in)
            archive = Archive(file)
            if archive.sizes and all(name.endswith(".npy") for name in archive.sizes):
                return CheckpointFile(path, "npz", read_npz(archive))
            content, stood_in = read_zip(archive)
            return CheckpointFile(path, "zip", as_mapping(content, path), {}, stood_in)
    except DataError:
        raise
    except Exception as error:  # any failure of a parser of untrusted bytes is a fault of the file
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {_first_line(error)}); it is truncated or "
            "damaged: copy or download it again."
        ) from error


def file_sha256(path: Path) -> str:
    """sha256 of a file, streamed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_is_file(path: Path) -> None:
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


def _guess(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: run `git lfs pull` to get the file it stands for"
    if head.lstrip()[:1] == b"<":
        return "an HTML or XML page (a download that was answered by a web page?)"
    if head.startswith(b"\x1f\x8b"):
        return "a gzip archive; unpack it first"
    if head.startswith(b"\x89HDF\r\n"):
        return "an HDF5 file (Keras?); convert its weights to safetensors or .npz"
    if head[257:262] == b"ustar":
        return (
            "a tar archive: either files packed together, which `tar -xf` unpacks, or the format of torch "
            "0.1.9 and before, which only runs its code: open it with torch.load where you trust it, and "
            "save the weights again with torch.save"
        )
    head = head[:64]
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
    if GATHERED in metadata:
        return _gathered(path, content, metadata[GATHERED])
    return CheckpointFile(path, "safetensors", content, metadata)


def _gathered(path: Path, content: dict[str, Tensor], header: str) -> CheckpointFile:
    try:
        origin = json.loads(header)
        known = {key: str(origin[key]) for key in ("name", "sha256")}
        stood_in = tuple(map(str, origin["stood_in"]))
        return CheckpointFile(
            path, str(origin["container"]), content, {}, stood_in, dict(origin["hints"]), (), known
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path} does not say what it was gathered from ({type(error).__name__}: {error}); remove it, "
            "and the same command makes it again."
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else "no detail"
