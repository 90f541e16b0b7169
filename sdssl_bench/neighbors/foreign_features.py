"""The suite's metrics on features that were made elsewhere, from npz files.

    sdssl-bench score knn --train train.npz --test test.npz --json

A file holds `features` [N, D] or [L, N, D] and `labels` [N], whole numbers or text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import DataError, TaskError, UsageError
from sdssl_bench.metrics import mean_per_class
from sdssl_bench.neighbors.exact import top_k
from sdssl_bench.neighbors.vote import weighted_knn_vote
from sdssl_bench.system import read_arrays

KS = (10, 20, 100, 200)
"""Numbers of neighbours of DINO's eval_knn.py."""


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """What an npz file holds.

    Attributes:
        path: where it came from, for errors.
        layers: [L, N, D] float; L = 1 for a file without a layer dimension.
        labels: [N] int64 from 0, or text.
        has_layers: whether the file has a layer dimension.
    """

    path: Path
    layers: NDArray[np.floating[Any]]
    labels: NDArray[np.int64] | NDArray[np.str_]
    has_layers: bool


def score_knn(
    train: str | PathLike[str],
    test: str | PathLike[str],
    *,
    ks: Sequence[int] | None = None,
    temperature: float = 0.07,
    backend: str = "auto",
    device: str = "auto",
) -> dict[str, Any]:
    """Weighted k-NN accuracy of stored features, for every k and layer (protocol: tasks/knn.py).

    Labels are whole numbers, which need not be contiguous, or text. A test label that the training
    file lacks counts as wrong, and mean_per_class is over the labels of the test file.

    Args:
        train: npz with `features` and `labels`.
        test: npz with features of the same width and number of layers.
        ks: numbers of neighbours, all from one search. None: those of 10, 20, 100 and 200 that the
            training file has items for.
        temperature: scale of the weights exp(cosine / temperature).
        backend: see `neighbors.top_k`.
        device: likewise.

    Returns:
        {"k": {"20": {"top1", "top5", "mean_per_class"}, ...}, "n": number of test items}; with a
        layer dimension {"layers": [{"layer": 1, "k": ..., "n": ...}, ...]}. Values are fractions.

    Raises:
        UsageError: for impossible k or temperature.
        DataError: if a file is missing, no npz, or does not hold what it should.
        TaskError: for features that are not finite, zero, or all the same.
    """
    asked = list(dict.fromkeys(KS if ks is None else ks))
    if not asked or min(asked) < 1:
        raise UsageError(f"k must be positive numbers such as 10,20, found: {asked or 'none'}.")
    if not (np.isfinite(temperature) and temperature > 0):
        raise UsageError(f"The temperature must be positive, found {temperature}.")
    bank, queries = load_features(train), load_features(test)
    if bank.has_layers != queries.has_layers or bank.layers.shape[::2] != queries.layers.shape[::2]:
        raise DataError(
            f"Train and test features must agree in layers and width: {bank.path} has "
            f"{_form(bank)}, {queries.path} has {_form(queries)}."
        )
    if bank.labels.dtype.kind != queries.labels.dtype.kind:
        raise DataError(
            f"Train and test labels must be of one kind: {bank.path} has {_kind(bank.labels)}, "
            f"{queries.path} has {_kind(queries.labels)}."
        )
    known = len(bank.labels)
    fitting = [k for k in asked if k <= known]
    if not fitting or (ks is not None and len(fitting) < len(asked)):
        raise UsageError(
            f"k = {max(asked)} needs as many training items, {bank.path} has {known}. "
            f"Choose smaller k, e.g. --k {min(20, known)}."
        )
    scores = [
        _score_layer(
            layer, bank, queries, ks=fitting, temperature=temperature, search=(backend, device)
        )
        for layer in range(len(bank.layers))
    ]
    if not bank.has_layers:
        return scores[0]
    return {"layers": [{"layer": i + 1, **entry} for i, entry in enumerate(scores)]}


def load_features(path: str | PathLike[str]) -> LabelledFeatures:
    """Features and labels of an npz file, proven to be usable.

    Raises:
        DataError: says what is wrong with the file.
        TaskError: for features that are not finite, zero, or all the same.
    """
    path = Path(path)
    names = ("features", "labels")
    arrays = read_arrays(path, names.__contains__, needed=names)
    features, labels = arrays["features"], arrays["labels"]
    if features.ndim not in (2, 3) or 0 in features.shape:
        raise DataError(
            f"{path}: features must be [N, D] or [L, N, D] and not empty, found shape "
            f"{list(features.shape)}."
        )
    if not np.issubdtype(features.dtype, np.floating):
        if not np.issubdtype(features.dtype, np.integer):
            raise DataError(f"{path}: features must be real numbers, found {features.dtype}.")
        features = features.astype(np.float64)
    if labels.shape != (features.shape[-2],):
        raise DataError(
            f"{path}: labels must be [N] with one per feature row, N = {features.shape[-2]}; found "
            f"shape {list(labels.shape)}."
        )
    has_layers = features.ndim == 3
    layers = features if has_layers else features[None]
    for number, layer in enumerate(layers, start=1):
        _check_features(layer, path, number if has_layers else None)
    return LabelledFeatures(path, layers, _labels(labels, path), has_layers)


def _labels(labels: NDArray[Any], path: Path) -> NDArray[np.int64] | NDArray[np.str_]:
    if labels.dtype.kind == "S":
        return np.char.decode(labels, "utf-8", "surrogateescape")
    if labels.dtype.kind == "U":
        return labels
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{path}: labels must be whole numbers or text, found {labels.dtype}.")
    if labels.min() < 0 or labels.max() > np.iinfo(np.int64).max:
        row = int(np.argmin(labels)) if labels.min() < 0 else int(np.argmax(labels))
        raise DataError(
            f"{path}: labels must be class ids from 0, found {labels[row]} in row {row}."
        )
    return labels.astype(np.int64)


def _kind(labels: NDArray[Any]) -> str:
    return "text" if labels.dtype.kind == "U" else "whole numbers"


def _check_features(features: NDArray[Any], path: Path, layer: int | None) -> None:
    """Cosine needs a direction in every row, and neighbours need rows that differ."""
    where = "" if layer is None else f" of layer {layer}"
    for fault, rows in (
        ("finite, found NaN or infinity", ~np.isfinite(features).all(axis=1)),
        ("different from zero, which has no direction, found zeros", ~features.any(axis=1)),
    ):
        bad = np.flatnonzero(rows)
        if len(bad):
            more = f" and {len(bad) - 1} more rows" if len(bad) > 1 else ""
            raise TaskError(f"{path}: features must be {fault} in row {bad[0]}{where}{more}.")
    if len(features) > 1 and (features == features[0]).all():
        raise TaskError(
            f"{path}: features must differ between images, found all {len(features):,} rows{where} "
            "the same: did the encoder see one image, or collapse?"
        )


def _form(file: LabelledFeatures) -> str:
    layers, _, width = file.layers.shape
    return f"[{layers}, N, {width}]" if file.has_layers else f"[N, {width}]"


def _score_layer(
    layer: int,
    bank: LabelledFeatures,
    queries: LabelledFeatures,
    *,
    ks: Sequence[int],
    temperature: float,
    search: tuple[str, str],
) -> dict[str, Any]:
    classes, targets = np.unique(bank.labels, return_inverse=True)
    known = np.isin(queries.labels, classes)
    similarity, neighbors = top_k(
        queries.layers[layer], bank.layers[layer], k=max(ks), backend=search[0], device=search[1]
    )
    ranks = weighted_knn_vote(
        similarity,
        targets[neighbors],
        np.where(known, np.searchsorted(classes, queries.labels), 0),
        ks=ks,
        temperature=temperature,
        num_classes=len(classes),
    )
    test_classes, test_targets = np.unique(queries.labels, return_inverse=True)
    scores = {}
    for k, rank in ranks.items():
        correct = known & (rank == 0)
        scores[str(k)] = {
            "top1": float(correct.mean()),
            "top5": float((known & (rank < min(5, k))).mean()),
            "mean_per_class": mean_per_class(correct, test_targets, num_classes=len(test_classes)),
        }
    return {"k": scores, "n": len(queries.labels)}
