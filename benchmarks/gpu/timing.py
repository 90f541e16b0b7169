"""Seconds on a device, and their ratios, as rows of a table."""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

Row = dict[str, Any]


def row(what: str, value: float, unit: str, note: str = "") -> Row:
    """One line of the table."""
    return {"what": what, "value": value, "unit": unit, "note": note}


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Until the device has done it."""
    if device != "cpu":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turn(
    works: dict[str, Callable[[], object]], repeats: int, device: str
) -> dict[str, list[float]]:
    """Seconds of each, interleaved; a first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            spent = seconds_of(work, device)
            if repeat:
                found[name].append(spent)
    return found


def ratio(over: list[float], under: list[float]) -> float:
    """Median of the ratios of neighbours in time."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def autocast(device: str, dtype: str) -> AbstractContextManager[Any]:
    """Of the forward pass, as the suite's --dtype."""
    reduced = dtype != "float32"
    return torch.autocast(device, dtype=getattr(torch, dtype), enabled=reduced)
