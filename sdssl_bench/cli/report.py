"""`sdssl-bench report`: stored results as one page that opens from disk, and as figures."""

from pathlib import Path
from typing import Annotated

import typer

from sdssl_bench.cli import options as opt

MARGIN = 2000
"""Bytes of the page kept for its notes on what was left out."""


def report(
    folders: opt.Folders = None,
    results: opt.ResultFolders = None,
    task: opt.OnlyTasks = None,
    dataset: opt.OnlyDatasets = None,
    include_limited: opt.IncludeLimited = False,
    model: Annotated[
        list[str] | None,
        opt.option(
            opt.READ, "Only these models, by name.", "--model", "-m", takes="LIST", default="all"
        ),
    ] = None,
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
    from sdssl_bench.cli import damaged
    from sdssl_bench.records import select
    from sdssl_bench.reports import add_pictures, collect, page, size
    from sdssl_bench.statistics import read_results
    from sdssl_bench.system import write_atomic

    stored, broken = read_results(opt.result_folders(folders, results))
    damaged.name(broken)
    records = select(
        stored,
        tasks=opt.comma_list("--task", task),
        datasets=opt.comma_list("--dataset", dataset),
        models=opt.comma_list("--model", model),
    )
    data = collect(records, include_limited=include_limited)
    heading = title or page.TITLE
    if strips or galleries:
        add_pictures(
            data,
            strips=[folder.expanduser() for folder in strips or []],
            galleries=[folder.expanduser() for folder in galleries or []],
            budget=page.LIMIT - len(page.render(data, title=heading).content) - MARGIN,
        )
    rendered = page.render(data, title=heading)
    target = out.expanduser() / "index.html"
    write_atomic(target, rendered.content)
    for message in rendered.left_out:
        typer.echo(f"note: {message}", err=True)
    typer.echo(f"wrote {target}: {size(len(rendered.content))}, {len(data['results']):,} results")
    if figures:
        from sdssl_bench.reports import write_figures

        written = write_figures(data, figures.expanduser())
        typer.echo(f"wrote {len(written)} figures to {figures.expanduser()}, each as PDF and SVG")
    damaged.leave(broken)
