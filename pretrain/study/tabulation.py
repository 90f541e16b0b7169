"""What the records come to: figures and paired tests beside them, and the results in `docs/study.md`."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sdssl_bench import api
from sdssl_bench.errors import DataError, TaskError
from sdssl_bench.pretrain.run.exports import FINAL, halve
from sdssl_bench.pretrain.study.differences import (
    ALPHA,
    Compared,
    as_csv,
    compared,
    over_seeds,
    seeds_test,
    spread_of_seeds,
    what_seeds_show,
)
from sdssl_bench.pretrain.study.evaluation import CONTROLS, UNTRAINED, curve
from sdssl_bench.pretrain.study.runs import Run, is_finished, study
from sdssl_bench.pretrain.study.training import LEDGER, say
from sdssl_bench.probes import exit_report
from sdssl_bench.records import Stored
from sdssl_bench.rounding import percent, points
from sdssl_bench.statistics import benchmark_name, read_results, record_intervals
from sdssl_bench.system import write_atomic

MARKS = ("<!-- results: written by `study tables` -->", "<!-- end of results -->")
PAIR = ("mocov3-s0", "sd_mocov3-s0")
"""Whose weights are kept beside the records."""
MOST_BYTES = 20 * 2**20
SHOWN = (*CONTROLS, UNTRAINED, *study()["runs"])
"""Whose curves the figures show; more would hide each other."""


def build(runs: Sequence[Run], out: Path, results: Path, *, docs: Path, trial: bool) -> None:
    """Writes what follows from the records; takes ledger and weights from `out`, where they are.

    Args:
        runs: of the study.
        out: folder of the trained runs.
        results: folder of the records; `differences.csv`, `report/`, `figures/`, `weights/` and the
            ledger go there too.
        docs: text whose results, between two marks, are replaced.
        trial: take trials under --limit, not results.

    Raises:
        DataError: if there are no records, or one is damaged.
        TaskError: if all that is to be committed is too large, even without weights.
    """
    read, damaged = read_results([results])
    if damaged:
        raise damaged[0]
    stored = [one for one in read if (one[1]["limited"] is not None) == trial]
    if not stored:
        raise DataError(
            f"{results} has no records of {'a trial' if trial else 'the study'}; run `study evaluate`."
        )
    text = docs.read_text("utf-8")
    if any(text.count(mark) != 1 for mark in MARKS):
        raise DataError(f"{docs} must have the lines {MARKS[0]} and {MARKS[1]} once.")
    if (out / LEDGER).exists():
        shutil.copyfile(out / LEDGER, results / LEDGER)
    draw(results, runs, stored, trial=trial)
    found = compared(runs, stored)
    write_atomic(results / "differences.csv", as_csv(runs, found).encode())
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    block = "\n\n".join(sections(runs, stored, found, results / LEDGER))
    write_atomic(docs, f"{before}{MARKS[0]}\n\n{block}\n\n{MARKS[1]}{after}".encode())
    say(f"wrote {docs}, {results}/differences.csv, report/, figures/")
    keep_weights(runs, out, results)
    size = bytes_of(results)
    if size > MOST_BYTES:
        raise TaskError(f"{results} has {size:,} bytes; to be committed it must stay below 20 MiB.")


def keep_weights(runs: Sequence[Run], out: Path, results: Path) -> None:
    """Puts the pair's weights in half precision beside the records, unless all is too large with them."""
    kept = results / "weights"
    names = [run.name for run in runs if run.name in PAIR and is_finished(run, out / run.name)]
    for name in names:
        halve(out / name / FINAL, kept / f"{name}-fp16.safetensors")
    size, weights = bytes_of(results), bytes_of(kept)
    if names and size > MOST_BYTES:
        shutil.rmtree(kept)
        say(
            f"weights left out: their {weights:,} bytes would make {size:,} of {results}, over 20 MiB"
        )


def bytes_of(folder: Path) -> int:
    """Of all files below it that are no hidden ones."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in paths if not path.name.startswith("."))


def known(runs: Sequence[Run]) -> list[str]:
    """Names of the study's encoders, in the order of its tables."""
    return [*CONTROLS, UNTRAINED, *(run.name for run in runs)]


def further_weights(runs: Sequence[Run], stored: Sequence[Stored]) -> list[str]:
    """Names of scored encoders that are not the study's."""
    return sorted({record["model"]["name"] for _, record in stored} - set(known(runs)))


def draw(results: Path, runs: Sequence[Run], stored: Sequence[Stored], *, trial: bool) -> None:
    """The page of all results, and figures: of a few of the study's encoders, and of further weights."""
    scored = {record["model"]["name"] for _, record in stored}
    shown, further = [name for name in SHOWN if name in scored], further_weights(runs, stored)
    api.report(results, include_limited=trial, out=results / "report")
    figures = results / "figures"
    for names, where in ((shown, figures), (further, figures / "further")):
        if not names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            api.report(results, model=names, include_limited=trial, out=folder, figures=folder)
            shutil.rmtree(where, ignore_errors=True)
            where.mkdir()
            for path in sorted(Path(folder).glob("*.svg")):
                shutil.copyfile(path, where / path.name)


def sections(
    runs: Sequence[Run], stored: Sequence[Stored], found: Compared, ledger: Path
) -> Iterable[str]:
    """The results as Markdown."""
    further = further_weights(runs, stored)
    order = [*known(runs), *further]
    ranked = [one for one in stored if one[1].get("ranked", True)]
    ranked.sort(key=lambda one: order.index(one[1]["model"]["name"]))
    ours = [one for one in ranked if "cifar10" in benchmark_name(one[1])]
    benchmarks = list(dict.fromkeys(benchmark_name(record) for _, record in ours))
    yield "### Every layer on CIFAR-10"
    for name in benchmarks:
        yield f"**{name}**, {metric(name, ranked)}, half the 95 % interval of the last layer behind it:"
        yield table(
            ["encoder", "layers 1 to L", "±"],
            [[record["model"]["name"], curve(record), half(path, record)]
             for path, record in ranked if benchmark_name(record) == name],
        )  # fmt: skip
    others = [
        [benchmark_name(record), record["model"]["name"], curve(record), half(path, record)]
        for path, record in sorted(ranked, key=lambda one: benchmark_name(one[1]))
        if record["model"]["name"] in (*CONTROLS, UNTRAINED, *PAIR, *further)
        and benchmark_name(record) not in benchmarks
    ]
    if others:
        yield "### All other sets"
        yield (
            "The first pair, what it must beat, and further weights. "
            "Partial sets are parts of the official ones, not to be held against other tables. "
            "`report/index.html` beside the records has all encoders."
        )
        yield table(["benchmark", "encoder", "layers 1 to L", "±"], others)
    yield "### Each run against its baseline, over items"
    yield (
        "The second minus the first, in points, and of the last layer the 95 % interval and p of a "
        "paired test on the same items, both after Holm over the benchmarks of a pair. `differences.csv` "
        "has the tests of every layer."
    )
    yield table(
        ["pair", "benchmark", "differences, layers 1 to L", "95 % of the last", "p", ""],
        [
            [f"{run.against} → {run.name}", one.name,
             " ".join(points(layer.difference.difference) for layer in one.layers.values()),
             f"{points(d.low)} to {points(d.high)}", f"{d.adjusted:.2g}", d.verdict(ALPHA)]
            for run in runs
            for one in found.get(run.name, ())
            for d in ([one.last] if one.last else [])
        ],
    )  # fmt: skip
    yield "### Over seeds"
    rows = over_seeds(runs, found)
    yield what_seeds_show(rows)
    if rows:
        yield table(
            ["benchmark", "layer", "difference by method, seed after seed", "p over pairs", "least p"],
            [[name, layer, spread_of_seeds(row), *(f"{p:.2g}" for p in seeds_test(row))]
             for (name, layer), row in rows.items()],
        )  # fmt: skip
    yield "### Which layer is enough"
    yield "The earliest layer not more than a point below the last, and the mean height of the curve."
    reports = [(r, exit_report(r)) for _, r in ours]
    yield table(
        ["encoder", "benchmark", "earliest", "of", "best", "area"],
        [[r["model"]["name"], benchmark_name(r), one.earliest, one.last, one.best, percent(one.area)]
         for r, one in reports],
    )  # fmt: skip
    if ledger.exists():
        yield "### Every started run"
        yield table(["run", "started (UTC)", "then"], history(ledger))


def metric(name: str, ranked: Sequence[Stored]) -> str:
    """What a benchmark's numbers are."""
    return str(next(r["headline"] for _, r in ranked if benchmark_name(r) == name))


def half(path: Path, record: dict[str, Any]) -> str:
    """Half the interval of the last layer's score."""
    found = record_intervals(record, path).get(record["model"]["depth"])
    return percent((found.high - found.low) / 2) if found else ""


def history(ledger: Path) -> list[list[str]]:
    """Starts in the order of the ledger, and what became of each."""
    rows: list[list[str]] = []
    for line in ledger.read_text("utf-8").splitlines():
        entry = json.loads(line)
        if entry["event"] == "started":
            rows.append([entry["run"], entry["at"], "no end was written"])
            continue
        start = next(row for row in reversed(rows) if row[0] == entry["run"])
        start[2] = f"{entry['event']} {entry['at']}"
    return rows


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
