"""First step: what `--ckpt` names becomes the content of a file, or a module in memory.

It takes a local file or folder, `hf:ORG/NAME[@revision]`, `timm:NAME?key=value`,
`custom:file.py:function`, or `control:NAME`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from torch import nn

from sdssl_bench.checkpoints.files import CheckpointFile, read_file
from sdssl_bench.checkpoints.folders import MERGE, read_folder, read_shards
from sdssl_bench.checkpoints.hugging_face import fetch
from sdssl_bench.checkpoints.keys import flat
from sdssl_bench.checkpoints.modules import custom_module, timm_module
from sdssl_bench.checkpoints.native import METADATA_KEY
from sdssl_bench.encoders import Control, Pretrained, stated_pretraining
from sdssl_bench.errors import DataError, UsageError, did_you_mean

SCHEMES = ("timm", "hf", "custom", "control", "file")
_GENERIC = {
    "encoder", "checkpoint", "checkpoint_teacher", "checkpoint_student", "checkpoint_key", "model", "last",
    "best", "latest", "final", "ckpt", "weights", "pytorch_model", "teacher",
}  # fmt: skip

_QUERY = {
    "pretrained": "true or false",
    "seed": "a non-negative integer",
    "img_size": "a non-negative integer",
}
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_FLAT = re.compile(r"(^|\.)_?flat_param(_\d+)?$")
_LOW_RANK = re.compile(r"(^|[._])lora_(a|b|down|up|embedding_a|embedding_b)(\.|$)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Contents:
    """What was found, before anybody interprets it: a file or a module.

    Attributes:
        uri: what the user typed.
        source: what messages call it.
        name: what tables call the encoder.
        file: the content of a file, else None.
        module: a live module, else None.
        format: of a live module, "timm", "custom" or "control"; a file's is told by its keys.
        pretrained: see `ModelInfo`.
        stated: "arch", "seed" and "img_size" of a timm: URI.
        revision: the commit of an hf: URI.
    """

    uri: str
    source: str
    name: str
    file: CheckpointFile | None = None
    module: nn.Module | None = None
    format: str = ""
    pretrained: Pretrained = True
    stated: Mapping[str, Any] = field(default_factory=dict)
    revision: str | None = None


def read(uri: str) -> Contents:
    """The content of a file or folder, or the module that a `timm:` or `custom:` URI stands for.

    Raises:
        DataError: if it is missing, damaged or not trusted; random weights never take its place.
        UsageError: if the URI is malformed or names what does not exist.
    """
    parsed = parse(uri)
    if parsed.scheme == "timm":
        return _timm(uri, parsed.target, **parsed.query)
    if parsed.scheme == "control":
        control, name = Control(parsed.target), f"control:{parsed.target}"
        return Contents(uri, name, name, module=control, format="control", pretrained=False)
    if parsed.scheme == "custom":
        path, function, module = custom_module(parsed.target)
        return Contents(
            uri,
            f"{function}() of {path.name}",
            f"{path.stem}:{function}",
            module=module,
            format="custom",
            pretrained=stated_pretraining(module),
        )
    if parsed.scheme == "hf":
        folder, name, commit = fetch(parsed.target)
        file = read_folder(folder)
        _check_whole(file)
        return Contents(uri, f"hf:{name}", name, file, revision=commit)
    file = _file(parsed.path)
    _check_whole(file)
    return Contents(uri, file.path.name or str(file.path), _name(file), file)


def _file(path: Path) -> CheckpointFile:
    if path.is_dir():
        return read_folder(path)
    if path.name.endswith(".index.json") and path.is_file():
        return read_shards(path, path)
    return read_file(path)


def _timm(
    uri: str, name: str, *, pretrained: bool = True, seed: int | None = None, **size: int
) -> Contents:
    if pretrained and seed is not None:
        raise UsageError("seed= would have no effect on pretrained weights; add pretrained=false.")
    seed = None if pretrained else seed or 0
    return Contents(
        uri,
        f"timm's {name}",
        name if pretrained else f"{name} untrained seed {seed}",
        module=timm_module(name, seed=seed),
        format="timm",
        pretrained=pretrained,
        stated={"arch": name, **size} if pretrained else {"arch": name, **size, "seed": seed},
    )


def _name(file: CheckpointFile) -> str:
    """The file's stem; a stem that says nothing gets its folder's name before it.

    Encoders of a pretraining run have the run's name: the last one that alone, those on the way before
    their epoch. Runs of the same name are told apart by their digests.
    """
    if file.gathered:
        return file.gathered["name"]
    if file.path.is_dir():
        return file.path.resolve().name
    name = file.path.name.removesuffix(".tar").removesuffix(".index.json")
    stem = name.rpartition(".")[0] or name
    parent = file.path.resolve().parent
    folder = parent.name
    if METADATA_KEY in file.metadata and stem == "encoder" and folder:
        return folder
    if folder == "encoders" and stem.startswith("epoch-") and parent.parent.name:
        return f"{parent.parent.name}/{stem}"
    return f"{folder}/{stem}" if stem.lower() in _GENERIC and folder else stem


@dataclass(frozen=True)
class Uri:
    """A parsed `--ckpt`.

    Attributes:
        scheme: "file", "timm", "custom" or "control".
        target: path, timm name, or "file.py:function".
        query: pairs after "?" (timm only): pretrained, seed, img_size.
    """

    scheme: str
    target: str
    query: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The target of a file URI, with ~ expanded."""
        return Path(self.target).expanduser()


def parse(text: str) -> Uri:
    """Reads what the user typed; an existing file wins over any other reading.

    Raises:
        UsageError: for an empty text, an unknown scheme or an unknown, repeated or empty query key.

    >>> parse("timm:vit_tiny_patch16_224?pretrained=false&seed=0").query
    {'pretrained': False, 'seed': 0}
    >>> parse("~/weights.pth").scheme
    'file'
    """
    text = text.strip()
    if not text:
        raise UsageError(
            "--ckpt is empty; it takes a file, a folder, hf:ORG/NAME, timm:NAME, custom:file.py:function or "
            "control:NAME."
        )
    match = re.match(r"^([A-Za-z][A-Za-z0-9_+-]+):(.*)$", text, flags=re.DOTALL)
    if match is None or Path(text).expanduser().exists():
        return Uri("file", text)
    scheme, target = match[1].lower(), match[2]
    if scheme not in SCHEMES:
        raise UsageError(did_you_mean("checkpoint scheme", scheme, SCHEMES))
    if scheme != "timm":
        return Uri(scheme, target.removeprefix("//") if scheme == "file" else target)
    name, _, query = target.partition("?")
    if not name:
        raise UsageError("timm: needs a model name, e.g. timm:vit_small_patch16_224.dino")
    return Uri("timm", name, _query(query))


def _query(text: str) -> dict[str, bool | int]:
    pairs = parse_qsl(text, keep_blank_values=True)
    if text and not pairs:
        raise UsageError(f"Expected key=value pairs after '?', found '{text}'.")
    found: dict[str, bool | int] = {}
    for key, value in pairs:
        if key not in _QUERY:
            raise UsageError(did_you_mean("key of a timm: URI", key, _QUERY))
        if key in found or not value:
            raise UsageError(f"'{key}' needs one value in '{text}'.")
        if key == "pretrained" and value.lower() in _FLAGS:
            found[key] = _FLAGS[value.lower()]
        elif key != "pretrained" and value.isdecimal():
            found[key] = int(value)
        else:
            raise UsageError(f"{key} takes {_QUERY[key]}, found '{value}'.")
    return found


def _check_whole(file: CheckpointFile) -> None:
    """Refuses tensors that are no weights of a network until somebody puts them together.

    Raises:
        DataError: with the way to do that.
    """
    names = flat(file.content)
    cut = [name for name in names if _FLAT.search(name)]
    if cut:
        raise DataError(
            f"{file.path} holds {len(cut)} flat parameters of FSDP ('{cut[0]}'), of which each process "
            "has a piece: nobody can tell the weights apart in them. Gather them where they were trained, "
            "in all processes: `with FSDP.state_dict_type(model, StateDictType.FULL_STATE_DICT): state = "
            "model.state_dict()`, then torch.save(state, ...) in the first."
        )
    low = [name for name in names if _LOW_RANK.search(name)]
    if low:
        raise DataError(
            f"{file.path} holds {len(low)} tensors of a low-rank adapter ('{low[0]}') that is not merged "
            f"into the weights. {MERGE}"
        )
