"""Statistics of J and F over frames and objects, and the two CSV files of the DAVIS benchmark.

Per object over its frames: mean, recall (share of frames above 0.5) and decay (first quarter minus
last quarter). Global numbers are means over objects, not over sequences. J&F-Mean is the mean of
J-Mean and F-Mean (DAVIS-2017, semi-supervised).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets import count_objects
from sdssl_bench.metrics import as_array, score_frame
from sdssl_bench.system import write_atomic

GLOBAL = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
"""The seven global numbers, in the order of the official table."""

RECALL_THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class SequenceScores:
    """J and F of one sequence.

    Attributes:
        name: of the sequence.
        values: [2, K, T] J, then F, of objects 1..K in the T evaluated frames.
    """

    name: str
    values: NDArray[np.float64]

    @property
    def objects(self) -> list[str]:
        """Names of the objects, "bike-packing_1" and so on."""
        return [f"{self.name}_{k}" for k in range(1, self.values.shape[1] + 1)]


def score_sequence(
    predictions: Any, annotations: Any, *, num_objects: int | None = None, name: str = "sequence"
) -> SequenceScores:
    """J and F of one sequence by the benchmark's rules: the first and the last frame do not count.

    Args:
        predictions: [T, H, W] object ids, numpy or torch; those of frames 0 and T-1 are not looked at.
        annotations: [T, H, W] object ids; 255 is background.
        num_objects: K; None takes the largest id of the first annotation.
        name: for the names of the objects.

    Raises:
        ValueError: for fewer than three frames, different shapes, no object, or an id above K.
    """
    found, truth = as_array(predictions), as_array(annotations)
    if found.shape != truth.shape or found.ndim != 3 or len(found) < 3:
        raise ValueError(
            f"expected two stacks [T >= 3, H, W] of one shape, found {found.shape}, {truth.shape}"
        )
    objects = count_objects(truth[0]) if num_objects is None else num_objects
    if objects < 1:
        raise ValueError("expected an object in the first annotation, found background only")
    frames = [score_frame(found[t], truth[t], objects) for t in range(1, len(found) - 1)]
    return SequenceScores(name, np.stack(frames, axis=-1))


def statistics(series: Any) -> tuple[float, float, float]:
    """(mean, recall, decay) of one object's J or F over its n >= 1 frames, [n].

    Quarters end at the rounded positions of linspace(1, n, 5) and share their edges: a frame on an
    edge belongs to both. (The public toolkit keeps edges in 8 bits, which differs above 256 frames.)

    >>> [round(x, 4) for x in statistics([0.9, 0.8, 0.6, 0.4])]
    [0.675, 0.75, 0.35]
    """
    values = np.asarray(series, dtype=np.float64)
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    return (
        float(values.mean()),
        float((values > RECALL_THRESHOLD).mean()),
        float(first.mean() - last.mean()),
    )


def summarise(sequences: Sequence[SequenceScores]) -> dict[str, float]:
    """The seven global numbers: means over all objects of all sequences.

    Raises:
        ValueError: if there is no object.
    """
    numbers = {name: float(values.mean()) for name, values in object_statistics(sequences).items()}
    return {"J&F-Mean": (numbers["J-Mean"] + numbers["F-Mean"]) / 2, **numbers}


def object_statistics(sequences: Sequence[SequenceScores]) -> dict[str, NDArray[np.float64]]:
    """Mean, recall and decay of J and F of every object, [K] each, by the names of `GLOBAL`.

    Raises:
        ValueError: if there is no object.
    """
    objects = [values for one in sequences for values in one.values.transpose(1, 0, 2)]
    if not objects:
        raise ValueError("expected at least one object, found none")
    table = np.array([[*statistics(j), *statistics(f)] for j, f in objects])
    return dict(zip(GLOBAL[1:], table.T.copy(), strict=True))


def per_object(sequences: Sequence[SequenceScores]) -> dict[str, dict[str, float]]:
    """{"bike-packing_1": {"J": mean, "F": mean}, ...} in the order of the sequences."""
    return {
        name: {"J": float(j), "F": float(f)}
        for one in sequences
        for name, (j, f) in zip(one.objects, one.values.mean(axis=-1).T)
    }


def csv_files(sequences: Sequence[SequenceScores], *, split: str = "val") -> Mapping[str, str]:
    """The two official files, name -> text, with the official headers and three decimals."""
    total = summarise(sequences)
    rows = [f"{name},{s['J']:.3f},{s['F']:.3f}" for name, s in per_object(sequences).items()]
    return {
        f"global_results-{split}.csv": "\n".join(
            [",".join(GLOBAL), ",".join(f"{total[name]:.3f}" for name in GLOBAL), ""]
        ),
        f"per-sequence_results-{split}.csv": "\n".join(["Sequence,J-Mean,F-Mean", *rows, ""]),
    }


def write_csv(folder: Path, sequences: Sequence[SequenceScores]) -> None:
    """Write the two official files; those of an earlier run are replaced, never read."""
    for name, text in csv_files(sequences).items():
        write_atomic(folder / name, text.encode())
