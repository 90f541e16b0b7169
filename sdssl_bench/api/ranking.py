"""Stored results as one table: `sdssl-bench leaderboard` as a function."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sdssl_bench.api.reading import (
    Folder,
    Names,
    Source,
    chosen,
    names,
    places,
    read,
    sources,
    warn,
)
from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.records import Stored
from sdssl_bench.reports import VIEWS, Part, Shown, coverage, csv_text, frame_table, tidy, wide
from sdssl_bench.statistics import mixed_pixels, rank_intervals
from sdssl_bench.system import write_atomic

if TYPE_CHECKING:
    import pandas

TRIALS = "Trials under --limit, no results"
MOST_ROWS = 200
"""Of a table that is shown, but for --wide."""
TITLES = {
    "last": "Last layer: score ± half its 95 % interval (ranks it may have, tie group)",
    "best": "Best layer, selected on test (as in the SDSSL paper's Table 3); last layer beside it",
    "val": "Layer selected on validation images held out of train; protocols without them are left out",
    "layers": "All layers: score ± half its 95 % interval",
}


class Leaderboard(Shown):
    """The records as tables.

    Args:
        records: with their paths.
        view: one of `VIEWS`.
        uncertainty: whether intervals and ranks are recomputed from the per-item scores.
        include_limited: whether trials are shown too.
        rows: of the frame that is made at once, see `tidy`.
        whole: reads the records again, which may be brief here; returns them and what is damaged.
        damaged: why records are left out.

    Attributes:
        notes: what to know before records are compared, in sentences.
        wrote: a line for each file that was written.
    """

    def __init__(
        self,
        records: Sequence[Stored],
        *,
        view: str,
        uncertainty: bool,
        include_limited: bool,
        rows: str,
        whole: Callable[[], tuple[Sequence[Stored], object]],
        damaged: list[DataError],
    ) -> None:
        self.records, self.view, self.damaged = records, view, damaged
        self.wrote: list[str] = []
        self._tidy = partial(tidy, uncertainty=uncertainty, include_limited=include_limited)
        self.notes = mixed_pixels(record for _, record in records)
        self._rows, self._whole = rows, whole
        self._frame = self._tidy(records, rows=rows)
        full = [one for one in records if one[1]["limited"] is None]
        self.ranks = rank_intervals(full) if uncertainty else {}

    def frame(self) -> "pandas.DataFrame":
        """The tidy CSV: one row a model, benchmark, layer and metric; values are fractions."""
        if self._rows != "all":
            self._rows, self._frame = "all", self._tidy(self._whole()[0])
        return self._frame

    def table(self, *, trials: bool = False) -> "pandas.DataFrame":
        """What the view shows, as texts: a row an encoder, a column a benchmark, and how many it has.

        Args:
            trials: of what was made under --limit.
        """
        limited = self._frame["limited"].notna()
        ranks = {key: str(one) for key, one in self.ranks.items()}
        table = wide(self._frame[limited if trials else ~limited], self.view, ranks=ranks)
        return table if table.empty else table.assign(coverage=coverage(table))

    def shown(self, *, all_rows: bool = False) -> Sequence[Part]:
        """The tables that `leaderboard` prints; `MOST_ROWS` of each, unless `all_rows`."""
        parts: list[Part] = []
        for trials, title in ((False, TITLES[self.view]), (True, TRIALS)):
            table = self.table(trials=trials)
            if table.empty:
                parts += [] if trials else [f"{title}: no result has that."]
                continue
            kept = table if all_rows else table.head(MOST_ROWS)
            parts.append(frame_table(kept, title=title))
            if len(kept) < len(table):
                more = len(table) - len(kept)
                parts.append(
                    f"{more:,} more rows: --wide shows all, --csv and --markdown write all."
                )
        return parts + [f"note: {line}" for line in self.notes]

    def write(
        self, *, csv: Path | None, markdown: Path | None, latex: Path | None, pair: Sequence[str]
    ) -> None:
        """Write the files asked for; arguments as of `leaderboard`."""
        if csv:
            frame = self.frame()
            self._write(csv, csv_text(frame), f": {len(frame):,} rows")
        if markdown:
            from sdssl_bench.paper import paper_cells, published
            from sdssl_bench.reports import leaderboard_formats as formats

            text = formats.markdown(
                self._frame,
                self.ranks,
                published=published(),
                paper=paper_cells(),
                notes=self.notes,
            )
            self._write(markdown, text)
        if latex:
            from sdssl_bench.paper import LAYOUTS, fill_table, model_pairs
            from sdssl_bench.reports import latex as as_latex

            full = [one for one in self.records if one[1]["limited"] is None]
            pairs = model_pairs(full, list(pair))
            for number, layout in LAYOUTS.items():
                text = as_latex(fill_table(full, layout, pairs))
                write_atomic(latex.expanduser() / f"table{number}.tex", text.encode())
            files = ", ".join(f"table{number}.tex" for number in LAYOUTS)
            self.wrote.append(f"wrote {latex}: {files}")

    def _write(self, path: Path, text: str, more: str = "") -> None:
        write_atomic(path.expanduser(), text.encode())
        self.wrote.append(f"wrote {path}{more}")


def _records(
    source: Source, task: Names, dataset: Names, *, items: bool, brief: bool = False
) -> tuple[list[Stored], list[DataError]]:
    found, damaged = read(source, items=items, brief=brief)
    return chosen(found, damaged, task, dataset, None), damaged


def leaderboard(
    results: Source = None,
    *,
    task: Names = None,
    dataset: Names = None,
    include_limited: bool = False,
    view: str = "last",
    select_on_val: bool = False,
    uncertainty: bool = True,
    csv: Folder | None = None,
    markdown: Folder | None = None,
    latex: Folder | None = None,
    pair: Iterable[str] = (),
) -> Leaderboard:
    """Show stored results as a table, and write them as CSV, Markdown and LaTeX.

    Args:
        results: folders, or results at hand; None is $SDSSL_BENCH_RESULTS, or ./results.
        task: only these tasks.
        dataset: only these datasets.
        include_limited: show trials made under --limit too, labelled.
        view: "last" (layer L), "best" (on test), "val" (best on validation) or "layers" (all).
        select_on_val: the same as view="val".
        uncertainty: recompute intervals and ranks from the per-item scores.
        csv: file of the tidy CSV, one row a layer and metric.
        markdown: file of all views and the reported numbers.
        latex: folder of the paper's Tables 1 to 4.
        pair: rows of the LaTeX tables, each "[LABEL=]BASELINE:SD"; none is NAME and sd_NAME.

    Raises:
        UsageError: for an unknown view or impossible settings.
        DataError: if there is nothing to show, no result has a name given, or records are missing.
    """
    if view not in VIEWS:
        raise UsageError(f"--view takes one of {', '.join(VIEWS)}; found '{view}'.")
    view = "val" if select_on_val else view
    if not uncertainty and (markdown or latex):
        raise UsageError("--markdown and --latex show intervals; leave out --no-uncertainty.")
    rows = "all" if csv else "last" if view == "last" and not markdown else "headlines"
    results = sources(results)
    reading = partial(
        _records, results, names("task", task), names("dataset", dataset), items=uncertainty
    )
    wanted, damaged = reading(brief=rows == "last" and not latex)
    warn(damaged)
    full = [one for one in wanted if one[1]["limited"] is None]
    if not full and not (include_limited and wanted):
        hint = f" ({len(wanted)} are trials: --include-limited shows them)" if wanted else ""
        raise DataError(
            f"Expected result records in {places(results)}, found none that may enter a "
            f"leaderboard{hint}. Run an evaluation first, without --limit, or name another folder."
        )
    board = Leaderboard(
        wanted,
        view=view,
        uncertainty=uncertainty,
        include_limited=include_limited,
        rows=rows,
        whole=reading,
        damaged=damaged,
    )
    board.write(
        csv=Path(csv) if csv else None,
        markdown=Path(markdown) if markdown else None,
        latex=Path(latex) if latex else None,
        pair=list(pair),
    )
    return board
