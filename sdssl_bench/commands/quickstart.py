"""`sdssl-bench quickstart`: the whole suite in minutes, on data it makes itself."""

from pathlib import Path
from typing import Annotated

import typer

ENCODER = "timm:vit_tiny_patch16_224?pretrained=false&seed=0&img_size=96"
"""Untrained, and labelled so in every table: weights cannot be assumed to be downloadable."""


def quickstart(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for data and results.")] = Path(
        "sdssl-bench-quickstart"
    ),
) -> None:
    """Make miniature datasets, score every layer of an untrained encoder, write the leaderboard.

    Needs no network and no GPU. The encoder is untrained, so the numbers show that the suite works,
    not that an encoder does.
    """
    from sdssl_bench import checkpoints, datasets, tasks
    from sdssl_bench.commands.leaderboard import leaderboard
    from sdssl_bench.commands.running import run_all
    from sdssl_bench.datasets.mini import make_mini
    from sdssl_bench.progress import Progress
    from sdssl_bench.task import RunContext

    out = out.expanduser()
    data, results = out / "data", out / "results"
    typer.echo(f"1/3 miniature datasets from photographs of scikit-image -> {data}")
    make_mini(data)  # leaves an intact copy alone, mends a damaged one
    typer.echo(f"2/3 k-NN and DAVIS, all layers of an UNTRAINED encoder ({ENCODER})")
    encoder = checkpoints.load(ENCODER)
    with Progress() as progress:
        ctx = RunContext(data_root=data, cache_dir=out / "cache", progress=progress)
        code = run_all(
            encoder,
            [
                *((tasks.load("knn"), name) for name in datasets.NAMES),
                # The miniature's own size: DINO's 480 would enlarge it.
                (tasks.load("davis", None, {"short_side": "144"}), "davis"),
            ],
            range(1, encoder.depth + 1),
            ctx=ctx,
            out=results,
            overwrite="missing",
        )
    if code:
        raise typer.Exit(code)
    typer.echo("3/3 leaderboard")
    leaderboard(results=results, csv=out / "leaderboard.csv", view="best")
    typer.echo(
        f"\ndata         {data}\nrecords      {results / 'runs'}\nleaderboard  {out / 'leaderboard.csv'}\n"
        "\nNext, with a checkpoint of yours:\n"
        f"  sdssl-bench doctor --ckpt CHECKPOINT\n"
        f"  sdssl-bench run --task knn --dataset all --data-root {data} --ckpt CHECKPOINT --all-layers"
    )
