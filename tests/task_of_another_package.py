"""A task as another package would have it: nearest class mean, with an option and an artifact of its own.

Nearest class mean of frozen features.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from sdssl_bench.datasets.classification import ClassificationTask
from sdssl_bench.parameters import Argument, FileScores
from sdssl_bench.task import LayerScores, Option, RunContext, Trial


def score_files(
    answers: Annotated[Path, Argument("A line per image: class, answer.", "FILE")],
    worth: Annotated[int, Argument("Of a right answer.", panel="Protocol", least=1)] = 1,
    strictly: Annotated[bool, Argument("Empty answers are wrong.", panel="Protocol")] = False,
) -> FileScores:
    """Share of right answers.

    sdssl-bench score class-mean answers.txt
    """
    pairs = [line.split(",") for line in answers.read_text().split()]
    right = [worth for asked, given in pairs if asked == given or not (given or strictly)]
    return FileScores({"top1": sum(right) / len(pairs)}, [], ["These are made up."])


@dataclass(frozen=True)
class Task(ClassificationTask):
    """Nearest class mean."""

    name: ClassVar[str] = "class-mean"
    title: ClassVar[str] = "nearest class mean"
    version: ClassVar[int] = 1
    options: ClassVar[tuple[Option, ...]] = (
        Option("first-classes", "parameter", "Classes that count.", ("classes",)),
        Option("means", "artifact", "The means, a file per layer."),
    )
    trial: ClassVar[Trial] = Trial(changes={"classes": "9"}, datasets=("pets",))
    score_files = score_files
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"plain": {}}

    protocol: str = "plain"
    classes: int = 10
    """How many classes count."""

    def resolve(self, encoder: Any, data: Any, ctx: RunContext) -> dict[str, Any]:
        return {}

    def headline(self, data: Any) -> str:
        return "top1"

    def run(
        self, encoder: Any, data: Any, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[LayerScores]:
        import numpy as np

        from sdssl_bench.datasets.transforms import preprocess
        from sdssl_bench.features.extraction import extract

        steps = preprocess("A", encoder.input_size)
        train, test = (
            extract(encoder, split, layers, poolings=("cls",), preprocess=steps, ctx=ctx)
            for split in (data.train, data.test)
        )
        for layer in layers:
            features, targets = train.features(layer, "cls"), train.targets
            means = np.stack([features[targets == c].mean(0) for c in range(self.classes)])
            if "means" in ctx.artifacts:
                np.save(ctx.artifacts["means"] / f"layer{layer:02d}.npy", means)
            correct = (test.features(layer, "cls") @ means.T).argmax(1) == test.targets
            items = {"correct": correct, "target": test.targets, "index": test.indices}
            yield LayerScores(layer, {"top1": float(correct.mean())}, len(correct), items)

    def tables(self, record: Mapping[str, Any], path: Path) -> Iterable[str]:
        yield f"a table of {self.name}"
