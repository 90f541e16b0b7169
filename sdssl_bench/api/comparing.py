"""Is the difference between two models real? `sdssl-bench compare` as a function."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdssl_bench.api.reading import Folder, folders, warn
from sdssl_bench.api.results import Result
from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.records import Stored, plain
from sdssl_bench.reports import (
    Part,
    Shown,
    about_draws,
    as_json,
    difference_table,
    num_tests,
    overall,
    sentence,
    summary_table,
)
from sdssl_bench.statistics import Benchmark, find_records, mixed_pixels, pair
from sdssl_bench.statistics import compare as test
from sdssl_bench.system import default_results

if TYPE_CHECKING:
    import pandas

Side = Folder | Result | Iterable[Result]
"""What is compared: a record's file, a folder, the name of a model, or results at hand."""


class Comparison(Shown, dict[str, Any]):
    """What `compare --json` prints, as a mapping that shows and tabulates itself.

    Attributes:
        benchmarks: the tests of each benchmark.
        damaged: why records are left out.
    """

    def __init__(
        self, found: dict[str, Any], benchmarks: Sequence[Benchmark], damaged: list[DataError]
    ) -> None:
        super().__init__(found)
        self.benchmarks, self.damaged = list(benchmarks), damaged

    def shown(self, *, wide: bool = False) -> Sequence[Part]:
        """The tables and sentences that `compare` prints.

        Args:
            wide: every layer of each of several benchmarks too.
        """
        at, alpha, many = self["at"], self["alpha"], self.benchmarks
        parts: list[Part] = [f"A = {plain(self['a'])}\nB = {plain(self['b'])}"]
        if wide or len(many) == 1:
            parts += [difference_table(one, alpha=alpha, benchmarks=many) for one in many]
            parts += self["sentences"]
        if len(many) > 1:
            parts += [summary_table(many, at=at, alpha=alpha), overall(many, at=at, alpha=alpha)]
        parts += [*about_draws(many, at=at), *(f"note: {line}" for line in self["notes"])]
        return parts + [f"not compared: {line}" for line in self["not_compared"]]

    def frame(self) -> "pandas.DataFrame":
        """A tidy table: a row a benchmark and layer, then its "last" and "best"; values are fractions."""
        import pandas as pd

        shared = ("task", "protocol", "dataset", "variant", "metric")
        rows = [
            {**{name: one[name] for name in shared}, "at": at, **found}
            for one in self["benchmarks"]
            for at, found in (*one["layers"].items(), ("last", one["last"]), ("best", one["best"]))
            if found is not None
        ]
        return pd.DataFrame(rows)


def compare(
    a: Side,
    b: Side,
    *,
    results: Folder | Iterable[Folder] | None = None,
    at: str | int = "last",
    alpha: float = 0.05,
    seed: int = 0,
) -> Comparison:
    """Paired tests of two models on the same items, adjusted (Holm) over all benchmarks that both have.

    Args:
        a: a record's file, a folder of records, or the name of a model in `results`; or results.
        b: likewise; the sentences speak of b against a.
        results: folder or folders of the models named; None is $SDSSL_BENCH_RESULTS, or ./results.
        at: layer the sentences go by: "last", "best" or a number.
        alpha: level of significance, after Holm.
        seed: of resamples and permutations.

    Raises:
        UsageError: if a name is unknown or nothing can be paired.
        DataError: if records or their per-item scores are missing or damaged.
    """
    at = str(at)
    if at not in ("last", "best") and not (at.isdecimal() and int(at) > 0):
        raise UsageError(f"--at takes last, best or the number of a layer; found '{at}'.")
    if not 0 < alpha < 1:
        raise UsageError(f"--alpha lies between 0 and 1, found {alpha}.")
    places = folders(results) or [default_results()]
    (first, broken), (second, broken_too) = _records(a, places), _records(b, places)
    damaged = list({str(error): error for error in [*broken, *broken_too]}.values())
    warn(damaged)
    pairs, unpaired = pair(first, second)
    benchmarks, without_items = test(pairs, confidence=1 - alpha, seed=seed)
    tests = num_tests(at, benchmarks)
    tested = [one.at(at) for one in benchmarks]
    found = {
        "a": _name(a),
        "b": _name(b),
        "at": at,
        "alpha": alpha,
        "benchmarks": [as_json(one) for one in benchmarks],
        "sentences": [sentence(one, at=at, alpha=alpha, tests=tests) for one in benchmarks],
        "notes": mixed_pixels(record for one in benchmarks for _, record in (one.a, one.b)),
        "not_compared": unpaired + without_items,
        "worse": sum(one is not None and one.verdict(alpha) == "worse" for one in tested),
    }
    return Comparison(found, benchmarks, damaged)


def _records(side: Side, places: Sequence[Path]) -> tuple[list[Stored], list[DataError]]:
    if isinstance(side, str | os.PathLike):
        return find_records(str(side), places)
    given = [side] if isinstance(side, Result) else list(side)
    if not all(isinstance(one, Result) for one in given):
        raise UsageError(
            "Expected the name of a model, a record's file, a folder or results of evaluate; found "
            f"{', '.join(sorted({type(one).__name__ for one in given}))}."
        )
    ranked = [one.stored for one in given if one.get("ranked", True)]
    if not ranked:
        raise UsageError("Expected results that rank, to compare them; found none.")
    return ranked, []


def _name(side: Side) -> str:
    if isinstance(side, str | os.PathLike):
        return str(side)
    given = [side] if isinstance(side, Result) else list(side)
    return ", ".join(dict.fromkeys(one["model"]["name"] for one in given))
