"""What `sdssl-bench compare` says: tables, one sentence per benchmark, JSON."""

from typing import TYPE_CHECKING, Any

from sdssl_bench.comparison import Benchmark, Outcome
from sdssl_bench.rounding import percent, points
from sdssl_bench.significance import Difference

if TYPE_CHECKING:
    from rich.table import Table


def difference_table(benchmark: Benchmark, *, alpha: float) -> "Table":
    """Every layer, then the last and the best; scores and differences x100.

    Args:
        benchmark: from `comparison.compare`.
        alpha: level of significance.
    """
    from rich.table import Table

    record, level = benchmark.a[1], round(100 * (1 - alpha))
    title = f"{benchmark.name} · {record['protocol']['id']} · {record['headline']}"
    table = Table(title=title, title_justify="left", header_style="bold")
    disputed = any(one.difference.only_a >= 0 for one in benchmark.layers.values())
    names = ["layer", "A", "B", "B - A", f"{level} % interval", "p", "p (Holm)", "n"]
    for name in [*names, *(["only A right", "only B right"] if disputed else []), ""]:
        table.add_column(name, justify="left" if not name else "right")
    rows = [(str(layer), one) for layer, one in benchmark.layers.items()]
    if benchmark.last is not None:
        rows.append((_layers_of("last", benchmark.last.difference), benchmark.last))
    if benchmark.best is not None:
        rows.append((_layers_of("best", benchmark.best.difference), benchmark.best))
    for label, one in rows:
        d, verdict = one.difference, one.verdict(alpha)
        cells = [
            label,
            percent(d.a),
            percent(d.b),
            points(d.difference),
            f"{points(d.low)} to {points(d.high)}",
            p_text(d.p),
            p_text(one.adjusted),
            f"{d.n:,}",
        ]
        if disputed:
            cells += ["" if n < 0 else f"{n:,}" for n in (d.only_a, d.only_b)]
        note = "selected on test" if label.startswith("best") else ""
        table.add_row(
            *cells, ", ".join(text for text in (verdict and f"B {verdict}", note) if text)
        )
    return table


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
        f"({level} % interval {points(d.low)} to {points(d.high)}, p {_equals(tested.adjusted)}"
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
            "p_holm": tested.adjusted,
            "n": d.n,
            "unit": d.unit,
            "test": d.test,
            "layer_a": d.layers[0],
            "layer_b": d.layers[1],
            "only_a_right": d.only_a if d.only_a >= 0 else None,
            "only_b_right": d.only_b if d.only_b >= 0 else None,
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
