"""Folders that hold a checkpoint, whole or in pieces, as their libraries write them."""

import json
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import Tensor


def shards(folder: Path, state: dict[str, Tensor], *, suffix: str = "safetensors") -> Path:
    """A sharded checkpoint of transformers: three files and their index."""
    names = list(state)
    where = {}
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    for index in range(3):
        part = {name: state[name].contiguous() for name in names[index::3]}
        file = f"{stem}-{index + 1:05}-of-00003.{suffix}"
        if suffix == "safetensors":
            save_file(part, folder / file)
        else:
            torch.save(part, folder / file)
        where |= dict.fromkeys(part, file)
    index_file = folder / f"{stem}.{suffix}.index.json"
    index_file.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    return index_file


def make(kind: str, folder: Path, state: dict[str, Tensor]) -> Path:
    folder.mkdir()
    if kind == "model.safetensors":
        save_file(state, folder / kind)
    elif kind == "pytorch_model.bin":
        torch.save(state, folder / kind)
    elif kind == "distributed":
        dcp.save({"model": state, "epoch": 3, "names": ["a"]}, checkpoint_id=folder, no_dist=True)
    else:
        shards(folder, state, suffix=kind.split()[0])
    return folder
