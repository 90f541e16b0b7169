"""What `sdssl-bench compare` says: tables, one sentence per benchmark, JSON."""

from collections.abc import Iterable, Sequence
from typing import Any

from sdssl_bench.rounding import percent, points
from sdssl_bench.statistics import Benchmark, Difference, Outcome
from sdssl_bench.system import Column, FittedTable


def difference_table(
    benchmark: Benchmark, *, alpha: float, benchmarks: Sequence[Benchmark]
) -> FittedTable:
    """Every layer, then the last and the best; scores and differences x100.

    Args:
        benchmark: from `comparison.compare`.
        alpha: level of significance.
        benchmarks: all that were compared with it, which it is adjusted for.
    """
    record, level = benchmark.a[1], round(100 * (1 - alpha))
    title = (
        f"{benchmark.name} · {record['protocol']['id']} · {record['headline']}\n"
        f"{_adjusted_over(num_tests('1', benchmarks), alpha)}"
    )
    if len(benchmarks) > 1:
        title += f"; last and best each over {len(benchmarks)}"
    drawn = _drawn(benchmark, benchmark.layers.values())
    disputed = any(one.difference.only_a >= 0 for one in benchmark.layers.values())
    rows = [(str(layer), one) for layer, one in benchmark.layers.items()]
    if benchmark.last is not None:
        rows.append((_layers_of("last", benchmark.last.difference), benchmark.last))
    if benchmark.best is not None:
        rows.append((_layers_of("best", benchmark.best.difference), benchmark.best))
    columns = [
        *map(Column, ("layer", "A", "B", "B - A", f"{level} % interval")),
        Column("p"),
        *([Column("draws", drop=1)] if drawn else []),
        Column("n", drop=2),
        *(Column(name, drop=4) for name in ("only A right", "only B right") if disputed),
        Column("", left=True),
    ]
    cells = []
    for label, one in rows:
        d, verdict = one.difference, one.verdict(alpha)
        only = ["" if n < 0 else f"{n:,}" for n in (d.only_a, d.only_b)] if disputed else []
        note = "selected on test" if label.startswith("best") else ""
        cells.append(
            [
                *(label, percent(d.a), percent(d.b), points(d.difference)),
                f"{points(one.low)} to {points(one.high)}",
                p_text(one.adjusted),
                *([_draws_text(benchmark, one)] if drawn else []),
                *(f"{d.n:,}", *only),
                ", ".join(text for text in (verdict and f"B {verdict}", note) if text),
            ]
        )
    return FittedTable(columns, cells, title=title)


def summary_table(
    benchmarks: Sequence[Benchmark],
    *,
    names: tuple[str, str] = ("A", "B"),
    at: str = "last",
    alpha: float = 0.05,
) -> FittedTable:
    """One row per benchmark at one layer; scores and differences x100.

    Args:
        benchmarks: from `comparison.compare`.
        names: of the two models.
        at: "last", "best" or a layer's number.
        alpha: level of significance.
    """
    drawn = any(_drawn(one, (one.at(at),)) for one in benchmarks)
    title = f"{_place(at, None).capitalize()}; {_adjusted_over(num_tests(at, benchmarks), alpha)}"
    columns = [
        Column("benchmark", shorten=True),
        *map(Column, names),
        Column("B - A" if names == ("A", "B") else "difference"),
        Column(f"{round(100 * (1 - alpha))} % interval"),
        Column("p"),
        *([Column("draws")] if drawn else []),
        Column("n", drop=1),
        Column("", left=True),
    ]
    rows = []
    for one in benchmarks:
        tested = one.at(at)
        if tested is None:
            continue
        d, verdict = tested.difference, tested.verdict(alpha)
        better = names[1] if verdict == "better" else names[0]
        rows.append(
            [
                one.name,
                percent(d.a),
                percent(d.b),
                points(d.difference),
                f"{points(tested.low)} to {points(tested.high)}",
                p_text(tested.adjusted),
                *([_draws_text(one, tested)] if drawn else []),
                f"{d.n:,}",
                f"{better} better" if verdict else "",
            ]
        )
    return FittedTable(columns, rows, title=title)


def overall(
    benchmarks: Sequence[Benchmark],
    *,
    names: tuple[str, str] = ("A", "B"),
    at: str = "last",
    alpha: float = 0.05,
) -> str:
    """The verdict over all benchmarks in plain English: who leads, where that is certain, where not."""
    found = [(one, tested) for one in benchmarks if (tested := one.at(at)) is not None]
    place = {"last": "the last layer", "best": "the best layer, selected on test"}
    gaps = [tested.difference.difference for _, tested in found]
    ahead = {names[0]: sum(gap < 0 for gap in gaps), names[1]: sum(gap > 0 for gap in gaps)}
    first, second = sorted(names, key=lambda name: -ahead[name])
    lead = (
        f"At {place.get(at, f'layer {at}')}, {first} scores higher on {ahead[first]} of {len(found)} "
        f"benchmarks, {second} on {ahead[second]}."
    )
    certain = {
        name: [one.name for one, tested in found if tested.verdict(alpha) == verdict]
        for name, verdict in zip(names, ("worse", "better"), strict=True)
    }
    sure = "; ".join(f"{name} on {', '.join(won)}" for name, won in certain.items() if won)
    tests = f"(p < {alpha:g} after Holm over {num_tests(at, benchmarks)} tests)"
    if not sure:
        return f"{lead} Nowhere is that certain {tests}: no difference can be told."
    rest = len(found) - sum(map(len, certain.values()))
    open_ = f"; on the other {rest} no difference can be told" if rest else ""
    return f"{lead} Certain {tests}: {sure}{open_}."


def about_draws(benchmarks: Sequence[Benchmark], *, at: str) -> list[str]:
    """What to know of tests of few labels, if there are any."""
    if not any(_drawn(one, (one.at(at),)) for one in benchmarks):
        return []
    return [
        "Few labels: 'draws' says in how many draws of the labels B is ahead. p and intervals are over "
        "test images, for the draws that were made; other labels may turn a difference that few draws share."
    ]


def _drawn(benchmark: Benchmark, tests: Iterable[Outcome | None]) -> bool:
    return any(one and _draws(benchmark, one.difference) for one in tests)


def _draws(benchmark: Benchmark, difference: Difference) -> tuple[int, int] | None:
    """(draws of labels in which b is ahead, draws); None where all labels were used."""
    found = []
    for (_, record), layer in zip((benchmark.a, benchmark.b), difference.layers, strict=True):
        tries = record["layers"][str(layer)]["notes"].get("tries")
        if tries is None:
            return None
        found.append(tries[record["headline"]])
    return sum(b > a for a, b in zip(*found, strict=True)), len(found[0])


def _draws_text(benchmark: Benchmark, tested: Outcome) -> str:
    found = _draws(benchmark, tested.difference)
    return "{} of {}".format(*found) if found else ""


def num_tests(at: str, benchmarks: Sequence[Benchmark]) -> int:
    """Tests that a p value at "last", "best" or a layer is adjusted for."""
    if at.isdecimal():  # of the family of all layers
        return sum(len(one.layers) for one in benchmarks)
    return sum(one.at(at) is not None for one in benchmarks)


def _adjusted_over(tests: int, alpha: float) -> str:
    if tests < 2:
        return f"p and {round(100 * (1 - alpha))} % interval of one test"
    return f"p and {round(100 * (1 - alpha))} % intervals adjusted over {tests} tests (Holm)"


def _layers_of(name: str, difference: Difference) -> str:
    a, b = difference.layers
    return f"{name} ({a})" if a == b else f"{name} (A {a}, B {b})"


def sentence(benchmark: Benchmark, *, at: str, alpha: float, tests: int) -> str:
    """One sentence of plain English on a benchmark.

    Args:
        benchmark: from `compare`.
        at: "last", "best" or a layer's number.
        alpha: level of significance.
        tests: number of tests that p was adjusted for.
    """
    tested = benchmark.at(at)
    if tested is None:
        return f"{benchmark.name}: {_place(at, None)} was not scored for both models."
    d, verdict = tested.difference, tested.verdict(alpha)
    start = (
        f"{benchmark.name}: B is {verdict} than A at {_place(at, d)}"
        if verdict
        else f"{benchmark.name}: no difference can be told between A and B at {_place(at, d)}"
    )
    level = round(100 * (1 - alpha))
    adjusted = f" after Holm over {tests} tests" if tests > 1 else ""
    end = (
        f": {percent(d.b)} against {percent(d.a)}, a difference of {points(d.difference)} points "
        f"({level} % interval {points(tested.low)} to {points(tested.high)}, p {_equals(tested.adjusted)}"
        f"{adjusted}) on {d.n:,} {d.unit}"
    )
    return start + end + _of_layers(benchmark, alpha) + "."


def _place(at: str, difference: Difference | None) -> str:
    if at == "last":
        return "the last layer"
    if at == "best":
        layers = "" if difference is None else " (A {}, B {})".format(*difference.layers)
        return f"the best layer{layers}, selected on test"
    return f"layer {at}"


def _of_layers(benchmark: Benchmark, alpha: float) -> str:
    if len(benchmark.layers) < 2:
        return ""
    verdicts = [one.verdict(alpha) for one in benchmark.layers.values()]
    better, worse = verdicts.count("better"), verdicts.count("worse")
    return (
        f"; of {len(verdicts)} layers B is better at {better or 'none'}, worse at {worse or 'none'}"
    )


def _equals(p: float) -> str:
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"


def p_text(p: float) -> str:
    """A p value for a person.

    >>> p_text(0.0321), p_text(0.00002), p_text(1.0)
    ('0.032', '< 0.0001', '1')
    """
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def as_json(benchmark: Benchmark) -> dict[str, Any]:
    """A JSON value with everything that was found; values are fractions."""

    def one(tested: Outcome | None) -> dict[str, Any] | None:
        if tested is None:
            return None
        d = tested.difference
        return {
            "a": d.a,
            "b": d.b,
            "difference": d.difference,
            "low": d.low,
            "high": d.high,
            "p": d.p,
            "low_holm": tested.low,
            "high_holm": tested.high,
            "p_holm": tested.adjusted,
            "n": d.n,
            "unit": d.unit,
            "test": d.test,
            "layer_a": d.layers[0],
            "layer_b": d.layers[1],
            "only_a_right": d.only_a if d.only_a >= 0 else None,
            "only_b_right": d.only_b if d.only_b >= 0 else None,
            **dict(zip(("draws_b_ahead", "draws"), _draws(benchmark, d) or (), strict=False)),
        }

    record = benchmark.a[1]
    return {
        "task": record["task"],
        "protocol": record["protocol"]["id"],
        "dataset": record["dataset"]["name"],
        "variant": record["dataset"]["variant"],
        "metric": record["headline"],
        "record_a": str(benchmark.a[0]),
        "record_b": str(benchmark.b[0]),
        "last": one(benchmark.last),
        "best": None
        if benchmark.best is None
        else {**(one(benchmark.best) or {}), "selected_on": "test"},
        "layers": {str(layer): one(test) for layer, test in benchmark.layers.items()},
    }
