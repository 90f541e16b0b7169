"""Records as plain data for the report: what is shown, where it comes from, and nothing in between.

Numbers stay fractions. Intervals are those of `statistics`, recomputed from the per-item scores, so a
record whose scores were lost or changed is an error. Nothing is averaged and holes stay holes. The same
records give the same data, in whatever order they are read.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from sdssl_bench._version import __version__
from sdssl_bench.analysis import LAYER_METRIC
from sdssl_bench.errors import DataError
from sdssl_bench.records import Record, Stored, best_layer, by_numbers, canonical_json
from sdssl_bench.reports.cost import cost
from sdssl_bench.reports.curves import CONFIDENCE, curve_of
from sdssl_bench.reports.leaderboard import column_labels, row_labels, tidy
from sdssl_bench.reports.representations import maps, matrices
from sdssl_bench.reports.verdict import verdict
from sdssl_bench.statistics import rank_intervals

MANY = 500_000
"""Values of all metrics from which on a page holds those of the headlines alone."""
LONG_NOTE = 1500
"""Characters of a layer's note above which the page refers to the record."""

Data = dict[str, Any]


class Pool:
    """JSON values that many results share, each stored once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def add(self, value: Any) -> int:
        """Place of the value in `values`."""
        text = canonical_json(value)
        if text not in self._places:
            self._places[text] = len(self.values)
            self.values.append(value)
        return self._places[text]


def collect(records: Iterable[Stored], *, include_limited: bool = False) -> Data:
    """What the page and the figures show.

    Args:
        records: with their paths, beside which the per-item scores lie.
        include_limited: show trials made under --limit too, as encoders and benchmarks of their own
            that say so.

    Returns:
        JSON values only: about, verdict, encoders, benchmarks, results, pool, matrices, maps. A result
        belongs to one record; its "metrics" are arrays over its "layers", with null where a layer has none.

    Raises:
        DataError: without any record that may be shown, if two records are the same, if a number is
            not finite, or if per-item scores do not give the stored numbers.
    """
    found = list(records)
    kept = [one for one in found if include_limited or one[1]["limited"] is None]
    if not kept:
        limited = f" ({len(found)} are trials: --include-limited shows them)" if found else ""
        raise DataError(
            f"Expected result records to report on, found none{limited}. Run an evaluation first, or "
            "name the folder of the results with --results."
        )
    files: dict[str, Path] = {}
    for path, record in kept:
        if record["key"] in files:
            raise DataError(
                f"{files[record['key']]} and {path} are records of the same measurement. Keep one."
            )
        files[record["key"]] = path
    labels = _labels(kept)
    order = {key: (by_numbers(benchmark), encoder) for key, (benchmark, encoder) in labels.items()}
    kept.sort(key=lambda pair: (*order[pair[1]["key"]], pair[1]["key"]))
    encoders = _encoders(kept, labels)
    benchmarks = _benchmarks(kept, labels)
    places = _places(encoders, {key: encoder for key, (_, encoder) in labels.items()})
    columns = _places(benchmarks, {key: benchmark for key, (benchmark, _) in labels.items()})
    ranks = rank_intervals(pair for pair in kept if pair[1].get("ranked", True))
    pool, crowded = Pool(), sum(map(_num_values, kept)) > MANY
    results = [
        {
            "encoder": places[record["key"]],
            "benchmark": columns[record["key"]],
            "standing": asdict(ranks[record["key"]]) if record["key"] in ranks else None,
            **_result(path, record, pool, headlines=crowded),
        }
        for path, record in kept
    ]
    data = {
        "about": _about(kept, num_limited=len(found) - len(kept)),
        "encoders": encoders,
        "benchmarks": benchmarks,
        "results": results,
        "matrices": matrices(kept, places, [e["label"] for e in encoders]),
        "maps": maps(kept, places),
        "pool": pool.values,
    }
    data["verdict"] = verdict(data)
    if crowded:
        data = left_out(*headlines_only(data))
    return data


def _num_values(stored: Stored) -> int:
    return sum(len(entry["metrics"]) for entry in stored[1]["layers"].values())


def headlines_only(data: Data) -> tuple[Data, str]:
    """The data without other metrics of what is ranked, and what was left out; "" if nothing."""
    wanted = [
        (one["headline"], f"val/{one['headline']}") if one["ranked"] else tuple(one["metrics"])
        for one in data["benchmarks"]
    ]
    benchmarks, results, left = [], [], 0
    for one, names in zip(data["benchmarks"], wanted, strict=True):
        benchmarks.append({**one, "metrics": [name for name in one["metrics"] if name in names]})
    for one in data["results"]:
        metrics = {n: c for n, c in one["metrics"].items() if n in wanted[one["benchmark"]]}
        left += one.get("unread", 0) + len(one["metrics"]) - len(metrics)
        results.append({**one, "metrics": metrics, "unread": 0})
    message = (
        f"Left out to keep the page small: {left:,} curves of metrics other than the headline. "
        "They are in the CSV of 'sdssl-bench leaderboard'."
    )
    return {**data, "benchmarks": benchmarks, "results": results}, message if left else ""


def left_out(data: Data, message: str) -> Data:
    """The data with one more sentence on what the page does not hold."""
    about = {**data["about"], "left_out": [*data["about"]["left_out"], message]}
    return {**data, "about": about}


def _labels(records: Sequence[Stored]) -> dict[str, tuple[str, str]]:
    """Key of a record -> (benchmark, encoder), as the leaderboard names them."""
    frame = tidy(records, include_limited=True, rows="last")
    headlines = {record["key"]: record["headline"] for _, record in records}
    heads = frame[frame["metric"] == frame["key"].map(pd.Series(headlines))]
    heads = heads.drop_duplicates("key")
    missing = set(headlines) - set(heads["key"])
    if missing:
        raise DataError(
            f"The records {', '.join(sorted(missing))} have no layer with their headline metric. "
            "Delete them and run those evaluations again."
        )
    columns, rows = column_labels(heads), row_labels(heads)
    return dict(zip(heads["key"], zip(columns, rows, strict=True), strict=True))


def _places(entries: Sequence[Data], labels: Mapping[str, str]) -> dict[str, int]:
    """Key of a record -> place of the entry with its label."""
    order = {entry["label"]: place for place, entry in enumerate(entries)}
    return {key: order[label] for key, label in labels.items()}


def _about(records: Sequence[Stored], *, num_limited: int) -> Data:
    times = [entry["scored_at"] for _, record in records for entry in record["layers"].values()]
    return {
        "sdssl_bench": __version__,
        "records": len(records),
        "limited": num_limited,
        "trials": sum(record["limited"] is not None for _, record in records),
        "first": min(times),
        "last": max(times),
        "confidence": CONFIDENCE,
        "left_out": [],
    }


def _encoders(records: Sequence[Stored], labels: Mapping[str, tuple[str, str]]) -> list[Data]:
    encoders: dict[str, Data] = {}
    for _, record in records:
        model, label = record["model"], labels[record["key"]][1]
        encoders[label] = {
            "label": label,
            **{k: model[k] for k in ("arch", "network", "norm", "depth", "pretrained")},
        }
    return [encoders[label] for label in sorted(encoders)]


def _benchmarks(records: Sequence[Stored], labels: Mapping[str, tuple[str, str]]) -> list[Data]:
    benchmarks: dict[str, Data] = {}
    for _, record in records:
        label, protocol = labels[record["key"]][0], record["protocol"]
        entry = benchmarks.setdefault(
            label,
            {
                "label": label,
                "task": record["task"],
                "dataset": record["dataset"]["name"],
                "variant": record["dataset"]["variant"],
                "limited": record["limited"],
                "protocol": f"{protocol['id']}@{protocol['version']}",
                "headline": record["headline"],
                "ranked": record.get("ranked", True),
                "parameters": record["protocol"]["parameters"],
                "metrics": [],
            },
        )
        for layer in record["layers"].values():
            entry["metrics"] += [m for m in layer["metrics"] if m not in entry["metrics"]]
    found = [benchmarks[label] for label in sorted(benchmarks, key=by_numbers)]
    for entry in found:
        # A row of a matrix is no curve; `matrices` shows them.
        entry["metrics"] = [m for m in entry["metrics"] if not m.startswith(LAYER_METRIC)]
        entry["differs"] = _differences(entry, found)
    for entry in found:
        del entry["parameters"]
    return found


def _differences(benchmark: Data, benchmarks: Sequence[Data]) -> str:
    """The parameters in which a benchmark differs from others of its task and data."""
    same = [
        other["parameters"]
        for other in benchmarks
        if all(other[k] == benchmark[k] for k in ("task", "dataset", "variant", "protocol"))
    ]
    return ", ".join(
        f"{name.replace('_', ' ')} {json.dumps(value)}"
        for name, value in benchmark["parameters"].items()
        if any(other.get(name) != value for other in same)
    )


def _result(path: Path, record: Record, pool: Pool, *, headlines: bool) -> Data:
    layers = sorted(map(int, record["layers"]))
    entries = [record["layers"][str(layer)] for layer in layers]
    found = dict.fromkeys(m for entry in entries for m in entry["metrics"])
    names = [name for name in found if not name.startswith(LAYER_METRIC)]
    ranked = record.get("ranked", True)
    if headlines and ranked:
        shown = (record["headline"], f"val/{record['headline']}")
        names, unread = [n for n in names if n in shown], sum(n not in shown for n in names)
    else:
        unread = 0
    metrics = {name: curve_of(path, record, name, layers=layers) for name in names}
    provenance = {
        "protocol": pool.add(record["protocol"]),
        "dataset": pool.add(record["dataset"]),
        "model": pool.add(record["model"]),
        "settings": pool.add(record["settings"]),
        "environments": [pool.add(one) for one in record["environments"]],
    }
    skipped = [entry["notes"].get("skipped_images", {}) for entry in entries]
    return {
        "key": record["key"],
        "unread": unread,
        "depth": record["model"]["depth"],
        "layers": layers,
        "n": [entry["n"] for entry in entries],
        "skipped": max(sum(split["count"] for split in one.values()) for one in skipped),
        "metrics": metrics,
        "best": best_layer(record, record["headline"]) if ranked else None,
        "best_on_val": best_layer(record, f"val/{record['headline']}") if ranked else None,
        "cost": cost(record),
        "scored_at": [entry["scored_at"] for entry in entries],
        "environment": [entry["environment"] for entry in entries],
        "notes": [pool.add(_short(entry["notes"])) for entry in entries],
        "provenance": provenance,
    }


def _short(notes: Mapping[str, Any]) -> Data:
    """Notes without long arrays, which the page would show to nobody."""
    short = {}
    for name, value in notes.items():
        length = len(json.dumps(value))
        short[name] = value if length <= LONG_NOTE else f"{length:,} characters, see the record"
    return short
