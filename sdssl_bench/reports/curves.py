"""Metrics of a record over its layers, with the intervals of `statistics`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdssl_bench.records import Record
from sdssl_bench.statistics import Interval, known_interval

CONFIDENCE = 0.95
DECIMALS = 6
"""Of the numbers on the page: of fractions, so four of percent."""


def curve_of(path: Path, record: Record, name: str, *, layers: Sequence[int]) -> dict[str, Any]:
    """Values and interval ends of one metric, [layers] each, and what the interval is over."""
    values: list[float | None] = []
    intervals: list[Interval | None] = []
    for layer in layers:
        entry = record["layers"][str(layer)]
        value = entry["metrics"].get(name)
        values.append(None if value is None else round(value, DECIMALS))
        intervals.append(None if value is None else known_interval(record, path, layer, name))
    curve: dict[str, Any] = {"value": values}
    found = [one for one in intervals if one is not None]
    if found:
        curve["low"] = [None if one is None else round(one.low, DECIMALS) for one in intervals]
        curve["high"] = [None if one is None else round(one.high, DECIMALS) for one in intervals]
        curve["unit"], curve["units"] = found[-1].unit, found[-1].n
        curve["method"] = found[-1].method
    return curve
