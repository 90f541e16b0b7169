"""Tables on the terminal: what each sequence contributes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdssl_bench.results import read_items
from sdssl_bench.rounding import percent
from sdssl_bench.tables import record_title

if TYPE_CHECKING:
    from rich.table import Table


def sequence_table(record: Mapping[str, Any], path: Path) -> "Table":
    """J, F and J&F of each sequence at the last stored layer, and J&F at the best one.

    Args:
        record: of the task davis.
        path: of the record; per-object scores lie beside it.

    Raises:
        DataError: if the per-object scores are not there.
    """
    from rich.table import Table

    headline = record["headline"]
    layers = {int(layer): entry["metrics"][headline] for layer, entry in record["layers"].items()}
    last, best = max(layers), max(layers, key=lambda layer: layers[layer])
    table = Table(title=record_title(record), title_justify="left", header_style="bold")
    table.add_column("sequence")
    table.add_column("objects", justify="right")
    for name in (f"layer {last} (last) J&F", "J", "F", f"layer {best} (best) J&F"):
        table.add_column(name, justify="right")
    of_last, of_best = (_by_sequence(path, layer) for layer in (last, best))
    for name, (count, j, f) in of_last.items():
        _, best_j, best_f = of_best[name]
        cells = map(percent, ((j + f) / 2, j, f, (best_j + best_f) / 2))
        table.add_row(name, str(count), *cells)
    return table


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
