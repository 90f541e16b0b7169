"""A small results folder without randomness: a pair of models and a third one that lacks a benchmark."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stored_results import COPYDAYS, DAVIS, RETRIEVAL, copydays_layer, davis_layer, knn_layer, store

N = 400
TARGET = np.arange(N) % 10
MODELS: dict[str, dict[str, Any]] = {
    "mocov3_vit_s16": {"model__weights_sha256": "a" * 64, "model__arch": "vit_small_p16"},
    "sd_mocov3_vit_s16": {"model__weights_sha256": "b" * 64, "model__arch": "vit_small_p16"},
    "dino": {"model__weights_sha256": "c" * 64, "model__arch": "vit_small_patch16"},
}
BONUS = {"mocov3_vit_s16": 0.0, "sd_mocov3_vit_s16": 0.06, "dino": 0.07}
LAST_LAYER = {1: 0.3, 2: 0.55, 3: 0.5}


def spread(n: int, step: int) -> NDArray[np.float64]:
    """n levels in (0, 1) in a scattered order; step and n have no common divisor."""
    return (np.arange(n) * step % n + 0.5) / n


def results(root: Path) -> Path:
    """Write the records; returns the folder."""
    level = spread(N, 149)
    for name, model in MODELS.items():
        common = {"model__name": name, **model}
        bonus = BONUS[name]
        correct = {layer: level < p + bonus for layer, p in LAST_LAYER.items()}
        knn = {layer: knn_layer(one, TARGET) for layer, one in correct.items()}
        store(root, knn, dataset__name="imagenet", **common)
        logreg = {}
        for layer, one in correct.items():
            metrics = {"top1": float(one.mean()), "val/top1": 0.6 - 0.1 * layer}
            logreg[layer] = (metrics, {"index": np.arange(N), "target": TARGET, "correct": one})
        store(root, logreg, task="linear", protocol__id="linear/logreg", headline="top1", **common)
        medium, hard = spread(70, 37) ** (1.5 - bonus), spread(70, 31) ** (4 - 10 * bonus)
        retrieval = (
            {"M/mAP": float(medium.mean()), "H/mAP": float(hard.mean())},
            {"index": np.arange(70), "M/ap": medium, "H/ap": hard},
        )
        store(root, {3: retrieval}, **RETRIEVAL, **common)
        if name == "dino":
            continue
        position = (np.arange(229) * 50 % 229 * spread(229, 7) * (0.5 - bonus)).astype(np.int64)
        copies = {layer: copydays_layer(position // layer) for layer in (1, 2)}
        store(root, {**copies, 3: copydays_layer(position)}, **COPYDAYS, **common)
        objects = [f"video{s}_{k}" for s in range(30) for k in range(1, 2 + s % 3)]
        j = 0.4 + 0.4 * spread(len(objects), 7)
        # J is best at layer 3, J&F at layer 2.
        shifts = {1: (0.01, -0.02), 2: (0.02, -0.01), 3: (0.03, -0.05)}
        video = {
            layer: davis_layer(objects, j + up, j + down + bonus / 5)
            for layer, (up, down) in shifts.items()
        }
        store(root, video, **DAVIS, **common)
    return root
