"""The classes of a segmentation on the terminal."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.metrics import class_iou
from sdssl_bench.records import read_items
from sdssl_bench.rounding import percent
from sdssl_bench.system import Column, FittedTable

SHOWN_CLASSES = 24
"""Of more classes the lower and the upper half of this number are shown."""


def choice_table(record: Mapping[str, Any]) -> Iterator[FittedTable]:
    """What was chosen on held-out training images, layer by layer, if anything was."""
    rows = [
        [str(layer), str(one["k"]), one["distance"], percent(max(notes["held_out_mIoU"].values()))]
        for layer, notes in ((layer, entry["notes"]) for layer, entry in record["layers"].items())
        if (one := notes.get("chosen"))
    ]
    if rows:
        names = ("layer", "chosen k", "distance", "held-out mIoU")
        yield FittedTable(
            [Column(name) for name in names], sorted(rows, key=lambda row: int(row[0]))
        )


def class_table(record: Mapping[str, Any], path: Path) -> FittedTable:
    """IoU of each class that occurs, at the last stored and at the best layer, by rising IoU of the last.

    Args:
        record: of a segmentation.
        path: of the record; the counts lie beside it.

    Raises:
        DataError: if the counts are not there.
    """
    headline, names = record["headline"], record["dataset"]["details"]["class_names"]
    layers = {int(layer): entry["metrics"][headline] for layer, entry in record["layers"].items()}
    last, best = max(layers), max(layers, key=lambda layer: layers[layer])
    counts: dict[int, NDArray[Any]] = {
        layer: read_items(path, layer)["counts"] for layer in {last, best}
    }
    iou = {layer: class_iou(found) for layer, found in counts.items()}
    pixels = counts[last][:, 0].sum(0)
    share = pixels / pixels.sum()
    order = [i for i in np.argsort(iou[last], kind="stable").tolist() if pixels[i]]
    if len(order) > SHOWN_CLASSES:
        order = [*order[: SHOWN_CLASSES // 2], *order[-SHOWN_CLASSES // 2 :]]
    columns = [
        Column("class", shorten=True),
        Column("% of pixels", drop=1),
        Column(f"layer {last} IoU"),
        *([Column(f"layer {best} (best) IoU")] if best != last else []),
    ]
    rows = [
        [
            names[i],
            percent(share[i]),
            *(percent(iou[layer][i]) for layer in dict.fromkeys((last, best))),
        ]
        for i in order
    ]
    return FittedTable(columns, rows)
