"""Folders that hold a checkpoint: of Hugging Face, whole or in shards; of torch.distributed.checkpoint."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from sdssl_bench.checkpoints.files import CheckpointFile, read_file
from sdssl_bench.checkpoints.inert.distributed import INDEX, read_distributed
from sdssl_bench.errors import DataError

WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
    "pytorch_model.bin.index.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin",
)  # fmt: skip
"""Names of weights in a folder, in the order in which transformers takes them; then open_clip's."""
HINTS = ("config.json", "preprocessor_config.json", "open_clip_config.json")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar", ".npz")
_JSON_BYTES = 1 << 24


def read_folder(folder: Path) -> CheckpointFile:
    """The weights of a folder, and the JSON files that say what they are.

    Raises:
        DataError: if it holds no weights under a known name, or not all that its index names; if it holds
            an adapter without its base.
    """
    hints = {name: _json(folder / name) for name in HINTS if (folder / name).is_file()}
    if (folder / INDEX).is_file():
        content, parts, closed = read_distributed(folder)
        return CheckpointFile(folder, "distributed", content, {}, closed, hints, parts)
    if (folder / "adapter_config.json").is_file():
        raise DataError(
            f"{folder} holds an adapter of peft, which is no model without its base. {MERGE}"
        )
    weights = weights_of(folder)
    if weights is None:
        names = sorted(path.name for path in folder.iterdir() if path.suffix in _SUFFIXES)
        held = f"It holds {', '.join(names[:10])}." if names else "It holds no checkpoint file."
        raise DataError(
            f"{folder} is a folder, expected a checkpoint file or a folder with {WEIGHTS[0]} or "
            f"{WEIGHTS[2]}. {held}"
        )
    if weights.name.endswith(".index.json"):
        return read_shards(weights, folder, hints)
    file = read_file(weights)
    return CheckpointFile(
        folder, file.container, file.content, file.metadata, file.stood_in, hints, (weights,)
    )


def weights_of(folder: Path) -> Path | None:
    """The file or index that a folder's weights are read from; None if it has none that is known."""
    return next((folder / name for name in (INDEX, *WEIGHTS) if (folder / name).is_file()), None)


MERGE = (
    "Merge it first, where it was trained: `model.merge_and_unload().save_pretrained('merged')` of peft; "
    "without peft, add scale * B @ A to each weight."
)
"""How low-rank adapters become plain weights."""


def read_shards(index: Path, path: Path, hints: dict[str, Any] | None = None) -> CheckpointFile:
    """The tensors of all files that an index names.

    Args:
        index: a `*.index.json` of transformers.
        path: what the user named.
        hints: see `CheckpointFile`.

    Raises:
        DataError: if a file or tensor is missing, or one is there that the index does not name.
    """
    wanted = _json(index).get("weight_map")
    if not isinstance(wanted, dict) or not all(isinstance(name, str) for name in wanted.values()):
        raise DataError(f"{index} has no weight_map from names of tensors to names of files.")
    names = sorted(set(wanted.values()))
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise DataError(
                f"{index.parent} is incomplete: {index.name} names the file {name!r}, which is missing."
            )
    files = [read_file(index.parent / name) for name in names]
    found: dict[str, Tensor] = {}
    for name, file in zip(names, files):
        ours = {key for key, where in wanted.items() if where == name}
        if file.content.keys() != ours:
            wrong = sorted(file.content.keys() ^ ours)
            raise DataError(
                f"{file.path} does not hold what {index.name} says: {len(wrong)} tensors differ, "
                f"first '{wrong[0]}'."
            )
        found |= file.content
    stood_in = tuple(sorted({name for file in files for name in file.stood_in}))
    parts = (index, *(file.path for file in files))
    return CheckpointFile(path, files[0].container, found, {}, stood_in, hints or {}, parts)


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _JSON_BYTES:
        raise DataError(f"{path} has {path.stat().st_size} bytes, expected a short JSON file.")
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged, expected JSON ({str(error)[:100]}).") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds a {type(found).__name__}, expected a JSON object.")
    return found
