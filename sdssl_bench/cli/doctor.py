"""`sdssl-bench doctor`: what is in a checkpoint, and what `run` would make of it."""

import typer

from sdssl_bench.cli import options as opt


def doctor(
    ckpt: opt.Ckpt,
    network: opt.Network = None,
    arch: opt.Arch = None,
    heads: opt.Heads = None,
    patch_size: opt.PatchSize = None,
    img_size: opt.ImgSize = None,
    norm: opt.Norm = None,
    json: opt.Json = False,
) -> None:
    """Examine a checkpoint: format, network, architecture, keys, weights, features per layer.

    sdssl-bench doctor --ckpt encoder.pth
    """
    from json import dumps

    from sdssl_bench.checkpoints import diagnose, render
    from sdssl_bench.system import show

    diagnosis = diagnose(
        ckpt,
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
