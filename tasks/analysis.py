"""What the representation of each layer is like: alignment, uniformity, CKA between layers, rank, t-SNE.

house  5,000 seeded test images, MoCo v3's two views of each for positive pairs, features of unit length for
       alignment and uniformity, gamma = t = 2; linear CKA by unbiased HSIC over random batches of 256.
raw    the same without normalising the features of the pairs.

The definitions are those of the SDSSL paper (eqs. 7 to 9) and of Wang and Isola (2020); it states neither
the normalisation nor how CKA and t-SNE were made. The official script took the first 1,000 images of the
validation folder, 20 classes, and one crop for 512 images at once: its numbers are not comparable.
These numbers describe and do not rank; no leaderboard view shows them.

    sdssl-bench run --task analysis --dataset imagenet --ckpt x --all-layers --panels panels/

Every layer's CKA row is against all layers, so a layer scored alone has the row it has among all. In the
first layer [CLS] is nearly constant: alignment is near 0 and the ratios explode; look at both parts. The
norm of intermediate layers moves everything here: run --norm none beside the default.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sdssl_bench import datasets as classification
from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.system import Work
from sdssl_bench.task import DatasetInfo, LayerScores, Option, RunContext, Trial
from sdssl_bench.task import Task as Contract

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sdssl_bench.analysis import Panel, Sample
    from sdssl_bench.encoders import Encoder


@dataclass(frozen=True)
class Task(Contract):
    """The analysis of representations; every field is a parameter of `--set`."""

    name: ClassVar[str] = "analysis"
    title: ClassVar[str] = "alignment, uniformity, CKA, rank and t-SNE of layers"
    version: ClassVar[int] = 1
    ranked: ClassVar[bool] = False
    datasets: ClassVar[tuple[str, ...]] = classification.sets_of("classification")
    folder_has: ClassVar[str] = "train"
    options: ClassVar[tuple[Option, ...]] = (
        Option("panels", "artifact", "t-SNE maps of the layers."),
    )
    trial: ClassVar[Trial] = Trial(datasets=("cifar10",))
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "house": {},
        # align_uniform's authors normalise; the SDSSL scripts do both and the paper does not say.
        "raw": {"normalise": False},
    }
    pitfalls: ClassVar[tuple[str, ...]] = (
        "Without unit length, alignment and uniformity follow the norm of the features and "
        "not their directions (align_uniform#2, #10).",
        "With few images biased CKA is far too high, and the unbiased may fall below 0.",
        "Alignment near 0 in the first layers is a nearly constant [CLS], not a good one.",
    )
    elsewhere: ClassVar[tuple[str, ...]] = (
        "The SDSSL authors take the first 1,000 validation images in folder order, 20 "
        "classes, and one crop for a whole batch.",
        "torch_cka can give nan (PyTorch-Model-Compare#2, #4, #6, #10): estimated from a batch, a "
        "denominator may be negative. Here it is an undefined value with its reason.",
        "A t-SNE map is no measurement: read purity and silhouette beside it.",
    )

    protocol: str = "house"
    num_images: int = 5000
    """Test images, drawn with --seed; as many as the estimators need, this suite."""
    transform: str = "A"
    """Preprocessing A to E of the images for CKA, rank and t-SNE."""
    pooling: str = "cls"
    """Feature of an image: cls, mean or gem over the layer's tokens."""
    views: str = "auto"
    """Positive pairs: mocov3, small (no blur), or auto: small up to 64 px."""
    normalise: bool = True
    """Features of the pairs to unit length; Wang and Isola."""
    gamma: float = 2.0
    """Exponent of the distances of pairs; the paper prints 2 and gamma, its code has 2."""
    t: float = 2.0
    """Scale of the uniformity's exponent; Wang and Isola."""
    cka: str = "unbiased"
    """Estimator: unbiased (batches), or biased (all images at once; Kornblith et al. 2019)."""
    cka_batch: int = 256
    """Images per batch of the unbiased estimator, at most; this suite."""
    tsne_classes: int = 10
    """Classes of the t-SNE maps, drawn with --seed; the paper. 0 makes no maps."""
    tsne_images: int = 500
    """Images of the maps at most; the paper."""
    perplexity: float = 30.0
    """Of t-SNE; lowered to a third of the points where there are fewer than 91."""
    components: int = 50
    """Principal components that t-SNE sees."""
    iterations: int = 1000
    """Of t-SNE's gradient descent."""
    neighbours: int = 10
    """Nearest points in a map that its purity counts."""

    def __post_init__(self) -> None:
        from sdssl_bench.analysis import layer_similarity, pairs, samples
        from sdssl_bench.encoders import POOLINGS

        if self.pooling not in POOLINGS:
            raise UsageError(did_you_mean("pooling", self.pooling, POOLINGS))
        if self.views not in pairs.KINDS:
            raise UsageError(did_you_mean("kind of views", self.views, pairs.KINDS))
        layer_similarity.check_estimator(self.cka, self.cka_batch)
        if self.num_images < samples.MIN_IMAGES:
            raise UsageError(f"num_images is at least {samples.MIN_IMAGES}: {self.num_images}.")
        if not (self.gamma > 0 and self.t > 0 and self.perplexity > 1):
            raise UsageError("gamma and t are positive, perplexity is above 1.")
        if self.tsne_classes < 0 or self.tsne_images < 2 * self.tsne_classes:
            raise UsageError("tsne_classes is from 0, tsne_images at least twice as many.")
        if min(self.components, self.neighbours) < 1 or self.iterations < 250:
            raise UsageError("components and neighbours are from 1, iterations from 250.")

    def load_data(self, name: str, ctx: RunContext) -> Sample:
        """The sample of the test split, and the images of the maps."""
        from sdssl_bench.analysis import samples

        return samples.draw(
            classification.load_for(name, ctx),
            num_images=self.num_images,
            seed=ctx.seed,
            map_classes=self.tsne_classes,
            map_images=self.tsne_images,
            limit=ctx.limit,
        )

    def describe_data(self, data: Sample) -> DatasetInfo:
        """Identity of the images used."""
        from sdssl_bench.analysis import samples

        return samples.describe_sample(data)

    def resolve(self, encoder: Encoder, data: Sample, ctx: RunContext) -> dict[str, Any]:
        """Pixels, views, batches and t-SNE's perplexity."""
        from sdssl_bench.analysis import layer_similarity, pairs
        from sdssl_bench.datasets import preprocess

        seen = pairs.views(self.views, size=encoder.input_size, seed=ctx.seed)
        return {
            "transform": preprocess(self.transform, encoder.input_size).describe(),
            "views": [view.describe() for view in seen],
            "cka": layer_similarity.describe_estimator(self.cka, len(data.rows), self.cka_batch),
        }

    def headline(self, data: Sample) -> str:
        """Uniformity, in nats: a description, not a score."""
        return "uniformity"

    def run(
        self, encoder: Encoder, data: Sample, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[LayerScores]:
        """Each layer from one pass over the images as they are and one over each view."""
        from sdssl_bench.analysis import Panel

        panels: list[Panel] = []
        for scores in self._layers(encoder, data, layers, ctx=ctx):
            if "panels" in ctx.artifacts and "tsne/points" in scores.items:
                panels.append(Panel(_title(scores), scores.items["tsne/points"]))
                targets = scores.items["tsne/target"]
                # Written again after every layer: a run that is killed leaves those it has.
                self._write(ctx.artifacts["panels"], panels, targets, encoder=encoder, data=data)
            yield scores

    def _layers(
        self, encoder: Encoder, data: Sample, layers: Sequence[int], *, ctx: RunContext
    ) -> Iterator[LayerScores]:
        from sdssl_bench.analysis import layer_scores, layer_similarity
        from sdssl_bench.features import extract
        from sdssl_bench.system import is_main_process

        plain, first, second, *rest = self._sets(extract, encoder, data, layers, ctx)
        further = rest[0] if rest else None
        if not is_main_process():
            return
        banks = layer_scores.Banks(data, plain, further, (first, second), self.pooling)
        seconds = banks.seconds()
        started = time.perf_counter()
        similarity = layer_similarity.similarity(
            banks.all_layers(),
            None,
            estimator=self.cka,
            batch=self.cka_batch,
            seed=ctx.seed,
        )
        seconds["cka"] = time.perf_counter() - started
        settings = layer_scores.Settings(
            normalise=self.normalise,
            gamma=self.gamma,
            t=self.t,
            perplexity=self.perplexity,
            components=self.components,
            iterations=self.iterations,
            neighbours=self.neighbours,
            seed=ctx.seed,
        )
        progress = ctx.progress
        if progress is not None:
            progress.start("analysis", len(layers), "layers")
        for layer in layers:
            scores = layer_scores.score(
                layer, banks, settings, row=similarity.row(layer), maps=self.tsne_classes > 0
            )
            if progress is not None:
                progress.advance()
            yield replace(scores, seconds={**seconds, **scores.seconds})
            seconds = {}
        if progress is not None:
            progress.finish()

    def work(
        self, encoder: Encoder, data: Sample, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[Work]:
        """All passes; what is computed of the features is not estimated."""
        from sdssl_bench.features import extract_work

        yield from self._sets(extract_work, encoder, data, layers, ctx)
        yield Work("similarities and maps", len(layers), "layers", None)

    def _sets(self, do: Callable[..., Any], *run: Any) -> list[Any]:
        """`do` with the images, their two views, and the images of the maps: as `features.extract`."""
        encoder, data, layers, ctx = run
        from sdssl_bench.analysis import pairs
        from sdssl_bench.datasets import preprocess

        steps = preprocess(self.transform, encoder.input_size)
        test, split = data.source.test, data.images.split
        passes: list[tuple[Any, Sequence[int], Any, Any]] = [
            (test, range(1, encoder.depth + 1), steps, data.rows)
        ]
        for view in pairs.views(self.views, size=encoder.input_size, seed=ctx.seed):
            named = pairs.NamedImages.of(data.images, split=f"{split} view {view.number}")
            passes.append((named, layers, view, None))
        if len(data.further):
            passes.append((test, layers, steps, data.further))
        whole = replace(ctx, limit=None)  # the sample is limited already
        return [
            do(
                encoder,
                images,
                wanted,
                poolings=(self.pooling,),
                preprocess=one,
                ctx=whole,
                rows=rows,
            )
            for images, wanted, one, rows in passes
        ]

    def _write(
        self,
        folder: Path,
        panels: Sequence[Panel],
        targets: Any,
        *,
        encoder: Encoder,
        data: Sample,
    ) -> None:
        from sdssl_bench.analysis import write_panels

        names = dict(enumerate(data.source.test.class_names))
        heading = f"{encoder.title} on {data.source.name}, t-SNE of {len(targets)} images"
        write_panels(folder / "tsne.png", panels, targets, names=names, heading=heading)

    def tables(self, record: Mapping[str, Any], path: Path) -> Iterator[RenderableType]:
        """CKA between the layers."""
        from sdssl_bench.reports import similarity_table

        yield similarity_table(record, title=f"linear CKA ({self.cka}) between layers")


def _title(scores: LayerScores) -> str:
    found = scores.metrics
    words = [f"layer {scores.layer}"]
    words += [f"{name} {found[f'tsne/{name}']:.2f}" for name in ("silhouette", "purity")]
    return "   ".join(words)
