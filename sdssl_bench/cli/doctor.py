"""`sdssl-bench doctor`: what is in a checkpoint, and what `run` would make of it."""

from typing import Any

import typer

from sdssl_bench.cli import options as opt
from sdssl_bench.errors import UsageError


@opt.with_encoder_options
def doctor(
    checkpoint: opt.PlacedCkpt = None,
    ckpt: opt.NamedCkpt = None,
    *,
    encoder: dict[str, Any],
    json: opt.Json = False,
) -> None:
    """Examine a checkpoint: format, network, architecture, keys, weights, features per layer.

    sdssl-bench doctor encoder.pth
    """
    from json import dumps

    from sdssl_bench.checkpoints import diagnose, render
    from sdssl_bench.system import show

    if (checkpoint is None) == (ckpt is None):
        found = "none" if ckpt is None else f"{checkpoint} and {ckpt}"
        raise UsageError(f"doctor examines one checkpoint, found {found}: sdssl-bench doctor CKPT.")
    diagnosis = diagnose(checkpoint or ckpt or "", **encoder)
    if json:
        typer.echo(dumps(diagnosis.to_json(), indent=1))
    else:
        show(render(diagnosis))
