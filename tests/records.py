"""Miniature result records for tests of what reads and writes them."""

from pathlib import Path
from typing import Any

import numpy as np

from sdssl_bench.records.identity import Record, record_key
from sdssl_bench.records.store import ResultStore

ENVIRONMENT = {
    "sdssl_bench": "0.1.0",
    "python": "3.11.7",
    "packages": {"torch": "2.14.1"},
    "faiss": "1.15.1",
    "git": None,
    "platform": "Linux-x86_64",
    "device": "cpu",
    "processes": 1,
}


def head(**changes: Any) -> Record:
    """A record without layers; nested fields are changed as model__name="x"."""
    record: Record = {
        "schema_version": 1,
        "task": "knn",
        "protocol": {
            "id": "knn/dino",
            "version": 1,
            "parameters": {"k": [10, 20]},
            "digest": "0" * 16,
            "resolved": {},
        },
        "dataset": {
            "name": "cifar10",
            "variant": "official",
            "fingerprint": "f" * 64,
            "splits": {"train": 50000, "test": 10000},
            "details": {},
        },
        "model": {
            "name": "dino",
            "uri": "dino.pth",
            "format": "dino",
            "network": "teacher",
            "arch": "vit_small_patch16",
            "weights_sha256": "a" * 64,
            "file_sha256": None,
            "pretrained": True,
            "details": {},
            "norm": "shared",
            "depth": 3,
        },
        "headline": "k20/top1",
        "limited": None,
        "settings": {
            "dtype": "float32",
            "bank_dtype": "float32",
            "seed": 0,
            "on_bad_image": "error",
        },
    }
    for path, value in changes.items():
        target = record
        *parents, last = path.split("__")
        for parent in parents:
            target = target[parent]
        target[last] = value
    return {**record, "key": record_key(record)}


def entry(value: float, **changes: Any) -> dict[str, Any]:
    """One layer's scores with k20/top1 = value."""
    return {
        "metrics": {"k20/top1": value, "k20/top5": min(1.0, 2 * value)},
        "n": 10000,
        "notes": {},
        "items": ["index", "k20/correct"],
        "seconds": {"search": 0.5},
        "scored_at": "2026-01-02T03:04:05+00:00",
        **changes,
    }


def add(store: ResultStore, layer: int, value: float = 0.5, **changes: object) -> dict:
    items = {"index": np.arange(5), "k20/correct": np.arange(5) % 2 == layer % 2}
    return store.add_layer(
        head(**{"model__depth": 400, **changes}),
        layer,
        entry=entry(value),
        environment=ENVIRONMENT,
        items=items,
    )


def write_many(root: str, layers: list[int]) -> None:
    for layer in layers:
        add(ResultStore(Path(root)), layer, layer / 100)
