"""Load an encoder and score it; what comes back is what the command line stores.

`evaluate` also takes a plain timm or torchvision module, so it works inside a training loop.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any, overload

from torch import nn

from sdssl_bench import checkpoints, encoders, tasks
from sdssl_bench.api.pairs import at_points, task_runs
from sdssl_bench.api.results import Result, Results, TemporaryFolder
from sdssl_bench.datasets import values_within
from sdssl_bench.encoders import BLOCK, Encoder, ModelInfo, stated_pretraining
from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.records import ResultStore
from sdssl_bench.runner import run
from sdssl_bench.system import default_cache, default_data_root
from sdssl_bench.task import RunContext

load_encoder = checkpoints.load
Several = list[str] | tuple[str, ...]


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


@overload
def evaluate(
    encoder: nn.Module,
    task: str | None = None,
    dataset: str = "cifar10",
    *,
    points: Several,
    **settings: Any,
) -> Results: ...
@overload
def evaluate(
    encoder: nn.Module, task: str | None = None, dataset: str = "cifar10", **settings: Any
) -> Result: ...
@overload
def evaluate(
    encoder: nn.Module, task: Several, dataset: str | Several = "cifar10", **settings: Any
) -> Results: ...
@overload
def evaluate(
    encoder: nn.Module, task: str | None, dataset: Several, **settings: Any
) -> Results: ...
@overload
def evaluate(encoder: nn.Module, *, dataset: Several, **settings: Any) -> Results: ...
def evaluate(
    encoder: nn.Module,
    task: str | Several | None = None,
    dataset: str | Several = "cifar10",
    *,
    layers: Sequence[int] | None = None,
    name: str = "model",
    points: str | Several = BLOCK,
    protocol: str | None = None,
    parameters: Mapping[str, str] | None = None,
    results: str | os.PathLike[str] | None = None,
    overwrite: str = "missing",
    **settings: Any,
) -> Result | Results:
    """Score layers of an encoder.

    Args:
        encoder: from `load_encoder`, or a timm or torchvision module. It is scored in eval mode,
            without gradients, and handed back in the mode and on the device it came in.
        task: one of `sdssl-bench ls tasks`, or a list of them; None is weighted k-NN.
        dataset: one name or a list; "folder:PATH", "csv:..", "hf:.." for your own images.
        layers: any of 1..L; None is all.
        name: what to call a module that was not loaded by `load_encoder`.
        points: where in a block, one of `encoders.POINTS` or a list; features of all come from one pass.
        protocol: preset of the task; None is its default.
        parameters: single protocol parameters as text, e.g. {"k": "10,20"}.
        results: folder to store and resume records in; None keeps them as long as what is returned.
        overwrite: "missing" | "always" | "never", when `results` is given.
        **settings: fields of `task.RunContext`: data_root, cache_dir, device, dtype, batch_size,
            num_workers, limit, allow_partial, on_bad_image, image_range, against (a second encoder), ...

    Returns:
        One task on one dataset: its `Result`, a mapping that is the record (format: results/README.md).
        A list of any: `Results`, of each task on those of the datasets that it takes, or on its default
        ones if it takes none of them, as `run` pairs them.

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
            settings[key] = Path(settings[key]).expanduser()
    if settings.get("against") is not None:
        settings["against"] = as_encoder(settings["against"])
    ctx = RunContext(**{"data_root": default_data_root(), "cache_dir": default_cache(), **settings})
    one = isinstance(dataset, str) and (task is None or isinstance(task, str))
    places = [points] if isinstance(points, str) else list(points)
    names = [task or tasks.first_task()] if task is None or isinstance(task, str) else list(task)
    given = [dataset] if isinstance(dataset, str) else list(dataset)
    chosen = [tasks.load(each, protocol, parameters) for each in names]
    pairs = [(chosen[0], given[0])] if one else task_runs(chosen, given, every=False)
    wrapped = as_encoder(encoder, name=name)
    was_training = {module: module.training for module in encoder.modules()}
    wrapped.eval()
    kept = TemporaryFolder() if results is None else None
    store = ResultStore(kept.path if kept else Path(results or "").expanduser())
    found = []
    try:
        with values_within(ctx.image_range):
            for (loaded, data), (view, needs) in product(pairs, at_points(wrapped, ctx, places)):
                record = run(
                    view,
                    loaded,
                    data,
                    layers=layers or range(1, wrapped.depth + 1),
                    ctx=needs,
                    store=store,
                    overwrite=overwrite,
                ).record
                found.append(Result(record, store.path(record), kept))
    finally:
        for module, training in was_training.items():
            module.training = training
    return found[0] if one and isinstance(points, str) else Results(found)
