"""`sdssl-bench leaderboard`: tables out of the stored results."""

from pathlib import Path
from typing import Annotated

import typer

from sdssl_bench.cli import options as opt

SHOWN = "What to show"
TRIALS = "Trials under --limit, no results"
MOST_ROWS = 200
"""Of a table on the terminal, but for --wide."""
TITLES = {
    "last": "Last layer: score ± half its 95 % interval (ranks it may have, tie group)",
    "best": "Best layer, selected on test (as in the SDSSL paper's Table 3); last layer beside it",
    "val": "Layer selected on validation images held out of train; protocols without them are left out",
    "layers": "All layers: score ± half its 95 % interval",
}


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
    from sdssl_bench.cli import damaged
    from sdssl_bench.errors import DataError, UsageError
    from sdssl_bench.records import select
    from sdssl_bench.reports import VIEWS, coverage, csv_text, frame_table, tidy
    from sdssl_bench.reports import wide as pivot
    from sdssl_bench.statistics import rank_intervals, read_results
    from sdssl_bench.system import show

    opt.choice("--view", view, VIEWS)
    view = "val" if select_on_val else view
    if not uncertainty and (markdown or latex):
        raise UsageError("--markdown and --latex show intervals; leave out --no-uncertainty.")
    read = opt.result_folders(folders, results)
    stored, broken = read_results(read, items=uncertainty)
    damaged.name(broken)
    wanted = select(
        stored, tasks=opt.comma_list("--task", task), datasets=opt.comma_list("--dataset", dataset)
    )
    records = [(path, record) for path, record in wanted if record["limited"] is None]
    if not records and not (include_limited and wanted):
        hint = f" ({len(wanted)} are trials: --include-limited shows them)" if wanted else ""
        raise DataError(
            f"Expected result records in {', '.join(map(str, read))}, found none that may enter a "
            f"leaderboard{hint}. Run an evaluation first, without --limit, or name another folder."
        )
    rows = "all" if csv else "last" if view == "last" and not markdown else "headlines"
    frame = tidy(wanted, uncertainty=uncertainty, include_limited=include_limited, rows=rows)
    ranks = rank_intervals(records) if uncertainty else {}
    limited = frame["limited"].notna()
    for part, title in ((frame[~limited], TITLES[view]), (frame[limited], TRIALS)):
        table = pivot(part, view, ranks={key: str(one) for key, one in ranks.items()})
        if not table.empty:
            whole = table.assign(coverage=coverage(table))
            shown = whole if wide else whole.head(MOST_ROWS)
            show(frame_table(shown, title=title), wide=wide)
            if len(shown) < len(whole):
                more = len(whole) - len(shown)
                show(f"{more:,} more rows: --wide shows all, --csv and --markdown write all.")
        elif title != TRIALS:
            typer.echo(f"{title}: no result has that.")
    if csv:
        _write(csv, csv_text(frame))
        typer.echo(f"wrote {csv}: {len(frame):,} rows")
    if markdown:
        from sdssl_bench.paper import paper_cells, published
        from sdssl_bench.reports import leaderboard_formats as formats

        text = formats.markdown(frame, ranks, published=published(), paper=paper_cells())
        _write(markdown, text)
        typer.echo(f"wrote {markdown}")
    if latex:
        from sdssl_bench.paper import LAYOUTS, fill_table, model_pairs
        from sdssl_bench.reports import latex as as_latex

        pairs = model_pairs(records, pair or [])
        for number, layout in LAYOUTS.items():
            _write(latex / f"table{number}.tex", as_latex(fill_table(records, layout, pairs)))
        typer.echo(f"wrote {latex}: {', '.join(f'table{number}.tex' for number in LAYOUTS)}")
    damaged.leave(broken)


def _write(path: Path, text: str) -> None:
    from sdssl_bench.system import write_atomic

    write_atomic(path.expanduser(), text.encode())
