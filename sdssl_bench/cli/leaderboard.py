"""`sdssl-bench leaderboard`: tables out of the stored results."""

from pathlib import Path
from typing import Annotated

import typer

from sdssl_bench.cli import options as opt

SHOWN = "What to show"


def leaderboard(
    folders: opt.Folders = None,
    results: opt.ResultFolders = None,
    task: opt.OnlyTasks = None,
    dataset: opt.OnlyDatasets = None,
    include_limited: opt.IncludeLimited = False,
    view: Annotated[
        str,
        opt.option(
            SHOWN,
            "last: layer L; best: best layer on test; val: best on validation; layers: all.",
            takes="NAME",
        ),
    ] = "last",
    select_on_val: Annotated[
        bool,
        opt.option(SHOWN, "The same as --view val.", "--select-on-val"),
    ] = False,
    uncertainty: Annotated[
        bool,
        opt.option(SHOWN, "Recompute intervals and ranks from the per-item scores."),
    ] = True,
    csv: Annotated[
        Path | None,
        opt.option(
            opt.OUTPUT, "Tidy CSV: one row per layer and metric.", takes="FILE", default="none"
        ),
    ] = None,
    markdown: Annotated[
        Path | None,
        opt.option(opt.OUTPUT, "All views and the reported numbers.", takes="FILE", default="none"),
    ] = None,
    latex: Annotated[
        Path | None,
        opt.option(opt.OUTPUT, "The paper's Tables 1 to 4.", takes="DIR", default="none"),
    ] = None,
    pair: Annotated[
        list[str] | None,
        opt.option(
            opt.OUTPUT,
            "Rows of --latex; may be repeated.",
            takes="[LABEL=]BASELINE:SD",
            default="NAME and sd_NAME",
        ),
    ] = None,
    wide: opt.Wide = False,
) -> None:
    """Show the stored results as a table and write them as CSV, Markdown and LaTeX.

    sdssl-bench leaderboard results --csv all.csv --markdown all.md --latex tables
    """
    from sdssl_bench import api
    from sdssl_bench.cli import damaged
    from sdssl_bench.system import show

    with damaged.named_below():
        board = api.leaderboard(
            opt.result_folders(folders, results),
            task=task,
            dataset=dataset,
            include_limited=include_limited,
            view=view,
            select_on_val=select_on_val,
            uncertainty=uncertainty,
            csv=csv,
            markdown=markdown,
            latex=latex,
            pair=pair or [],
        )
    damaged.name(board.damaged)
    for part in board.shown(all_rows=wide):
        show(part, wide=wide)
    for line in board.wrote:
        typer.echo(line)
    damaged.leave(board.damaged)
