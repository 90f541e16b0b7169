"""The Python API: load an encoder, evaluate it, get the same records the command line stores.

    encoder = sdssl_bench.load_encoder("timm:vit_small_patch16_224.dino")
    record = sdssl_bench.evaluate(encoder, task="knn", dataset="cifar10", data_root="data")[0]
    record["layers"]["12"]["metrics"]["k20/top1"]

`evaluate` also takes a plain timm or torchvision module, so it works inside a training loop.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from sdssl_bench import checkpoints, encoders, tasks
from sdssl_bench.datasets import values_within
from sdssl_bench.encoders import Encoder, ModelInfo, stated_pretraining
from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.records import Record, ResultStore
from sdssl_bench.runner import run
from sdssl_bench.system import default_cache, default_data_root
from sdssl_bench.task import RunContext

load_encoder = checkpoints.load


def as_encoder(model: nn.Module, *, name: str = "model", norm: str = "shared") -> Encoder:
    """An encoder of the suite from a module in memory, identified by a digest of its present weights.

    Args:
        model: an Encoder, or a timm ViT or ResNet, or a torchvision ResNet. Its attribute `pretrained`,
            True or False, says whether it was trained.
        name: what tables call it.
        norm: see `encoders.NORMS`; an Encoder keeps its own.
    """
    encoder = encoders.wrap(model, norm=norm)
    # Digested again even for a loaded checkpoint: a training loop may have changed its weights since,
    # and features of other weights must never be taken from the cache.
    weights = checkpoints.digest_of_module(encoder)
    if encoder.info is None or encoder.info.weights_sha256 != weights:
        encoder.info = ModelInfo(
            name=name,
            uri="module:" + type(model).__name__,
            format="module",
            network="model",
            arch=encoders.arch_name(encoder),
            weights_sha256=weights,
            pretrained=stated_pretraining(model),
        )
    return encoder


def evaluate(
    encoder: nn.Module,
    task: str | None = None,
    dataset: str | Sequence[str] = "cifar10",
    *,
    layers: Sequence[int] | None = None,
    name: str = "model",
    protocol: str | None = None,
    parameters: Mapping[str, str] | None = None,
    results: str | os.PathLike[str] | None = None,
    overwrite: str = "missing",
    **settings: Any,
) -> list[Record]:
    """Score layers of an encoder; returns one record per dataset (format: results/README.md).

    Args:
        encoder: from `load_encoder`, or a timm or torchvision module. It is scored in eval mode,
            without gradients, and handed back in the mode and on the device it came in.
        task: one of `sdssl-bench ls tasks`; None is weighted k-NN.
        dataset: one name or several; "folder:PATH", "csv:..", "hf:.." for your own images.
        layers: any of 1..L; None is all.
        name: what to call a module that was not loaded by `load_encoder`.
        protocol: preset of the task; None is its default.
        parameters: single protocol parameters as text, e.g. {"k": "10,20"}.
        results: folder to store and resume records in; None keeps them in memory.
        overwrite: "missing" | "always" | "never", when `results` is given.
        **settings: fields of `task.RunContext`: data_root, cache_dir, device, dtype, batch_size,
            num_workers, limit, allow_partial, on_bad_image, image_range, against (a second encoder), ...

    Raises:
        UsageError: for unknown names or impossible values.
        DataError: if the data are missing or incomplete.
        TaskError: if features cannot be computed.
    """
    known = {f.name for f in fields(RunContext)}
    for key in settings:
        if key not in known:
            raise UsageError(did_you_mean("setting", key, known))
    for key in ("data_root", "cache_dir"):
        if settings.get(key) is not None:
            settings[key] = Path(settings[key])
    if settings.get("against") is not None:
        settings["against"] = as_encoder(settings["against"])
    ctx = RunContext(**{"data_root": default_data_root(), "cache_dir": default_cache(), **settings})
    wrapped = as_encoder(encoder, name=name)
    was_training = {module: module.training for module in encoder.modules()}
    wrapped.eval()
    loaded_task = tasks.load(task or tasks.first_task(), protocol, parameters)
    store = ResultStore(Path(results)) if results is not None else None
    try:
        with values_within(ctx.image_range):
            return [
                run(
                    wrapped,
                    loaded_task,
                    one,
                    layers=layers or range(1, wrapped.depth + 1),
                    ctx=ctx,
                    store=store,
                    overwrite=overwrite,
                ).record
                for one in ([dataset] if isinstance(dataset, str) else dataset)
            ]
    finally:
        for module, training in was_training.items():
            module.training = training
