"""Stored results as one page and as figures: `sdssl-bench report` as a function."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from sdssl_bench.api.reading import Folder, Names, Source, chosen, folders, read, warn
from sdssl_bench.errors import DataError
from sdssl_bench.reports import (
    Part,
    Shown,
    add_pictures,
    collect,
    html_link,
    page,
    size,
    write_figures,
)
from sdssl_bench.statistics import mixed_pixels
from sdssl_bench.system import write_atomic

MARGIN = 2000
"""Bytes of the page kept for its notes on what was left out."""


class Report(Shown):
    """A page that was written.

    Attributes:
        path: of the page.
        wrote: a line for the page and one for the figures.
        left_out: what the page does not hold, in sentences.
        notes: what to know before results are compared, likewise.
        figures: names of the figures, each a PDF and an SVG.
        damaged: why records are left out.
    """

    def __init__(
        self,
        path: Path,
        *,
        wrote: list[str],
        left_out: Sequence[str],
        notes: Sequence[str],
        figures: list[str],
        damaged: list[DataError],
    ) -> None:
        self.path, self.wrote, self.left_out = path, wrote, list(left_out)
        self.notes = list(notes)
        self.figures, self.damaged = figures, damaged

    def shown(self) -> Sequence[Part]:
        """What `report` prints."""
        return [*(f"note: {message}" for message in [*self.left_out, *self.notes]), *self.wrote]

    def _repr_html_(self) -> str:
        return f"{html_link(self.path)}\n{super()._repr_html_()}"


def report(
    results: Source = None,
    *,
    task: Names = None,
    dataset: Names = None,
    include_limited: bool = False,
    model: Names = None,
    strips: Folder | Iterable[Folder] = (),
    galleries: Folder | Iterable[Folder] = (),
    out: Folder = "report",
    figures: Folder | None = None,
    title: str | None = None,
) -> Report:
    """Write stored results as one HTML file that needs no network.

    Args:
        results: folders, or results at hand; None is $SDSSL_BENCH_RESULTS, or ./results.
        task: only these tasks.
        dataset: only these datasets.
        include_limited: show trials made under --limit too, labelled.
        model: only these models.
        strips: show the strips in these folders (of run --strips).
        galleries: show the retrieval galleries in these folders (of run --gallery).
        out: folder of the page, index.html.
        figures: folder of the figures, each as PDF and SVG; None writes none.
        title: of the page.

    Raises:
        DataError: if there is nothing to report on, no result has a name given, or records or pictures
            are missing or damaged.
    """
    found, damaged = read(results)
    warn(damaged)
    wanted = chosen(found, damaged, task, dataset, model)
    data = collect(wanted, include_limited=include_limited)
    notes = mixed_pixels(record for _, record in wanted)
    render = partial(page.render, title=title or page.TITLE, notes=notes)
    pictures = folders(strips), folders(galleries)
    if any(pictures):
        budget = page.LIMIT - len(render(data).content) - MARGIN
        add_pictures(data, strips=pictures[0], galleries=pictures[1], budget=budget)
    rendered = render(data)
    target = Path(out).expanduser() / "index.html"
    write_atomic(target, rendered.content)
    wrote = [f"wrote {target}: {size(len(rendered.content))}, {len(data['results']):,} results"]
    names: list[str] = []
    if figures:
        names = write_figures(data, Path(figures).expanduser())
        wrote.append(
            f"wrote {len(names)} figures to {Path(figures).expanduser()}, each as PDF and SVG"
        )
    return Report(
        target,
        wrote=wrote,
        left_out=rendered.left_out,
        notes=notes,
        figures=names,
        damaged=damaged,
    )
