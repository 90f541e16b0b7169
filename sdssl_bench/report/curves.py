"""Metrics of a record over its layers, with the intervals of `uncertainty`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdssl_bench.errors import DataError
from sdssl_bench.results import Record
from sdssl_bench.uncertainty import Interval, layer_interval

CONFIDENCE = 0.95
DECIMALS = 6
"""Of the numbers on the page: of fractions, so four of percent."""
NORMAL = 1.959964
"""Standard errors to either end of a 95 % interval."""


def best_layer(record: Record, metric: str) -> int | None:
    """The earliest of the layers with the highest score; None where no layer has this metric."""
    if not record.get("ranked", True):
        return None
    scores = {
        int(layer): entry["metrics"][metric]
        for layer, entry in record["layers"].items()
        if metric in entry["metrics"]
    }
    return min(scores, key=lambda layer: (-scores[layer], layer), default=None)


def curve_of(path: Path, record: Record, name: str, *, layers: Sequence[int]) -> dict[str, Any]:
    """Values and interval ends of one metric, [layers] each, and what the interval is over."""
    values: list[float | None] = []
    intervals: list[Interval | None] = []
    for layer in layers:
        entry = record["layers"][str(layer)]
        value = entry["metrics"].get(name)
        if value is not None and not math.isfinite(value):
            raise DataError(
                f"{path}, layer {layer}: {name} is {value}. Delete the record and run it again."
            )
        values.append(None if value is None else round(value, DECIMALS))
        intervals.append(None if value is None else _interval(path, record, layer, name))
    curve: dict[str, Any] = {"value": values}
    known = [one for one in intervals if one is not None]
    if known:
        curve["low"] = [None if one is None else round(one.low, DECIMALS) for one in intervals]
        curve["high"] = [None if one is None else round(one.high, DECIMALS) for one in intervals]
        curve["unit"], curve["units"] = known[-1].unit, known[-1].n
        curve["method"] = known[-1].method
    return curve


def _interval(path: Path, record: Record, layer: int, name: str) -> Interval | None:
    if record.get("ranked", True):
        return layer_interval(record, path, layer, name, confidence=CONFIDENCE)
    entry = record["layers"][str(layer)]
    error = entry["notes"].get("standard_errors", {}).get(name)
    if error is None:
        return None
    value, half = entry["metrics"][name], NORMAL * error
    return Interval(value, value - half, value + half, error, entry["n"], "images", "normal")
