"""The leaderboard as Markdown, and the paper's tables as LaTeX (booktabs).

Rows that were reported by others stand apart and carry a dagger; they were not measured here.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from sdssl_bench.paper import (
    CONTRADICTION,
    Cell,
    Column,
    FilledTable,
    PaperCell,
    Published,
    Row,
    method_name,
)
from sdssl_bench.reports.escapes import latex_text, markdown_text
from sdssl_bench.reports.leaderboard import coverage, wide
from sdssl_bench.rounding import percent
from sdssl_bench.statistics import RankInterval

INTRODUCTION = """# Leaderboard

Scores in percent, ± half the 95 % interval over test items (images, queries, sequences). After the score
of the last layer: the ranks a model may have, and its tie group, by paired tests on the same items (Holm
within the benchmark, 5 %). "-" was not measured; no average is made over holes. Made by `sdssl-bench
leaderboard` from the records; do not edit."""


def markdown(
    frame: pd.DataFrame,
    ranks: Mapping[str, RankInterval],
    *,
    published: Sequence[Published] = (),
    paper: Sequence[PaperCell] = (),
    notes: Sequence[str] = (),
) -> str:
    """The whole leaderboard.

    Args:
        frame: from `leaderboard.tidy`.
        ranks: record key -> standing.
        published: numbers of released checkpoints; those of tasks and datasets in `frame` are shown.
        paper: likewise, of the paper.
        notes: what to know before rows are compared, in sentences.
    """
    frame, trials = frame[frame["limited"].isna()], frame[frame["limited"].notna()]
    last = wide(frame, "last", ranks={key: str(one) for key, one in ranks.items()})
    parts = [INTRODUCTION, *map(markdown_text, notes), "## Last layer", _markdown_frame(last)]
    parts += ["## Best layer, selected on test", _markdown_frame(wide(frame, "best"))]
    held_out = wide(frame, "val")
    if not held_out.empty:
        parts += [
            "## Layer selected on validation images held out of train",
            "Protocols without a held-out part are not listed.",
            _markdown_frame(held_out),
        ]
    if not trials.empty:
        parts += [
            "## Trials under --limit: last layer, no results",
            _markdown_frame(wide(trials, "last")),
        ]
    parts += _reported(frame, published, paper)
    return "\n\n".join(parts) + "\n"


def _markdown_frame(table: pd.DataFrame) -> str:
    if table.empty:
        return "Nothing was measured."
    covered = table.assign(coverage=coverage(table)).replace("", "-")
    header = ["model", *map(str, covered.columns)]
    rows = [[str(label), *map(str, row)] for label, row in zip(covered.index, covered.to_numpy())]
    return _markdown_table(header, rows)


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[markdown_text(cell) for cell in line] for line in (header, *rows)]
    lines = [cells[0], ["---"] * len(header), *cells[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _reported(
    frame: pd.DataFrame, published: Sequence[Published], paper: Sequence[PaperCell]
) -> list[str]:
    shown = set(zip(frame["task"], frame["dataset"].str.split(" ").str[0], strict=True))
    of_paper = [
        one
        for one in paper
        if (one.task, one.dataset) in shown and one.variant in ("baseline", "SD")
    ]
    rows = [
        [f"{method_name(one.framework, one.variant)} †", one.arch, one.task, one.dataset,
         one.metric, percent(one.value), one.layer, one.source, one.remark]
        for one in of_paper
    ] + [
        [f"{one.model} †", one.arch, one.task, one.dataset, one.metric, percent(one.value), "last",
         one.source, one.setting]
        for one in published
        if (one.task, one.dataset) in shown
    ]  # fmt: skip
    if not rows:
        return []
    header = ["model", "arch", "task", "dataset", "metric", "value", "layer", "source", "remark"]
    parts = [
        "## Reported by others, not measured here †",
        "Of other weights, protocols and code; each was read in the source named.",
        _markdown_table(header, rows),
    ]
    if any(one.contradicted for one in of_paper):
        parts.append(CONTRADICTION)
    return parts


def latex(table: FilledTable) -> str:
    """One table of the paper as a LaTeX table; needs the packages booktabs and graphicx.

    Args:
        table: from `paper.fill_table`.
    """
    widest = max(len(block.columns) for block in table.blocks)
    lines = [
        r"% Made by sdssl-bench leaderboard --latex; do not edit. Needs booktabs and graphicx.",
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{latex_text(table.title)}. {latex_text(' '.join(table.notes))}}}",
        rf"\label{{tab:sdssl-bench-{table.number}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'c' * widest}r}}",
        r"\toprule",
    ]
    for number, block in enumerate(table.blocks):
        if number:
            lines.append(r"\midrule")
        lines += _latex_head(block.heading, block.columns)
        for before, pair in zip((None, *block.pairs), block.pairs):
            if before is not None:  # a line parts what was measured from what was reported
                same = before[0].reported == pair[0].reported
                lines.append(r"\addlinespace" if same else r"\midrule")
            lines += [_latex_row(row) for row in pair]
    lines += [r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""]
    return "\n".join(lines)


def _latex_head(heading: str, columns: Sequence[Column]) -> list[str]:
    lines, groups = [], list(dict.fromkeys(column.group for column in columns))
    if any(groups):
        sizes = [sum(column.group == group for column in columns) for group in groups]
        spans = [
            rf"\multicolumn{{{size}}}{{c}}{{{latex_text(group)}}}"
            for group, size in zip(groups, sizes, strict=True)
        ]
        lines.append(f" & {' & '.join(spans)} & " + r"\\")
        start = 2
        for size in sizes:
            lines.append(rf"\cmidrule(lr){{{start}-{start + size - 1}}}")
            start += size
    heads = " & ".join(latex_text(column.head) for column in columns)
    lines.append(f"{latex_text(heading)} & {heads} & coverage " + r"\\")
    return [*lines, r"\midrule"]


def _latex_row(row: Row) -> str:
    label = latex_text(row.label) + (latex_text("†") if row.reported else "")
    cells = " & ".join(_latex_cell(cell) for cell in row.cells)
    end = "" if row.reported else row.coverage
    return f"{label} & {cells} & {end} " + r"\\"


def _latex_cell(cell: Cell) -> str:
    if cell.value is None:
        return "--"
    text = percent(cell.value)
    text = rf"\textbf{{{text}}}" if cell.bold else text
    if cell.half is not None:
        text += rf"{{\scriptsize$\,\pm\,${percent(cell.half)}}}"
    if cell.layer is not None:
        text += rf"{{\scriptsize\,(layer {cell.layer})}}"
    return text + latex_text(cell.mark)
