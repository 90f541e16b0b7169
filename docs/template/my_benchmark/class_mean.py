"""Nearest class mean of frozen features (Mensink et al. 2013).

A test image gets the class whose mean training feature has the highest cosine with its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sdssl_bench.datasets import ClassificationTask
from sdssl_bench.task import LayerScores, RunContext


@dataclass(frozen=True)
class Task(ClassificationTask):
    """Nearest class mean; every field is a parameter of `--set`."""

    name: ClassVar[str] = "class-mean"
    title: ClassVar[str] = "nearest class mean"
    version: ClassVar[int] = 1
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "plain": {},
        "patches": {"pooling": "mean"},
    }
    pitfalls: ClassVar[tuple[str, ...]] = (
        "A class of several looks has a mean that is like none.",
    )

    protocol: str = "plain"
    transform: str = "A"
    """Preprocessing A to E; A is DINO's."""
    pooling: str = "cls"
    """Feature of an image: cls, mean or gem."""

    def resolve(self, encoder: Any, data: Any, ctx: RunContext) -> dict[str, Any]:
        from sdssl_bench.datasets import preprocess

        return {"transform": preprocess(self.transform, encoder.input_size).describe()}

    def headline(self, data: Any) -> str:
        return "top1"

    def run(
        self, encoder: Any, data: Any, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[LayerScores]:
        import numpy as np

        from sdssl_bench.datasets import preprocess
        from sdssl_bench.features import extract

        steps = preprocess(self.transform, encoder.input_size)
        train, test = (
            extract(encoder, split, layers, poolings=(self.pooling,), preprocess=steps, ctx=ctx)
            for split in (data.train, data.test)
        )
        for layer in layers:
            features = train.features(layer, self.pooling)  # [N, D], unit length
            classes = range(data.train.num_classes)
            means = np.stack([features[train.targets == c].mean(0) for c in classes])
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            correct = (test.features(layer, self.pooling) @ means.T).argmax(1) == test.targets
            items = {"correct": correct, "target": test.targets, "index": test.indices}
            yield LayerScores(layer, {"top1": float(correct.mean())}, len(correct), items)
