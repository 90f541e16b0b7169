"""`sdssl-bench data`: check datasets, show their expected layout, make miniature versions."""

from pathlib import Path
from typing import Annotated

import typer

from sdssl_bench.commands import options as opt

app = typer.Typer(no_args_is_help=True)


@app.command("check")
def check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Datasets; default: all.", show_default=False)
    ] = None,
    data_root: opt.DataRoot = None,
    decode: Annotated[bool, typer.Option("--decode", help="Also decode every image.")] = False,
    num_workers: Annotated[
        int | None, typer.Option("--num-workers", "-j", min=0, help="Decoding processes.")
    ] = None,
    json: opt.Json = False,
) -> None:
    """Verify counts, classes, labels and splits; say what is missing and how to get it.

    sdssl-bench data check cifar10 flowers --data-root /data
    """
    from json import dumps

    from sdssl_bench import datasets
    from sdssl_bench.datasets.check import check as check_one
    from sdssl_bench.datasets.check import render
    from sdssl_bench.datasets.davis_check import check_davis
    from sdssl_bench.errors import DataError, UsageError, did_you_mean
    from sdssl_bench.tables import show

    # Sets that are no classification sets have checks of their own.
    own = {"davis": check_davis}
    known = (*datasets.NAMES, *own)
    chosen = opt.comma_list(names or known)
    for name in chosen:
        if name not in known and not name.startswith("folder:"):
            raise UsageError(did_you_mean("dataset", name, known))
    reports = [
        own[name](data_root=data_root, decode=decode, num_workers=num_workers)
        if name in own
        else check_one(name, data_root=data_root, decode=decode, num_workers=num_workers)
        for name in chosen
    ]
    if json:
        typer.echo(dumps([report.to_json() for report in reports], indent=1))
    else:
        for report in reports:
            show(render(report))
    if not all(report.ok for report in reports):
        raise typer.Exit(DataError.exit_code)


@app.command("layout")
def layout(name: Annotated[str, typer.Argument(help="A dataset.")]) -> None:
    """Show the files a dataset is expected to have, and how it is officially obtained."""
    from sdssl_bench.datasets import davis
    from sdssl_bench.datasets.layout import layout as expected

    typer.echo(davis.LAYOUT if name == davis.NAME else expected(name))


@app.command("mini")
def mini(
    root: Annotated[Path, typer.Argument(help="Folder to write into.")],
    seed: Annotated[int, typer.Option(help="Seed of crops and noise.")] = 0,
) -> None:
    """Write miniatures of all datasets in their official layouts, from photographs of scikit-image.

    sdssl-bench data mini data && sdssl-bench run --task knn -d all --data-root data --ckpt ...
    """
    from sdssl_bench.datasets.mini import make_mini

    make_mini(root.expanduser(), seed=seed)
    typer.echo(f"wrote miniature datasets to {root}; use them with --data-root {root}")
