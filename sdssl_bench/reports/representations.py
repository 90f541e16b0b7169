"""CKA matrices and t-SNE maps out of the records of the tasks `analysis` and `cka`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sdssl_bench.analysis import LAYER_METRIC
from sdssl_bench.records import Record, Stored, plain, read_items

GRID = 1000
"""Positions of a map's points along its longer side."""


def matrices(
    records: Sequence[Stored], encoders: Mapping[str, int], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """One per record that holds CKA between layers.

    Args:
        records: with their paths.
        encoders: key of a record -> place of its encoder.
        labels: of the encoders.

    Returns:
        "rows" and "columns" are layers; "values" [rows][columns], null where it is not defined;
        "against" names the other encoder, or is null within one.
    """
    found = []
    who = {_identity(one["model"]): labels[encoders[one["key"]]] for _, one in records}
    for _, record in records:
        layers = sorted(map(int, record["layers"]))
        entries = [record["layers"][str(layer)] for layer in layers]
        names = sorted(
            {m for entry in entries for m in entry["metrics"] if m.startswith(LAYER_METRIC)}
        )
        if not names:
            continue
        found.append(
            {
                "key": record["key"],
                "encoder": encoders[record["key"]],
                "against": _other(record, who, entries[-1]["notes"]),
                "dataset": _dataset(record),
                "estimator": record["protocol"]["resolved"].get("cka", {}).get("estimator"),
                "n": entries[-1]["n"],
                "rows": layers,
                "columns": [int(name.removeprefix(LAYER_METRIC)) for name in names],
                "values": [
                    [_rounded(entry["metrics"].get(name)) for name in names] for entry in entries
                ],
            }
        )
    return found


def maps(records: Sequence[Stored], encoders: Mapping[str, int]) -> list[dict[str, Any]]:
    """One per record that holds t-SNE maps; arguments as for `matrices`.

    Returns:
        "panels" has the layers; "points" are [x0, y0, x1, y1, ...] in 0..GRID of one class each, in the
        order of "classes".
    """
    found = []
    for path, record in records:
        panels, numbers = [], set()
        for layer in sorted(map(int, record["layers"])):
            entry = record["layers"][str(layer)]
            if "tsne/points" not in entry["items"]:
                continue
            items = read_items(path, layer)
            points, targets = items["tsne/points"], items["tsne/target"]
            numbers |= set(targets.tolist())
            panels.append((layer, entry, points, targets))
        if not panels:
            continue
        classes = sorted(numbers)
        names = record["dataset"]["details"].get("map_classes", {})
        found.append(
            {
                "key": record["key"],
                "encoder": encoders[record["key"]],
                "dataset": _dataset(record),
                "perplexity": panels[-1][1]["notes"].get("tsne", {}).get("perplexity"),
                "classes": [
                    plain(str(names.get(str(number), f"class {number}"))) for number in classes
                ],
                "panels": [
                    {
                        "layer": layer,
                        "n": len(points),
                        "silhouette": _rounded(entry["metrics"].get("tsne/silhouette")),
                        "purity": _rounded(entry["metrics"].get("tsne/purity")),
                        "points": [
                            _placed(points)[targets == number].reshape(-1).tolist()
                            for number in classes
                        ],
                    }
                    for layer, entry, points, targets in panels
                ],
            }
        )
    return found


def _other(
    record: Record, who: Mapping[tuple[str, ...], str], notes: Mapping[str, Any]
) -> str | None:
    """The encoder of the columns as the report calls it; None where it is that of the rows."""
    model = record["protocol"]["resolved"].get("against")
    if model is None:
        return None
    return who.get(_identity(model), plain(str(notes.get("against", "another encoder"))))


def _identity(model: Mapping[str, Any]) -> tuple[str, ...]:
    whole = (model["weights_sha256"], model["network"], model["norm"], model["arch"])
    return (*whole, model.get("point", "block"))


def _placed(points: Any) -> Any:
    """[n, 2] whole numbers in 0..GRID, the proportions kept, the smaller side centred."""
    low, high = points.min(axis=0), points.max(axis=0)
    side = float((high - low).max()) or 1.0
    return np.rint(((points - (low + high) / 2) / side + 0.5) * GRID).astype(int)


def _dataset(record: Record) -> str:
    data = record["dataset"]
    name = plain(data["name"])
    return f"{name} ({data['variant']})" if data["variant"] != "official" else name


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
