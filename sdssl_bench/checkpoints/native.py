"""The self-describing checkpoint of sdssl-bench: safetensors and one JSON header that says it all.

The header (metadata key `sdssl_bench`) holds: version, arch (a name of `encoders.build`, or
{"vit": fields of ViTConfig}), network, norm, input_size, mean, std, epoch, config (how it was
trained) and extra. A file opens with no further option.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdssl_bench.checkpoints.files import CheckpointFile
from sdssl_bench.encoders import IMAGENET_MEAN, IMAGENET_STD, NORMS, Encoder, ViTConfig
from sdssl_bench.errors import DataError, UsageError, did_you_mean
from sdssl_bench.system import replacing

FORMAT, METADATA_KEY = "sdssl-bench", "sdssl_bench"
VERSION = 1
NETWORKS = ("student", "teacher", "base", "momentum", "model", "ema")


def save(
    source: Encoder | Mapping[str, Tensor],
    path: str | os.PathLike[str],
    *,
    arch: str | ViTConfig | None = None,
    network: str = "model",
    norm: str | None = None,
    input_size: int | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    epoch: int | float | None = None,
    config: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a self-describing checkpoint: complete or not at all.

    Args:
        source: an encoder, or the state dict of a backbone under timm's names.
        path: file to write; an existing one is replaced in one step.
        arch: name for `encoders.build`, or the configuration of a ViT; an encoder built by
            `encoders.build_vit` knows its own.
        network: which network of the training these weights are ("teacher", "student", ...).
        norm: how features of layers 1..L-1 are normalised; None = the encoder's, else "shared".
        input_size: side of the evaluated images; None = the encoder's, else the architecture's own.
        mean: of RGB in [0, 1]; None = the encoder's, else ImageNet's.
        std: likewise.
        epoch: epochs trained.
        config: how it was trained; JSON values.
        extra: anything else to keep; JSON values.

    Raises:
        UsageError: for an unknown network or norm, or an architecture that was not given.
    """
    encoder = source if isinstance(source, Encoder) else None
    arch = arch if arch is not None else getattr(encoder, "config", None)
    if arch is None:
        raise UsageError("checkpoints.save needs `arch`: a backbone name or a ViTConfig.")
    norm = norm or (encoder.norm if encoder else None)
    for kind, value, known in (("network", network, NETWORKS), ("norm", norm, (*NORMS, None))):
        if value not in known:
            raise UsageError(did_you_mean(kind, str(value), [k for k in known if k]))
    header = {
        "version": VERSION,
        "arch": {"vit": asdict(arch)} if isinstance(arch, ViTConfig) else arch,
        "network": network,
        "norm": norm,
        "input_size": input_size or (encoder.input_size if encoder else None),
        "mean": mean or (encoder.mean if encoder else IMAGENET_MEAN),
        "std": std or (encoder.std if encoder else IMAGENET_STD),
        "epoch": epoch,
        "config": dict(config or {}),
        "extra": dict(extra or {}),
    }
    state = encoder.backbone_state() if encoder else source
    assert isinstance(state, Mapping)
    # One entry: safetensors writes several in an order of chance, and equal files have equal digests.
    text = {METADATA_KEY: json.dumps(header, sort_keys=True)}
    return write_tensors(Path(path).expanduser(), state, text)


def write_tensors(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str]) -> Path:
    """Writes a safetensors file: complete or not at all."""
    from safetensors.torch import save_file

    tensors = {
        k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in state.items()
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)
    return path


def read_header(file: CheckpointFile) -> dict[str, Any] | None:
    """The header of a file of ours, None for any other file; `arch` is a name or a ViTConfig.

    Raises:
        DataError: if the header is damaged, incomplete or of a later version.
    """
    text = file.metadata.get(METADATA_KEY)
    if text is None:
        return None
    try:
        header = json.loads(text)
        if header["version"] != VERSION:
            raise DataError(
                f"{file.path} has checkpoint version {header['version']}, this package reads "
                f"{VERSION}; update sdssl-bench."
            )
        if isinstance(header["arch"], dict):
            known = {f.name for f in fields(ViTConfig)}
            unknown = sorted(header["arch"]["vit"].keys() - known)
            if unknown:
                raise DataError(f"{file.path} describes a ViT with unknown fields {unknown}.")
            header["arch"] = ViTConfig(**header["arch"]["vit"])
        for key in ("network", "norm", "input_size", "mean", "std", "epoch", "config", "extra"):
            header[key]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file.path} has a damaged sdssl-bench header ({type(error).__name__}: {error})."
        ) from error
    return dict(header)
