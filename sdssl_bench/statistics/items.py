"""What a metric averages: the units of a record's stored per-item scores, and how they are weighted.

A metric is a mean over strata of (sum of the units' scores / sum of the units' sizes):

accuracy            images, one stratum, size 1; in the mean over draws of few labels an image's score is
                    the share of draws in which it is right
mean per class      images, one stratum per class
mean AP             queries that have positives, one stratum, size 1
what a task stores  images, one stratum, size 1: an array of the metric's own name is scores of images whose
                    plain mean the metric is (mIoU's are `metrics.overlap_scores`)
J, F, J&F of DAVIS  sequences, one stratum; a sequence's size is its number of objects, because the
                    benchmark averages over objects while objects of one sequence are not independent

Units are what intervals resample and what paired tests exchange. Nothing here needs an encoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import DataError, UsageError, did_you_mean
from sdssl_bench.metrics import single_ap
from sdssl_bench.records import Record, items_path, read_items

DAVIS_PARTS = {
    "J&F-Mean": ("J", "F"),
    "J-Mean": ("J",),
    "F-Mean": ("F",),
    **{name: (name,) for name in ("J-Recall", "J-Decay", "F-Recall", "F-Decay")},
}
"""Metric -> arrays of objects whose mean it is."""

TOLERANCE = 1e-9
"""Of a recomputed metric; sums of float64 in another order differ by less."""


@dataclass(frozen=True, eq=False)
class ItemScores:
    """One metric of one layer, unit by unit.

    Attributes:
        scores: [n] sum of the scores of each unit's members.
        sizes: [n] members of each unit; 1 but for clusters.
        strata: [n] 0..S-1, the stratum of each unit.
        ids: [n] what identifies a unit across models: position in the split, name of a sequence.
        kind: "images", "queries" or "sequences".
        binary: whether every unit is one item that is right or wrong.
        signed: whether scores lie in [-1, 1], as decays do, not in [0, 1].
    """

    scores: NDArray[np.float64]
    sizes: NDArray[np.float64]
    strata: NDArray[np.int64]
    ids: NDArray[Any]
    kind: str
    binary: bool
    signed: bool = False

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def weights(self) -> NDArray[np.float64]:
        """[n] such that the metric is the sum of weights x scores."""
        members = np.bincount(self.strata, weights=self.sizes)
        return np.asarray(1.0 / (len(members) * members[self.strata]))

    @property
    def value(self) -> float:
        """The metric, a fraction."""
        sums = np.bincount(self.strata, weights=self.scores)
        return float((sums / np.bincount(self.strata, weights=self.sizes)).mean())

    def ordered(self) -> "ItemScores":
        """The same units in ascending order of their ids."""
        order = np.argsort(self.ids, kind="stable")
        return replace(
            self,
            scores=self.scores[order],
            sizes=self.sizes[order],
            strata=self.strata[order],
            ids=self.ids[order],
        )


def layer_item_scores(
    record: Record, record_path: Path, layer: int, metric: str | None = None
) -> ItemScores | None:
    """The units of one metric of one layer, proven to give the stored value.

    Args:
        record: as read from `record_path`.
        record_path: its file; per-item scores lie beside it.
        layer: 1..L.
        metric: None is the headline.

    Returns:
        None where the record holds no per-item scores of this metric.

    Raises:
        UsageError: if the record has no such layer or metric.
        DataError: if the per-item scores are missing, or do not give the stored number.
    """
    name = metric if metric is not None else str(record["headline"])
    entry = layer_entry(record, layer)
    if name not in entry["metrics"]:
        raise UsageError(did_you_mean("metric", name, entry["metrics"]))
    needed = _arrays_of(name, str(record["headline"]), entry["items"])
    if needed is None or not record.get("ranked", True):  # descriptions are of pairs, not of images
        return None
    stored = _items(record_path, layer)
    missing = [array for array in needed if array not in stored]
    if missing:
        raise DataError(
            f"{record_path} says that the scores {', '.join(missing)} of layer {layer} lie beside it, "
            "but they do not. Delete the record and run that evaluation again."
        )
    units = _item_scores(name, needed, stored)
    expected = float(entry["metrics"][name])
    if not len(units) or not abs(units.value - expected) <= TOLERANCE * max(1.0, abs(expected)):
        found = units.value if len(units) else "nothing"
        raise DataError(
            f"{record_path}, layer {layer}: the stored {name} is {expected!r}, but its per-item scores "
            f"give {found!r}. One of the two files was changed. Delete both and run that evaluation "
            "again."
        )
    return units


def layer_entry(record: Record, layer: int) -> dict[str, Any]:
    """What a record holds of a layer.

    Raises:
        UsageError: if it does not have it.
    """
    if str(layer) not in record["layers"]:
        raise UsageError(
            f"The record {record['key']} has layers {', '.join(record['layers'])}, not {layer}."
        )
    entry: dict[str, Any] = record["layers"][str(layer)]
    return entry


def _items(path: Path, layer: int) -> dict[str, NDArray[Any]]:
    """`read_items`, remembering the layer read last: its metrics are asked for one after another."""
    file = items_path(path)
    stamp = file.stat().st_mtime_ns if file.exists() else 0
    return _remembered(path, layer, stamp)


@lru_cache(maxsize=4)
def _remembered(path: Path, layer: int, stamp: int) -> dict[str, NDArray[Any]]:
    return read_items(path, layer)


def _arrays_of(metric: str, headline: str, stored: list[str]) -> tuple[str, ...] | None:
    """Names of the arrays a metric is computed from; None if the record does not hold them."""
    prefix, slash, name = metric.rpartition("/")
    if metric in DAVIS_PARTS:
        if DAVIS_PARTS[metric][0] not in stored:
            return None
        wanted: tuple[str, ...] = ("object", *DAVIS_PARTS[metric])
    elif name in ("top1", "mean_per_class"):
        correct = f"{prefix}/correct"
        # An array without prefix is of the headline's run: the best epoch where test chose it.
        if not slash or correct not in stored:
            correct = "correct"
            if prefix != headline.rpartition("/")[0]:
                return None
        wanted = (correct, "target", "index")
    elif name == "mAP" and f"{prefix}/ap" in stored:
        wanted = (f"{prefix}/ap", "index")
    elif name.startswith("mP@"):
        wanted = (f"{prefix}/{name[1:].lower()}", "index")
    elif name.partition("@")[0] == "mAP":
        wanted = (f"{prefix}/position",)
    elif "index" in stored:
        wanted = (metric, "index")
    else:
        return None
    return wanted if wanted[0] in stored else None


def _item_scores(
    metric: str, arrays: tuple[str, ...], stored: Mapping[str, NDArray[Any]]
) -> ItemScores:
    first = stored[arrays[0]]
    name = metric.rpartition("/")[2]
    if metric in DAVIS_PARTS:
        scores = np.mean([stored[part] for part in arrays[1:]], axis=0)
        return replace(_sequences(first, scores), signed=metric.endswith("Decay"))
    one_stratum = np.zeros(len(first), np.int64)
    if name in ("top1", "mean_per_class"):
        classes = np.unique(stored["target"], return_inverse=True)[1].astype(np.int64)
        strata = classes if name == "mean_per_class" else one_stratum
        binary = not np.issubdtype(first.dtype, np.floating)  # else the share of several draws
        return _single(first.astype(np.float64), strata, stored["index"], "images", binary=binary)
    if "index" in arrays:
        kept = np.isfinite(first)  # queries without positives have no AP
        kind = "images" if arrays[0] == metric else "queries"
        return _single(first[kept], one_stratum[kept], stored["index"][kept], kind)
    top_k = name.partition("@")[2]
    scores = single_ap(first, top_k=int(top_k) if top_k else None)
    block = arrays[0].removesuffix("position")
    while block and f"{block}index" not in stored:  # of "d100/strong/" the copies are "strong/"
        block = block.partition("/")[2]
    ids = stored[f"{block}index"] if block else np.arange(len(first))
    return _single(scores, one_stratum, ids, "queries")


def _single(
    scores: NDArray[np.float64],
    strata: NDArray[np.int64],
    ids: NDArray[Any],
    kind: str,
    *,
    binary: bool = False,
) -> ItemScores:
    return ItemScores(scores, np.ones(len(scores)), strata, ids, kind, binary)


def _sequences(objects: NDArray[Any], scores: NDArray[np.float64]) -> ItemScores:
    """Objects "bike-packing_1", "bike-packing_2" make one unit."""
    names = np.array([str(name).rpartition("_")[0] for name in objects])
    ids, place = np.unique(names, return_inverse=True)
    sums = np.asarray(np.bincount(place, weights=scores), np.float64)
    sizes = np.asarray(np.bincount(place), np.float64)
    strata = np.zeros(len(ids), np.int64)
    return ItemScores(sums, sizes, strata, ids, "sequences", binary=False)
