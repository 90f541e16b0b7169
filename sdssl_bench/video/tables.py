"""Tables on the terminal: what each sequence and each object contributes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdssl_bench.records import read_items
from sdssl_bench.rounding import percent
from sdssl_bench.system import Column, FittedTable
from sdssl_bench.video.summary import SequenceScores, per_object, summarise


def sequence_table(record: Mapping[str, Any], path: Path) -> FittedTable:
    """J, F and J&F of each sequence at the last stored layer, and J&F at the best one.

    Args:
        record: of video object segmentation.
        path: of the record; per-object scores lie beside it.

    Raises:
        DataError: if the per-object scores are not there.
    """
    headline = record["headline"]
    layers = {int(layer): entry["metrics"][headline] for layer, entry in record["layers"].items()}
    last, best = max(layers), max(layers, key=lambda layer: layers[layer])
    columns = [
        Column("sequence", shorten=True),
        Column("objects", drop=1),
        *map(Column, (f"layer {last} J&F", "J", "F")),
        *([Column(f"layer {best} (best) J&F")] if best != last else []),
    ]
    of_last, of_best = (_by_sequence(path, layer) for layer in (last, best))
    rows = []
    for name, (count, j, f) in of_last.items():
        _, best_j, best_f = of_best[name]
        cells = [(j + f) / 2, j, f, *([(best_j + best_f) / 2] if best != last else [])]
        rows.append([name, count, *map(percent, cells)])
    return FittedTable(columns, rows)


def _by_sequence(path: Path, layer: int) -> dict[str, tuple[int, float, float]]:
    """Sequence -> (objects, mean J, mean F)."""
    items = read_items(path, layer)
    names = np.array([name.rpartition("_")[0] for name in items["object"]])
    return {
        name: (
            int((names == name).sum()),
            float(items["J"][names == name].mean()),
            float(items["F"][names == name].mean()),
        )
        for name in dict.fromkeys(names.tolist())
    }


def object_tables(sequences: Sequence[SequenceScores]) -> list[FittedTable]:
    """J, F and J&F of the objects, and below them the seven numbers of the whole."""
    columns = [Column("object", shorten=True), *map(Column, ("J", "F", "J&F"))]
    rows = [
        [name, *map(percent, (one["J"], one["F"], (one["J"] + one["F"]) / 2))]
        for name, one in per_object(sequences).items()
    ]
    count = sum(len(one.objects) for one in sequences)
    return [
        FittedTable(columns, rows, title="DAVIS objects"),
        FittedTable(
            [Column("score", left=True), Column("x100")],
            [[name, percent(value)] for name, value in summarise(sequences).items()],
            title=f"{len(sequences)} sequences, {count} objects",
        ),
    ]
