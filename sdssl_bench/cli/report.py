"""`sdssl-bench report`: stored results as one page that opens from disk, and as figures."""

from pathlib import Path
from typing import Annotated

import typer

from sdssl_bench.cli import options as opt


def report(
    folders: opt.Folders = None,
    results: opt.ResultFolders = None,
    task: opt.OnlyTasks = None,
    dataset: opt.OnlyDatasets = None,
    include_limited: opt.IncludeLimited = False,
    model: opt.OnlyModels = None,
    strips: Annotated[
        list[Path] | None,
        opt.option(
            opt.READ,
            "Show the strips in this folder (of run --strips).",
            takes="DIR",
            default="none",
        ),
    ] = None,
    galleries: Annotated[
        list[Path] | None,
        opt.option(
            opt.READ,
            "Show the retrieval galleries in this folder (of run --gallery).",
            takes="DIR",
            default="none",
        ),
    ] = None,
    out: Annotated[
        Path,
        opt.option(opt.OUTPUT, "Folder of the page, index.html.", "--out", "-o", takes="DIR"),
    ] = Path("report"),
    figures: Annotated[
        Path | None,
        opt.option(
            opt.OUTPUT,
            "Also write the figures here, each as PDF and SVG.",
            takes="DIR",
            default="none",
        ),
    ] = None,
    title: Annotated[
        str | None,
        opt.option(opt.OUTPUT, "Title of the page.", takes="TEXT", default="the page's own"),
    ] = None,
) -> None:
    """Write the stored results as one HTML file that needs no network.

    sdssl-bench report results --out report/ --figures figures/
    """
    from sdssl_bench import api
    from sdssl_bench.cli import damaged

    with damaged.named_below():
        done = api.report(
            opt.result_folders(folders, results),
            task=task,
            dataset=dataset,
            include_limited=include_limited,
            model=model,
            strips=strips or [],
            galleries=galleries or [],
            out=out,
            figures=figures,
            title=title,
        )
    damaged.name(done.damaged)
    for message in [*done.left_out, *done.notes]:
        typer.echo(f"note: {message}", err=True)
    for line in done.wrote:
        typer.echo(line)
    damaged.leave(done.damaged)
