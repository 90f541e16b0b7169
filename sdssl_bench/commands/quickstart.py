"""`sdssl-bench quickstart`: the whole suite in minutes, on data it makes itself."""

import os
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

PRESETS = ("mocov3_vit_tiny_p8", "sd_mocov3_vit_tiny_p8")
"""Pretrained here, half a minute each: weights cannot be assumed to be downloadable."""
LINEAR = ("cifar10", "flowers")
"""Sets that logistic regression is shown on; every set that k-NN takes would do."""
SETTINGS = (
    ("--data", "cifar10"),
    ("--dim", "96", "--depth", "6", "--heads", "4"),
    ("--hidden", "256", "--inner-hidden", "256", "--out-dim", "64"),
    ("--batch-size", "50", "--base-lr", "2e-3", "--epochs", "30", "--warmup-epochs", "3"),
    ("--num-workers", "0", "--save-every", "30", "--log-every", "40"),
)


def quickstart(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for data and results.")] = Path(
        "sdssl-bench-quickstart"
    ),
) -> None:
    """Make miniature datasets, pretrain two small encoders, score all their layers, rank them.

    Needs no network and no GPU. Half a minute of pretraining on 200 images shows that the suite works, not
    what MoCo v3 and SD-MoCo v3 can do.
    """
    from sdssl_bench import checkpoints, datasets, tasks
    from sdssl_bench.commands.leaderboard import leaderboard
    from sdssl_bench.commands.report import report
    from sdssl_bench.commands.running import run_all
    from sdssl_bench.datasets import roxford_rparis
    from sdssl_bench.datasets.mini import make_mini
    from sdssl_bench.progress import Progress
    from sdssl_bench.task import RunContext

    out = out.expanduser()
    data, results = out / "data", out / "results"
    typer.echo(f"1/5 miniature datasets from bundled photographs -> {data}")
    make_mini(data)  # leaves an intact copy alone, mends a damaged one
    for preset in PRESETS:
        typer.echo(f"2/5 pretraining {preset}, half a minute -> {out / preset}")
        _pretrain(preset, data, out / preset)
    typer.echo(
        "3/5 k-NN, linear, DAVIS, retrieval, copy detection and analysis, all layers of both encoders"
    )
    # The miniatures' own sizes: 224, 320 and 512 pixels would show the encoders nothing more.
    views = {"imsize_oxford": "96", "imsize_paris": "96"}
    with Progress() as progress:
        ctx = RunContext(data_root=data, cache_dir=out / "cache", progress=progress)
        for preset in PRESETS:
            encoder = checkpoints.load(str(out / preset / "encoder.safetensors"))
            code = run_all(
                encoder,
                [
                    *((tasks.load("knn"), name) for name in datasets.NAMES),
                    *((tasks.load("linear", "logreg"), name) for name in LINEAR),
                    # The miniature's own size: DINO's 480 would enlarge it.
                    (tasks.load("davis", None, {"short_side": "144"}), "davis"),
                    *(
                        (tasks.load("retrieval", None, views), name)
                        for name in roxford_rparis.NAMES
                    ),
                    (tasks.load("copydays", None, {"imsize": "64"}), "copydays"),
                    (tasks.load("analysis"), "cifar10"),
                ],
                range(1, encoder.depth + 1),
                ctx=ctx,
                out=results,
                overwrite="missing",
            )
            if code:
                raise typer.Exit(code)
    typer.echo("4/5 leaderboard")
    leaderboard(results=[results], csv=out / "leaderboard.csv", view="best")
    typer.echo("5/5 report")
    report(results=[results], out=out / "report")
    typer.echo(
        f"\ndata         {data}\nrecords      {results / 'runs'}\nleaderboard  {out / 'leaderboard.csv'}\n"
        f"report       {out / 'report' / 'index.html'}\n"
        "\nNext, with a checkpoint of yours:\n"
        f"  sdssl-bench doctor --ckpt CHECKPOINT\n"
        f"  sdssl-bench run --task knn --dataset all --data-root {data} --ckpt CHECKPOINT --all-layers"
    )


def _pretrain(preset: str, data: Path, out: Path) -> None:
    """Pretrains in a process of its own, as a user would; goes on where it was interrupted."""
    if (out / "encoder.safetensors").exists():
        return
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    command = [
        sys.executable,
        "-m",
        "sdssl_bench.pretrain.main",
        "--preset",
        preset,
        *chain(*SETTINGS),
    ]
    done = subprocess.run(
        [*command, "--data-root", str(data), "--out", str(out), "--resume", "auto"],
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode:
        raise typer.Exit(done.returncode)
