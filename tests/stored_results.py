"""Result records with per-item scores on disk, for tests of what is computed from them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from records import ENVIRONMENT, head
from sdssl_bench.metrics.accuracy import mean_per_class
from sdssl_bench.metrics.average_precision import single_ap
from sdssl_bench.records.identity import Record
from sdssl_bench.records.reading import read_record
from sdssl_bench.records.store import ResultStore

Items = dict[str, NDArray[Any]]


def store(
    root: Path, layers: dict[int, tuple[dict[str, float], Items]], **changes: Any
) -> tuple[Path, Record]:
    """Write a record with these metrics and items; returns its path and content."""
    weights = changes.get("model__weights_sha256", "a" * 64)
    if len(weights) != 64:  # a word that tells models apart
        changes["model__weights_sha256"] = hashlib.sha256(weights.encode()).hexdigest()
    results, first = ResultStore(root), head(model__depth=max(layers), **changes)
    for layer, (metrics, items) in layers.items():
        entry = {
            "metrics": metrics,
            "n": len(next(iter(items.values()), ())) or 1,
            "notes": {},
            "items": sorted(items),
            "seconds": {"score": 0.5},
            "scored_at": "2026-01-02T03:04:05+00:00",
        }
        results.add_layer(first, layer, entry=entry, environment=ENVIRONMENT, items=items)
    path = results.path(first)
    return path, read_record(path)


def knn_layer(
    correct: NDArray[np.bool_], target: NDArray[np.int64]
) -> tuple[dict[str, float], Items]:
    """As tasks/knn.py stores a layer, for k = 20."""
    metrics = {
        "k20/top1": float(correct.mean()),
        "k20/top5": float(min(len(correct), correct.sum() + 3) / len(correct)),
        "k20/mean_per_class": mean_per_class(
            correct, target, num_classes=int(target.max()) + 1, classes=np.unique(target)
        ),
    }
    return metrics, {"index": np.arange(len(target)), "target": target, "k20/correct": correct}


def scored(root: Path, name: str, dataset: str, right: dict[int, int], **changes: Any) -> None:
    """An encoder that is right about the first so many of 200 images, by layer."""
    target = np.arange(200) % 10
    layers = {layer: knn_layer(np.arange(200) < n, target) for layer, n in right.items()}
    weights = f"{sum(name.encode()):064x}"
    store(root, layers, model__name=name, model__weights_sha256=weights, dataset__name=dataset,
          **changes)  # fmt: skip


def retrieval_layer(ap: NDArray[np.float64]) -> tuple[dict[str, float], Items]:
    """As tasks/retrieval.py stores a layer, Medium only; NaN for queries without positives."""
    return {"M/mAP": float(np.nanmean(ap))}, {"index": np.arange(len(ap)), "M/ap": ap}


def copydays_layer(position: NDArray[np.int64]) -> tuple[dict[str, float], Items]:
    """As tasks/copydays.py stores a layer, strong copies only."""
    metrics = {
        "strong/mAP@20": float(single_ap(position, top_k=20).mean()),
        "strong/mAP": float(single_ap(position).mean()),
        "strong/muAP": 0.5,
    }
    return metrics, {"strong/position": position}


def davis_layer(
    objects: list[str], j: NDArray[np.float64], f: NDArray[np.float64]
) -> tuple[dict[str, float], Items]:
    """As tasks/davis.py stores a layer; recalls and decays made up, those of F without items."""
    recall, decay = j**0.5, j - f
    metrics = {
        "J&F-Mean": float((j.mean() + f.mean()) / 2),
        "J-Mean": float(j.mean()),
        "F-Mean": float(f.mean()),
        "J-Recall": float(recall.mean()),
        "J-Decay": float(decay.mean()),
        "F-Recall": 1.0,
    }
    items = {"object": np.array(objects), "J": j, "F": f, "J-Recall": recall, "J-Decay": decay}
    return metrics, items


KNN: dict[str, Any] = {}
PETS: dict[str, Any] = {"headline": "k20/mean_per_class", "dataset__name": "pets"}
RETRIEVAL: dict[str, Any] = {
    "task": "retrieval",
    "protocol__id": "retrieval/dino",
    "headline": "M/mAP",
    "dataset__name": "roxford5k",
    "dataset__splits": {"queries": 70, "database": 4993},
}
COPYDAYS: dict[str, Any] = {
    "task": "copydays",
    "protocol__id": "copydays/dino",
    "headline": "strong/mAP@20",
    "dataset__name": "copydays no-distractors no-whitening",
    "dataset__splits": {"queries": 229, "database": 157},
}
DAVIS: dict[str, Any] = {
    "task": "davis",
    "protocol__id": "davis/dino",
    "headline": "J&F-Mean",
    "dataset__name": "davis",
    "dataset__splits": {"val": 1999},
}
