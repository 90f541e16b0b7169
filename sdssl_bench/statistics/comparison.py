"""Model b against model a on every benchmark that both were scored on, by the tests of `paired_tests`.

Only results of one protocol on one set of images are paired. Three families of tests are adjusted by
Holm, each over all benchmarks: last layers, best layers, and every single layer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from sdssl_bench.errors import DataError, UsageError, did_you_mean
from sdssl_bench.records import (
    Record,
    Setting,
    Stored,
    by_numbers,
    obstacles,
    part_mark,
    plain,
    variant_mark,
)
from sdssl_bench.statistics.best_layers import best_layer_difference
from sdssl_bench.statistics.items import ItemScores, layer_item_scores
from sdssl_bench.statistics.paired_tests import (
    SLACK,
    Difference,
    agreeing,
    holm,
    holm_factors,
    paired_interval,
    paired_test,
)
from sdssl_bench.statistics.results import read_files, read_proven, read_results


@dataclass(frozen=True)
class Outcome:
    """A difference, with p value and interval adjusted for the others of its family in the same way.

    Attributes:
        difference: with its own p and interval, as if it were the only test.
        adjusted: p after Holm.
        low: lower end of the interval at the level that Holm leaves this test: it excludes 0 exactly if
            `adjusted` is at most 1 - confidence.
        high: upper end.
        interval: the interval at any confidence, unadjusted.
    """

    difference: Difference
    adjusted: float
    low: float
    high: float
    interval: Callable[[float], tuple[float, float]] = field(compare=False, repr=False)

    def verdict(self, alpha: float) -> str:
        """Of model b: "better", "worse" or "" where no difference can be told."""
        if self.adjusted > alpha + SLACK or self.difference.difference == 0:
            return ""
        return "better" if self.difference.difference > 0 else "worse"


@dataclass(frozen=True)
class Benchmark:
    """Two models on one benchmark.

    Attributes:
        a: record of the first model, with its path.
        b: record of the second.
        layers: layer -> difference, of layers that both have.
        last: last layer against last layer; None if one was not scored.
        best: best layer against best layer, the choice made inside the test; None if there is no
            choice, both having one layer.
    """

    a: Stored
    b: Stored
    layers: dict[int, Outcome]
    last: Outcome | None
    best: Outcome | None

    @property
    def name(self) -> str:
        """Task and dataset."""
        return benchmark_name(self.a[1])

    def at(self, layer: str) -> Outcome | None:
        """The difference at "last", "best" or a layer's number."""
        if layer in ("last", "best"):
            found: Outcome | None = getattr(self, layer)
            return found
        return self.layers.get(int(layer))


def benchmark_name(record: Mapping[str, Any]) -> str:
    """Task, dataset and, unless official, its variant; and whose labels, unless all."""
    data, part = record["dataset"], part_mark(record["protocol"]["id"])
    return f"{record['task']} {plain(data['name'])}{part}{variant_mark(data['variant'])}"


def find_records(text: str, folders: Sequence[Path]) -> tuple[list[Stored], list[DataError]]:
    """The records that a user names, and why others of them are left out.

    Args:
        text: a record's file, a folder of records, or the name, or an unambiguous part of the name,
            of a model in `folders`.
        folders: results folders.

    Raises:
        UsageError: if it is none of these.
        DataError: if the record named cannot be read, or a folder has none that can.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return [(path, read_proven(path))], []
    if path.is_dir():
        folder = path / "runs" if (path / "runs").is_dir() else path
        files = sorted(folder.glob("**/*.json"))
        if not files:
            raise DataError(f"Expected result records under {folder}, found none.")
        read, damaged = read_files(files)
        return _scores(read), damaged
    read, damaged = read_results(folders)
    stored = _scores(read)
    known = sorted({record["model"]["name"] for _, record in stored})
    matching = named_models(text, known)
    if len(matching) > 1:
        raise UsageError(
            f"'{text}' is part of several models' names: {', '.join(matching)}. Give more of one."
        )
    if not matching:
        places = ", ".join(map(str, folders))
        where = f" It is no file or folder either. Models are looked for in {places} (--results)."
        raise UsageError(did_you_mean("model", text, known) + where)
    return [one for one in stored if one[1]["model"]["name"] == matching[0]], damaged


def named_models(text: str, known: Sequence[str]) -> list[str]:
    """The models that a user may mean: by the whole name, else by words of it, else by any part.

    >>> names = ["mocov3_vit_s16", "sd_mocov3_vit_s16", "runs/a/epoch 10"]
    >>> named_models("mocov3_vit_s16", names), named_models("sd_", names), named_models("a", names)
    (['mocov3_vit_s16'], ['sd_mocov3_vit_s16'], ['runs/a/epoch 10'])
    """
    if text in known:
        return [text]
    words = [name for name in known if text in name.replace("/", " ").split()]
    return words or [name for name in known if text and text in name]


def _scores(records: Iterable[Stored]) -> list[Stored]:
    """Without records that describe and do not rank, such as those of the task `analysis`."""
    return [one for one in records if one[1].get("ranked", True)]


def pair(a: Sequence[Stored], b: Sequence[Stored]) -> tuple[list[tuple[Stored, Stored]], list[str]]:
    """Records that may be compared, and a sentence for each of `a` that has no partner.

    Raises:
        UsageError: if nothing can be paired, or a record has several partners.
    """
    pairs, reasons = [], []
    for one in sorted(a, key=lambda stored: by_numbers(benchmark_name(stored[1]))):
        partners = [other for other in b if not obstacles(one[1], other[1])]
        if len(partners) > 1:
            files = ", ".join(str(path) for path, _ in partners)
            raise UsageError(
                f"{benchmark_name(one[1])}: several results on the other side may be compared with "
                f"{one[0]}: {files}. Name the record's file instead of the model."
            )
        if partners:
            pairs.append((one, partners[0]))
        else:
            reasons.append(_reason(one[1], [record for _, record in b]))
    if not pairs:
        raise UsageError("These results cannot be compared. " + " ".join(reasons))
    return pairs, reasons


def _reason(record: Record, others: Sequence[Record]) -> str:
    name = benchmark_name(record)
    same = [other for other in others if other["task"] == record["task"]]
    if not same:
        return f"{name}: the other side has no result of {record['task']}."
    part = part_mark(record["protocol"]["id"])
    found = [
        obstacles(record, other) for other in same if part_mark(other["protocol"]["id"]) == part
    ]
    if not found:
        return f"{name}: the other side has no result of {record['protocol']['id']}."
    fewest: list[Setting] = min(found, key=len)
    return f"{name}: " + "; ".join(map(str, fewest)) + "."


def compare(
    pairs: Sequence[tuple[Stored, Stored]], *, confidence: float = 0.95, seed: int = 0
) -> tuple[list[Benchmark], list[str]]:
    """Every pair tested, p values adjusted; and a sentence for each that has no per-item scores.

    Args:
        pairs: from `pair`.
        confidence: of the intervals, 1 - alpha.
        seed: of resamples and permutations.

    Raises:
        DataError: if per-item scores are missing or do not give the stored numbers.
        UsageError: if the items of a pair differ, or no pair has per-item scores.
    """
    found, reasons = [], []
    for a, b in pairs:
        one = _test(a, b, confidence=confidence, seed=seed)
        if one is None:
            name = benchmark_name(a[1])
            reasons.append(f"{name}: there are no per-item scores of {a[1]['headline']}.")
        else:
            found.append(one)
    if not found:
        raise UsageError("These results cannot be compared. " + " ".join(reasons))
    return _adjusted(found, confidence), reasons


def _test(a: Stored, b: Stored, *, confidence: float, seed: int) -> Benchmark | None:
    units_a, units_b = _layers(a), _layers(b)
    if units_a is None or units_b is None:
        return None
    wanted: dict[str, tuple[int, int]] = {
        str(layer): (layer, layer) for layer in units_a if layer in units_b
    }
    ends = (a[1]["model"]["depth"], b[1]["model"]["depth"])
    if ends[0] in units_a and ends[1] in units_b:
        wanted["last"] = ends

    def test(layers: tuple[int, int]) -> Outcome:
        one, other = units_a[layers[0]], units_b[layers[1]]
        found = paired_test(one, other, layers=layers, confidence=confidence, seed=seed)
        interval = partial(paired_interval, one, other, seed=seed)
        return _alone(found, lambda level: interval(confidence=level))

    tests = {name: test(layers) for name, layers in wanted.items()}
    best = None
    if max(len(units_a), len(units_b)) > 1:
        best = _alone(*best_layer_difference(units_a, units_b, confidence=confidence, seed=seed))
    last = tests.pop("last", None)
    return Benchmark(a, b, {int(name): one for name, one in tests.items()}, last, best)


def _alone(found: Difference, interval: Callable[[float], tuple[float, float]]) -> Outcome:
    return Outcome(found, found.p, found.low, found.high, interval)


def _layers(stored: Stored) -> dict[int, ItemScores] | None:
    path, record = stored
    found = {int(layer): layer_item_scores(record, path, int(layer)) for layer in record["layers"]}
    complete = {layer: units for layer, units in found.items() if units is not None}
    if complete and len(complete) < len(found):
        raise DataError(f"{path} holds per-item scores of some layers only; run it again.")
    return complete or None


def _adjusted(benchmarks: list[Benchmark], confidence: float) -> list[Benchmark]:
    """With Holm's p values, and intervals to match, within each family."""
    last = iter(_family([one.last for one in benchmarks], confidence))
    best = iter(_family([one.best for one in benchmarks], confidence))
    layers = [test for one in benchmarks for test in one.layers.values()]
    single = iter(_family(layers, confidence))
    return [
        replace(
            one,
            last=next(last),
            best=next(best),
            layers={layer: test for layer in one.layers if (test := next(single)) is not None},
        )
        for one in benchmarks
    ]


def _family(tests: Sequence[Outcome | None], confidence: float) -> list[Outcome | None]:
    p_values = [one.difference.p for one in tests if one is not None]
    adjusted, factors = iter(holm(p_values)), iter(holm_factors(p_values))
    return [
        None if one is None else _adjust(one, next(adjusted), next(factors), confidence)
        for one in tests
    ]


def _adjust(one: Outcome, adjusted: float, factor: float, confidence: float) -> Outcome:
    d, alpha = one.difference, 1 - confidence
    low, high = (d.low, d.high) if factor == 1 else one.interval(1 - alpha / factor)
    low, high = agreeing(
        low, high, difference=d.difference, n=d.n, rejected=adjusted <= alpha + SLACK
    )
    return replace(one, adjusted=adjusted, low=low, high=high)
