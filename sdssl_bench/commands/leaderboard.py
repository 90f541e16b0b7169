"""`sdssl-bench leaderboard`: tables out of the stored results."""

from pathlib import Path
from typing import Annotated

import typer

from sdssl_bench.commands import options as opt


def leaderboard(
    results: opt.Out = Path("results"),
    csv: Annotated[
        Path | None, typer.Option(help="Write the tidy CSV here: one row per layer and metric.")
    ] = None,
    view: Annotated[
        str, typer.Option(help="last: layer L; best: best layer on test; layers: all of them.")
    ] = "last",
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="Only these tasks.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Only these datasets.")
    ] = None,
) -> None:
    """Show the stored results as a table and write them as CSV.

    sdssl-bench leaderboard --csv leaderboard.csv --view layers
    """
    from sdssl_bench.errors import DataError
    from sdssl_bench.leaderboard import VIEWS, tidy, wide
    from sdssl_bench.results import ResultStore, write_atomic
    from sdssl_bench.tables import frame_table, show

    opt.choice("--view", view, VIEWS)
    store = ResultStore(results.expanduser())
    frame = tidy(store)
    if task:
        frame = frame[frame["task"].isin(opt.comma_list(task))]
    if dataset:
        frame = frame[frame["dataset"].isin(opt.comma_list(dataset))]
    if frame.empty:
        raise DataError(
            f"Expected result records under {store.runs}, found none that may enter a leaderboard. "
            "Run an evaluation first (without --limit), or name another folder with --out."
        )
    if csv:
        csv = csv.expanduser()
        csv.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(csv, frame.to_csv(index=False, lineterminator="\n").encode())
    titles = {
        "last": "Last layer",
        "best": "Best layer, selected on test (as in the SDSSL paper's Table 3); last layer beside it",
        "layers": "All layers",
    }
    show(frame_table(wide(frame, view), title=titles[view]))
    if csv:
        typer.echo(f"wrote {csv}: {len(frame):,} rows")
