"""CKA of every layer of one encoder with every layer of another, on the same images.

    sdssl-bench run --task cka --dataset imagenet --ckpt x --against y --all-layers

The images, their order and the estimator are those of the task `analysis`, whose cached features both
encoders use; each sees the images in its own size. Between the layers of one encoder: task `analysis`.
These numbers describe and do not rank; no leaderboard view shows them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sdssl_bench import datasets as classification
from sdssl_bench.errors import TaskError, UsageError, did_you_mean
from sdssl_bench.system import Work
from sdssl_bench.task import DatasetInfo, LayerScores, Option, RunContext
from sdssl_bench.task import Task as Contract

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sdssl_bench.analysis import LayerSimilarity, Sample
    from sdssl_bench.encoders import Encoder
    from sdssl_bench.features import FeatureBank


@dataclass(frozen=True)
class Task(Contract):
    """CKA between two encoders; every field is a parameter of `--set`."""

    name: ClassVar[str] = "cka"
    title: ClassVar[str] = "CKA of the layers of two encoders"
    version: ClassVar[int] = 1
    ranked: ClassVar[bool] = False
    datasets: ClassVar[tuple[str, ...]] = classification.sets_of("classification")
    folder_has: ClassVar[str] = "train"
    options: ClassVar[tuple[Option, ...]] = (
        Option("against", "encoder", "Second checkpoint, as --ckpt.", required=True),
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "house": {},
        "biased": {"estimator": "biased"},
    }
    pitfalls: ClassVar[tuple[str, ...]] = (
        "Layers are compared under one --norm; another norm moves every value.",
        "With few images biased CKA is far too high, and the unbiased may fall below 0.",
    )
    elsewhere: ClassVar[tuple[str, ...]] = (
        "torch_cka can give nan (PyTorch-Model-Compare#2, #4, #6, #10): estimated from a batch, a "
        "denominator may be negative. Here numerators and denominators are averaged apart.",
        "The SDSSL paper states neither estimator nor images.",
    )

    protocol: str = "house"
    num_images: int = 5000
    """Test images, drawn with --seed; this suite."""
    transform: str = "A"
    """Preprocessing A to E."""
    pooling: str = "cls"
    """Feature of an image: cls, mean or gem over the layer's tokens."""
    estimator: str = "unbiased"
    """unbiased (batches), or biased (all images at once; Kornblith et al. 2019)."""
    batch: int = 256
    """Images per batch of the unbiased estimator, at most; this suite."""

    def __post_init__(self) -> None:
        from sdssl_bench.analysis import layer_similarity, samples
        from sdssl_bench.encoders import POOLINGS

        if self.pooling not in POOLINGS:
            raise UsageError(did_you_mean("pooling", self.pooling, POOLINGS))
        layer_similarity.check_estimator(self.estimator, self.batch)
        if self.num_images < samples.MIN_IMAGES:
            raise UsageError(f"num_images is at least {samples.MIN_IMAGES}: {self.num_images}.")

    def load_data(self, name: str, ctx: RunContext) -> Sample:
        """The sample of the test split."""
        from sdssl_bench.analysis import samples

        return samples.draw(
            classification.load_for(name, ctx),
            num_images=self.num_images,
            seed=ctx.seed,
            limit=ctx.limit,
        )

    def describe_data(self, data: Sample) -> DatasetInfo:
        """Identity of the images used."""
        from sdssl_bench.analysis import samples

        return samples.describe_sample(data)

    def resolve(self, encoder: Encoder, data: Sample, ctx: RunContext) -> dict[str, Any]:
        """Pixels and batches, and who the other encoder is.

        Raises:
            UsageError: if there is none.
        """
        from sdssl_bench.analysis import layer_similarity
        from sdssl_bench.datasets import preprocess
        from sdssl_bench.records import model_identity
        from sdssl_bench.runner import model_entry

        other = _other(ctx)
        assert other.info is not None
        return {
            "transform": preprocess(self.transform, encoder.input_size).describe(),
            "against": model_identity(model_entry(other, other.info)),
            "against_transform": preprocess(self.transform, other.input_size).describe(),
            "cka": layer_similarity.describe_estimator(self.estimator, len(data.rows), self.batch),
        }

    def headline(self, data: Sample) -> str:
        """CKA with the most similar layer of the other encoder."""
        return "most_similar"

    def run(
        self, encoder: Encoder, data: Sample, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[LayerScores]:
        """Each layer from one pass of each encoder over the images."""
        from sdssl_bench.analysis import layer_scores, layer_similarity
        from sdssl_bench.features import extract
        from sdssl_bench.system import is_main_process

        other = _other(ctx)
        assert other.info is not None
        banks: list[FeatureBank] = self._both(extract, encoder, data, ctx)
        if not is_main_process():
            return
        layer_scores.same_images(*banks)
        seconds = {
            f"{name}/{phase}": spent
            for name, bank in zip(("images", "against"), banks, strict=True)
            for phase, spent in bank.seconds.items()
        }
        started = time.perf_counter()
        first, second = (
            {layer: bank.features(layer, self.pooling) for layer in bank.layers} for bank in banks
        )
        found = layer_similarity.similarity(
            first, second, estimator=self.estimator, batch=self.batch, seed=ctx.seed
        )
        seconds["cka"] = time.perf_counter() - started
        for layer in layers:
            yield replace(self._score(layer, found, banks, other.title), seconds=seconds)
            seconds = {}

    def work(
        self, encoder: Encoder, data: Sample, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[Work]:
        """A pass of each encoder; the similarities are not estimated."""
        from sdssl_bench.features import extract_work

        yield from self._both(extract_work, encoder, data, ctx)
        yield Work("similarities", len(layers), "layers", None)

    def _both(
        self, do: Callable[..., Any], encoder: Encoder, data: Sample, ctx: RunContext
    ) -> list[Any]:
        """`do` with each encoder: as `features.extract`."""
        from sdssl_bench.datasets import preprocess

        return [
            do(
                one,
                data.source.test,
                range(1, one.depth + 1),
                poolings=(self.pooling,),
                preprocess=preprocess(self.transform, one.input_size),
                ctx=ctx,
                rows=data.rows,
            )
            for one in (encoder, _other(ctx))
        ]

    def _score(
        self,
        layer: int,
        found: LayerSimilarity,
        banks: Sequence[FeatureBank],
        other: str,
    ) -> LayerScores:
        from sdssl_bench.analysis import LAYER_METRIC
        from sdssl_bench.features import skipped_images

        row = found.row(layer)
        undefined, metrics = row.undefined(), row.metrics()
        notes: dict[str, Any] = {"against": other, "standard_errors": row.errors()}
        if not metrics:
            raise TaskError(f"Layer {layer} has constant features, so CKA says nothing of it.")
        best = max(metrics, key=lambda name: metrics[name])
        notes["most_similar_layer"] = int(best.removeprefix(LAYER_METRIC))
        metrics = {"most_similar": metrics[best], **metrics}
        if undefined:
            notes["undefined"] = undefined
        notes |= skipped_images({"sample": banks[0]})
        return LayerScores(layer=layer, metrics=metrics, n=len(banks[0].indices), notes=notes)

    def tables(self, record: Mapping[str, Any], path: Path) -> Iterator[RenderableType]:
        """The matrix."""
        from sdssl_bench.reports import similarity_table

        yield similarity_table(record, title=f"linear CKA ({self.estimator}); columns: --against")


def _other(ctx: RunContext) -> Encoder:
    if ctx.against is None:
        raise UsageError("Task cka compares two encoders: give the second one with --against.")
    return ctx.against
