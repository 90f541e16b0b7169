"""What leaving an encoder early costs and gives: from a record's layer curve, and from a stopwatch.

The SDSSL paper's Figure 3 shows such curves; a probe on layer l classifies without computing the layers
above it, so the encoder can stop there.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdssl_bench.errors import DataError
from sdssl_bench.records import best_layer

if TYPE_CHECKING:
    from sdssl_bench.encoders import Encoder

POINT = 0.01
"""One percentage point, as a fraction."""
ROUNDING = 1e-9
"""So that a layer exactly one point below the last counts as within one point."""


@dataclass(frozen=True)
class ExitReport:
    """The layer curve of one record in numbers.

    Attributes:
        metric: what the curve shows.
        curve: layer -> value, a fraction, every layer 1..L.
        best: layer with the highest value, the lowest of equals. Chosen on test.
        best_on_validation: the same by the validation scores, None where the record has none.
        area: mean height of the curve between layer 1 and L by the trapezoid rule, a fraction.
        within: how far below the last layer counts as equal, a fraction.
        earliest: the lowest layer not more than `within` below the last.
    """

    metric: str
    curve: Mapping[int, float]
    best: int
    best_on_validation: int | None
    area: float
    within: float
    earliest: int

    @property
    def last(self) -> int:
        """L."""
        return max(self.curve)


def exit_report(record: Mapping[str, Any], *, within: float = POINT) -> ExitReport:
    """Read the layer curve of a record that holds all layers.

    Args:
        record: see results/README.md.
        within: difference to the last layer that counts as none, a fraction.

    Raises:
        DataError: if a layer is missing.
    """
    headline, depth = record["headline"], int(record["model"]["depth"])
    stored = {int(layer): entry["metrics"] for layer, entry in record["layers"].items()}
    missing = [layer for layer in range(1, depth + 1) if layer not in stored]
    if missing:
        raise DataError(
            f"The layer curve needs all {depth} layers, {record['protocol']['id']} on "
            f"{record['dataset']['name']} lacks {', '.join(map(str, missing))}. Run it with --all-layers."
        )
    curve = {layer: float(stored[layer][headline]) for layer in range(1, depth + 1)}
    validation = f"val/{headline}"
    validated = all(validation in metrics for metrics in stored.values())
    best = best_layer(record, headline)
    assert best is not None
    return ExitReport(
        metric=headline,
        curve=curve,
        best=best,
        best_on_validation=best_layer(record, validation) if validated else None,
        area=area(list(curve.values())),
        within=within,
        earliest=next(n for n, v in curve.items() if v >= curve[depth] - within - ROUNDING),
    )


def area(values: Sequence[float]) -> float:
    """Area under a curve of equally spaced values, divided by its length: its mean height.

    >>> area([0.0, 1.0, 1.0])
    0.75
    """
    if len(values) == 1:
        return values[0]
    return (sum(values) - 0.5 * (values[0] + values[-1])) / (len(values) - 1)


def throughput(
    encoder: "Encoder",
    *,
    device: str,
    batch_size: int,
    dtype: str = "float32",
    repeats: int = 5,
) -> dict[int, float]:
    """Images per second of the encoder cut after each layer, class token only; median of repeats.

    Args:
        encoder: whose layers are measured, at its own input size.
        device: torch device string.
        batch_size: images per pass.
        dtype: autocast type of the pass.
        repeats: passes per layer, after one that is not counted. Layers take turns, so that what
            disturbs the machine for a while does not fall on one of them.
    """
    import torch

    from sdssl_bench.features import DTYPES

    where = torch.device(device)
    cut = {n: encoder.truncate(n).to(where).eval() for n in range(1, encoder.depth + 1)}
    images = torch.zeros(batch_size, 3, encoder.input_size, encoder.input_size, device=where)
    seconds: dict[int, list[float]] = {layer: [] for layer in cut}
    reduced = dtype != "float32"
    for turn in range(repeats + 1):
        for layer, model in cut.items():
            with (
                torch.inference_mode(),
                torch.autocast(
                    where.type, dtype=DTYPES[dtype] if reduced else None, enabled=reduced
                ),
            ):
                _wait(where)
                started = time.perf_counter()
                model(images)
                _wait(where)
            if turn:
                seconds[layer].append(time.perf_counter() - started)
    return {layer: batch_size / statistics.median(times) for layer, times in seconds.items()}


def _wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
