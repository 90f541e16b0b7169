"""`sdssl-bench doctor`: what is in a checkpoint, and what `run` would make of it."""

import typer

from sdssl_bench.commands import options as opt
from sdssl_bench.errors import UsageError


def doctor(
    checkpoint: opt.PlacedCkpt = None,
    ckpt: opt.NamedCkpt = None,
    network: opt.Network = None,
    arch: opt.Arch = None,
    heads: opt.Heads = None,
    patch_size: opt.PatchSize = None,
    img_size: opt.ImgSize = None,
    norm: opt.Norm = None,
    json: opt.Json = False,
) -> None:
    """Examine a checkpoint: format, network, architecture, keys, weights, features per layer.

    sdssl-bench doctor encoder.pth
    """
    from json import dumps

    from sdssl_bench.doctor import diagnose, render
    from sdssl_bench.terminal import show

    if (checkpoint is None) == (ckpt is None):
        found = "none" if ckpt is None else f"{checkpoint} and {ckpt}"
        raise UsageError(f"doctor examines one checkpoint, found {found}: sdssl-bench doctor CKPT.")
    diagnosis = diagnose(
        checkpoint or ckpt or "",
        network=network,
        arch=arch,
        heads=heads,
        patch_size=patch_size,
        img_size=img_size,
        norm=norm,
    )
    if json:
        typer.echo(dumps(diagnosis.to_json(), indent=1))
    else:
        show(render(diagnosis))
