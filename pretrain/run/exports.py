"""Encoders of a run in the suite's own format, and their k-NN scores through the suite's own API."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sdssl_bench import checkpoints
from sdssl_bench.encoders import VITS
from sdssl_bench.errors import DataError
from sdssl_bench.pretrain.objective.sdssl import SDSSL
from sdssl_bench.pretrain.run.config import PretrainConfig
from sdssl_bench.rounding import percent
from sdssl_bench.system import is_main_process, replacing, wait_for_everyone

FINAL = "encoder.safetensors"
"""The finished run's encoder; `sdssl-bench watch` ends when it is there."""
ENCODERS = "encoders"
"""Folder of the encoders on the way."""


def export(model: SDSSL, config: PretrainConfig, path: Path, *, epoch: float) -> None:
    """Writes the network that is evaluated; it opens in `run --ckpt` with no further flag.

    Raises:
        DataError: if the disk is full or fails.
    """
    network = config.evaluate or ("teacher" if model.teacher else "student")
    encoder = model.teacher if network == "teacher" else model.student
    assert encoder is not None
    whole = math.isclose(epoch, round(epoch), abs_tol=1e-9)
    try:
        checkpoints.save(
            encoder,
            path,
            arch=None if config.arch in VITS else config.arch,
            network=network,
            epoch=round(epoch) if whole else epoch,
            config=config.to_json(),
        )
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"The encoder of epoch {epoch:g} cannot be written to {path}: {error}. Make room and go "
            "on with --resume auto."
        ) from None


def halve(source: Path, target: Path) -> None:
    """Writes the same encoder in half precision."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(source, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = file.metadata()
    halves = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    with replacing(target) as temporary:
        save_file(halves, temporary, metadata=header)


def knn_records(
    path: Path, config: PretrainConfig, out: Path, *, device: str
) -> Iterator[tuple[dict[str, Any], str]]:
    """Scores all layers of a written encoder on `config.knn`, as records in the run's `results`.

    Called by all processes; yields, in the first only, the scores by layer and a line for people.

    Raises:
        DataError: if the disk is full or fails.
    """
    from sdssl_bench import api

    assert config.knn is not None
    cache = out / "cache"
    try:
        record = api.evaluate(
            api.load_encoder(str(path)),
            dataset=config.knn,
            results=out / "results",
            data_root=config.data_root,
            cache_dir=cache,
            device=device,
        )
    except OSError as error:
        raise DataError(
            f"Features for k-NN cannot be written to {cache}: {error}. Make room and go on with "
            "--resume auto."
        ) from None
    wait_for_everyone()
    if not is_main_process():
        return
    # No other encoder has these features; those of all evaluations would fill a disk.
    shutil.rmtree(cache, ignore_errors=True)
    metric = record["headline"]
    scores = {layer: e["metrics"][metric] for layer, e in record["layers"].items()}
    text = " ".join(f"{layer}:{percent(v)}" for layer, v in scores.items())
    name = record["dataset"]["name"]
    yield {"knn": scores, "metric": metric}, f"k-NN {name} by layer {text}"
