"""`sdssl-bench data`: check datasets, show their expected layout, make miniature versions."""

from pathlib import Path
from typing import Annotated

import typer

from sdssl_bench.cli import options as opt
from sdssl_bench.cli.help import App

app = App()


@app.command("check")
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Datasets, or folder:PATH, csv:.., hf:...", show_default="all"
        ),
    ] = None,
    data_root: opt.DataRoot = None,
    decode: Annotated[
        bool,
        opt.option(opt.DATA, "Also decode every image.", "--decode"),
    ] = False,
    num_workers: opt.NumWorkers = None,
    json: opt.Json = False,
) -> None:
    """Verify counts, classes, labels and splits; say what is missing and how to get it.

    sdssl-bench data check cifar10 flowers --data-root /data
    """
    from json import dumps

    from sdssl_bench import datasets
    from sdssl_bench.datasets import check as check_one
    from sdssl_bench.datasets import render
    from sdssl_bench.errors import DataError
    from sdssl_bench.system import show

    chosen = opt.comma_list("data check", names or datasets.names())
    for name in chosen:
        datasets.layout(name)  # An unknown name ends the command before a check that takes hours.
    reports = [
        check_one(name, data_root=data_root, decode=decode, num_workers=num_workers)
        for name in chosen
    ]
    if json:
        typer.echo(dumps([report.to_json() for report in reports], indent=1))
    else:
        for report in reports:
            show(render(report))
    if not all(report.ok for report in reports):
        raise typer.Exit(DataError.exit_code)


@app.command("download")
def download(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Datasets.")],
    data_root: opt.DataRoot = None,
    quiet: opt.Quiet = False,
) -> None:
    """Fetch what may be fetched, resume what was interrupted; for the rest, say what to do.

    sdssl-bench data download cifar10 flowers --data-root /data
    """
    from sdssl_bench import datasets
    from sdssl_bench.datasets import check as check_one
    from sdssl_bench.errors import DataError, UsageError
    from sdssl_bench.system import Progress

    entries = [datasets.spec(name) for name in opt.comma_list("data download", names)]
    if data_root is None:
        raise UsageError(
            "data download needs --data-root DIR (or SDSSL_BENCH_DATA), where it writes."
        )
    root = data_root.expanduser()
    missing = False
    for entry in entries:
        if root.is_dir() and check_one(entry.name, data_root=root).ok:
            typer.echo(f"{entry.name}: complete in {root}; nothing to fetch")
            continue
        with Progress(quiet=quiet) as progress:
            for one in datasets.download(entry, root, progress=progress):
                proof = "md5 as published" if one.verified else "no checksum is published"
                typer.echo(f"{one.file}: {one.bytes:,} bytes in {one.folder}, {proof}")
                typer.echo(f"  sha256 {one.sha256}")
        report = check_one(entry.name, data_root=root)
        if report.ok:
            typer.echo(f"{entry.name}: complete in {report.root}")
            continue
        missing = True
        what = "is not complete yet" if entry.downloads else "may not be fetched for you"
        typer.echo(f"{entry.name} {what}. Licence: {entry.licence}.\n{entry.obtain}")
        typer.echo("\n".join(["In the data root:", *(f"  {step}" for step in entry.steps)]))
        if report.state != "not found":
            typer.echo("\n".join(report.problems))
    if missing:
        raise typer.Exit(DataError.exit_code)


@app.command("layout")
def layout(name: Annotated[str, typer.Argument(metavar="NAME", help="A dataset.")]) -> None:
    """Show the files a dataset is expected to have, and how it is officially obtained."""
    from sdssl_bench import datasets

    typer.echo(datasets.layout(name))


@app.command("mini")
def mini(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write them.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of crops and noise.")] = 0,
) -> None:
    """Write miniatures of all datasets in their official layouts, from bundled photographs.

    sdssl-bench data mini data

    sdssl-bench run -t knn -d all --data-root data -c ...
    """
    from sdssl_bench.datasets import make_mini

    make_mini(root.expanduser(), seed=seed)
    typer.echo(f"wrote miniature datasets to {root}; use them with --data-root {root}")


@app.command("convert-gnd")
def convert_gnd(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="gnd_roxford5k.pkl or gnd_rparis6k.pkl.")
    ],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="TARGET", help="JSON file to write.", show_default="beside it"),
    ] = None,
) -> None:
    """Convert a ground truth of revisited Oxford/Paris from pickle to JSON, executing nothing.

    sdssl-bench data convert-gnd gnd_roxford5k.pkl
    """
    from json import dumps

    from sdssl_bench.datasets import read_ground_truth
    from sdssl_bench.system import write_atomic

    truth = read_ground_truth(source)
    written = (target or source.with_suffix(".json")).expanduser()
    write_atomic(written, (dumps(truth.to_json()) + "\n").encode())
    typer.echo(
        f"wrote {written}: {len(truth.queries)} queries, {len(truth.database):,} database images"
    )


@app.command("copydays")
def copydays(
    originals: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    out: Annotated[Path, typer.Argument(help="Folder to make; must be empty or not exist.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample and of every attack.")] = 0,
    num_originals: Annotated[
        int, typer.Option("--num-originals", min=2, help="Photographs at most.")
    ] = 157,
) -> None:
    """Make a copy-detection set in Copydays' layout: JPEG copies, crops and strong attacks.

    sdssl-bench data copydays photographs attacks

    sdssl-bench run -t copydays --data-root attacks ...
    """
    from sdssl_bench.datasets import make_attacks

    made = make_attacks(
        originals.expanduser(), out.expanduser(), seed=seed, num_originals=num_originals
    )
    typer.echo(
        f"wrote {made.num_originals} originals and {made.num_strong} strong copies to {made.root}; "
        f"'run --task copydays --data-root {out}' scores them as copydays-attacks"
    )
