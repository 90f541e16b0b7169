"""Is it real? Every run against the one it is compared with: over items, and over seeds."""

import csv
import io
import re
from collections.abc import Mapping, Sequence

import numpy as np

from sdssl_bench.pretrain.study.runs import Run
from sdssl_bench.records import Stored
from sdssl_bench.rounding import points
from sdssl_bench.statistics import Benchmark, compare, pair, sign_flip

Compared = dict[str, list[Benchmark]]
"""Run -> it against its baseline on every benchmark that both have."""
ALPHA = 0.05
COLUMNS = (
    "a", "b", "task", "dataset", "variant", "metric", "at", "layer_a", "layer_b", "score_a", "score_b",
    "low", "high", "p", "p_holm", "n", "unit", "test",
)  # fmt: skip


def compared(runs: Sequence[Run], stored: Sequence[Stored]) -> Compared:
    """Paired tests over items of every run whose baseline is scored too; Holm over each pair's benchmarks."""
    models: dict[str, list[Stored]] = {}
    for one in stored:
        if one[1].get("ranked", True):
            models.setdefault(one[1]["model"]["name"], []).append(one)
    return {
        run.name: compare(pair(models[run.against], models[run.name])[0])[0]
        for run in runs
        if run.against in models and run.name in models
    }


def as_csv(runs: Sequence[Run], found: Compared) -> str:
    """One row per pair, benchmark and layer, and one for the best layers; fractions."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    write(COLUMNS)
    for run in runs:
        for one in found.get(run.name, ()):
            record = one.a[1]
            data = record["dataset"]
            what = [record["task"], data["name"], data["variant"], record["headline"]]
            outcomes = [("layer", outcome) for outcome in one.layers.values()]
            for at, outcome in [*outcomes, *([("best", one.best)] if one.best else [])]:
                d = outcome.difference
                numbers = (d.a, d.b, outcome.low, outcome.high, d.p, outcome.adjusted)
                shown = [f"{number:.6g}" for number in numbers]
                write([run.against, run.name, *what, at, *d.layers, *shown, d.n, d.unit, d.test])
    return text.getvalue()


def over_seeds(runs: Sequence[Run], found: Compared) -> dict[tuple[str, int], dict[str, float]]:
    """Benchmark and layer -> run -> difference, for methods that are scored with several seeds."""
    seeds: dict[str, list[str]] = {}
    for run in runs:
        seeds.setdefault(re.sub(r"-s\d+$", "", run.name), []).append(run.name)
    rows: dict[tuple[str, int], dict[str, float]] = {}
    for names in seeds.values():
        of_method: dict[tuple[str, int], dict[str, float]] = {}
        for name in names:
            for one in found.get(name, ()):
                for layer, outcome in one.layers.items():
                    row = of_method.setdefault((one.name, layer), {})
                    row[name] = outcome.difference.difference
        for where, row in of_method.items():
            if len(row) > 1:
                rows.setdefault(where, {}).update(row)
    return dict(sorted(rows.items()))


def seeds_test(differences: Mapping[str, float]) -> tuple[float, float]:
    """P of the exact sign-flip test of some pairs of runs, and the least that so many pairs can have."""
    values = np.array(list(differences.values()))
    return sign_flip(values)[0], 2.0 ** (1 - len(values))


def what_seeds_show(rows: Mapping[tuple[str, int], Mapping[str, float]]) -> str:
    """What the seeds at hand can show and what they cannot, in plain words."""
    if not rows:
        return (
            "No method is scored with several seeds yet. An interval over images says nothing about "
            "another training run, so neither does any number above."
        )
    pairs = max(len(row) for row in rows.values())
    seeds = len({name.rsplit("-", 1)[1] for row in rows.values() for name in row})
    return (
        f"An interval over images says nothing about another training run. {seeds} seeds cannot show "
        f"that one method gains: {seeds} differences of the same sign have p = "
        f"{2.0 ** (1 - seeds):g} at best. What they can show is how far two runs of the same recipe lie "
        f"apart, and, over all methods together, whether self-distillation moves a score: {pairs} pairs "
        f"of runs have p = {2.0 ** (1 - pairs):.2g} at best if all agree (exact sign-flip test over the "
        "pairs, which takes the methods' gains as draws of one kind; not adjusted for the number of rows)."
    )


def spread_of_seeds(differences: Mapping[str, float]) -> str:
    """The differences by method, a seed after the other, in points."""
    methods: dict[str, list[str]] = {}
    for name, value in differences.items():
        methods.setdefault(name.rsplit("-", 1)[0], []).append(points(value))
    return ", ".join(f"{method} {' '.join(values)}" for method, values in methods.items())
