"""Published numbers of released checkpoints beside ours: what is measured, what was, what cannot be."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sdssl_bench import datasets
from sdssl_bench.errors import UsageError
from sdssl_bench.paper.layouts import METRICS, OWN_PROTOCOLS, Column, Number, cell_record, number_at
from sdssl_bench.paper.references import Published, published
from sdssl_bench.paper.releases import (
    ALWAYS,
    COPIES,
    MATCHES,
    NEIGHBOURS,
    OTHERWISE,
    TRAINED,
    Release,
)
from sdssl_bench.records import Record, Stored
from sdssl_bench.rounding import percent


@dataclass(frozen=True)
class Benchmark:
    """What is run of a release.

    Attributes:
        task: name of a task.
        protocol: one of its presets.
        dataset: name of a dataset.
        metrics: in records; of several the best counts.
        differs: in what it is not the release's own protocol; "" = it is that.
    """

    task: str
    protocol: str
    dataset: str
    metrics: tuple[str, ...]
    differs: str = ""

    @property
    def run(self) -> tuple[str, str, str]:
        """Task, protocol and dataset: benchmarks that differ in their metrics alone are one run."""
        return self.task, self.protocol, self.dataset

    @property
    def trained(self) -> bool:
        """Whether the encoder is trained for it, so that only the last layer is scored."""
        return self.task in TRAINED


@dataclass(frozen=True)
class Compared:
    """A benchmark of a release: the published number, and ours if there is one.

    Attributes:
        benchmark: what is measured.
        published: None where its authors published no number.
        number: ours, at the last layer.
        metric: the one of the benchmark's that counts.
        stored: the record, with its path.
    """

    benchmark: Benchmark
    published: Published | None
    number: Number | None = None
    metric: str = ""
    stored: Stored | None = None


def numbers_of(one: Release) -> list[Published]:
    """What was published of a release, in the order of published.csv."""
    return [
        row
        for row in published()
        if (row.model, row.arch) == (one.model, one.arch) and row.setting not in one.others
    ]


def benchmarks(one: Release, tasks: Sequence[str] = ()) -> list[tuple[Benchmark, Published | None]]:
    """What is measured of a release, each beside its published number.

    Args:
        one: the release.
        tasks: only these; none = all but those that train the encoder.
    """
    found: list[tuple[Benchmark, Published | None]] = [
        (_benchmark(one, row), row) for row in numbers_of(one) if not why_not(one, row)
    ]
    task, dataset = ALWAYS
    if not any((b.task, b.dataset) == ALWAYS for b, _ in found):
        found.insert(0, (Benchmark(task, "dino", dataset, NEIGHBOURS), None))
    return [pair for pair in found if (pair[0].task in tasks if tasks else not pair[0].trained)]


def _benchmark(one: Release, row: Published) -> Benchmark:
    protocol, differs = MATCHES[one.method][row.task]
    cited = OWN_PROTOCOLS.get((row.task, row.dataset))
    metrics = NEIGHBOURS if row.task == "knn" else METRICS.get(row.task, (row.metric,))
    name = cited[0].rpartition("/")[2] if cited else protocol
    return Benchmark(row.task, name, row.dataset, metrics, differs)


def left(one: Release, tasks: Sequence[str] = ()) -> dict[str, list[str]]:
    """Why published numbers are not measured -> which, in words; arguments as for `benchmarks`."""
    found: dict[str, dict[str, list[str]]] = {}
    measured = {row for _, row in benchmarks(one, tasks)}
    for row in numbers_of(one):
        if row not in measured and (not tasks or row.task in tasks):
            what = row.dataset if row.dataset == row.task else f"{row.task} {row.dataset}"
            reason = why_not(one, row) or f"it trains the encoder (--task {row.task})"
            found.setdefault(reason, {}).setdefault(what, []).append(percent(row.value))
    return {
        reason: [f"{what} {' '.join(values)}" for what, values in names.items()]
        for reason, names in found.items()
    }


def why_not(one: Release, row: Published) -> str:
    """Why no protocol here measures a published number; "" if one does."""
    if row.dataset not in datasets.names():
        return f"this suite has no {row.dataset}"
    if row.task == "copydays":
        return COPIES
    for beginning, reason in OTHERWISE.items():
        if row.setting.startswith(beginning):
            return reason
    return "" if row.task in MATCHES[one.method] else f"no protocol of {row.task} is theirs"


def stored_records(
    records: Sequence[Stored], one: Release, wanted: Iterable[Benchmark], *, name: str
) -> dict[Benchmark, Stored]:
    """What was measured already: all layers, complete official sets, the suite's default settings.

    Args:
        records: stored results.
        one: the release.
        wanted: benchmarks of it.
        name: of the model in the records; of another architecture it is not the release.

    Raises:
        UsageError: if several results fit.
    """
    fitting = [stored for stored in records if one.fits(stored[1]["model"]["arch"])]
    known = {}
    for what in wanted:
        column = Column("", one.name, what.task, what.dataset, "", what.metrics)
        found = cell_record(fitting, column, name, "", cited=(f"{what.task}/{what.protocol}",))
        if found is not None and (
            what.trained or len(found[1]["layers"]) == found[1]["model"]["depth"]
        ):
            known[what] = found[:2]
    return known


def of_several_weights(stored: Iterable[Stored]) -> UsageError | None:
    """What is wrong with records of one name that are of different weights; None if they are not."""
    paths = {record["model"]["weights_sha256"]: path for path, record in stored}
    if len(paths) < 2:
        return None
    return UsageError(
        f"Results of {len(paths)} different weights go by one name: {', '.join(map(str, paths.values()))}. "
        "Move all but those of the release out of the results folder."
    )


def compare(benchmark: Benchmark, number: Published | None, stored: Stored | None) -> Compared:
    """Ours beside the published number.

    Raises:
        DataError: if per-item scores are missing or do not give the stored number.
    """
    metric = None if stored is None else best_metric(stored[1], benchmark)
    if stored is None or metric is None:
        return Compared(benchmark, number)
    return Compared(benchmark, number, number_at(*stored, metric, "last"), metric, stored)


def best_metric(record: Record, benchmark: Benchmark) -> str | None:
    """The metric that counts at the last layer; None if that layer was not scored."""
    last = record["layers"].get(str(record["model"]["depth"]), {"metrics": {}})["metrics"]
    return max((m for m in benchmark.metrics if m in last), key=lambda m: last[m], default=None)
