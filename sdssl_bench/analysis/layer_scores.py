"""From feature banks to what a record holds of a layer."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.analysis import cka, embedding, rank, uniformity
from sdssl_bench.analysis.layer_similarity import CkaRow
from sdssl_bench.analysis.samples import Sample
from sdssl_bench.errors import TaskError
from sdssl_bench.features import FeatureBank
from sdssl_bench.task import LayerScores


@dataclass(frozen=True, eq=False)
class Banks:
    """Features of one encoder.

    Attributes:
        sample: the images.
        plain: of the sample as it is, every layer.
        further: of the images of the maps that are not in the sample.
        views: of the two views of the sample.
        pooling: which feature.
    """

    sample: Sample
    plain: FeatureBank
    further: FeatureBank | None
    views: tuple[FeatureBank, FeatureBank]
    pooling: str

    def __post_init__(self) -> None:
        for view in self.views:
            _same_rows(self.plain.indices, self.sample.rows[view.indices])

    @property
    def rows(self) -> NDArray[np.int64]:
        """[n] rows of the test split that could be read."""
        return self.plain.indices

    def all_layers(self) -> dict[int, NDArray[Any]]:
        """Layer -> features [n, D] of the sample."""
        return {layer: self.plain.features(layer, self.pooling) for layer in self.plain.layers}

    def mapped(self, layer: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Rows of the test split and features of the images of the maps."""
        rows, features = self.rows, self.plain.features(layer, self.pooling)
        wanted = np.flatnonzero(np.isin(rows, self.sample.mapped))
        rows, features = rows[wanted], np.asarray(features[wanted])
        if self.further is not None:
            rows = np.concatenate([rows, self.further.indices])
            further = self.further.features(layer, self.pooling)
            features = np.concatenate([features, further])
        order = np.argsort(rows)
        return rows[order], features[order]

    def seconds(self) -> dict[str, float]:
        """Time of the passes, by phase."""
        named = {"images": self.plain, "view1": self.views[0], "view2": self.views[1]}
        if self.further is not None:
            named["maps"] = self.further
        return {
            f"{name}/{phase}": spent
            for name, bank in named.items()
            for phase, spent in bank.seconds.items()
        }

    def skipped(self) -> dict[str, Any]:
        """What `--on-bad-image skip` left out, for the record; empty if nothing."""
        named = {"sample": self.plain, "maps": self.further}
        found = {name: bank.bad_images for name, bank in named.items() if bank and bank.bad_images}
        return {name: {"count": len(bad), "first": bad[:20]} for name, bad in found.items()}


@dataclass(frozen=True)
class Settings:
    """How a layer is analysed; see the task's parameters."""

    normalise: bool
    gamma: float
    t: float
    perplexity: float
    components: int
    iterations: int
    neighbours: int
    seed: int


def same_images(first: FeatureBank, second: FeatureBank) -> None:
    """Proves that two banks of one sample hold the same images.

    Raises:
        TaskError: if an image could be read for one of them only.
    """
    _same_rows(first.indices, second.indices)


def _same_rows(first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
    if not np.array_equal(first, second):
        raise TaskError(
            f"Features of the same images are needed, found {len(first):,} and "
            f"{len(second):,} of them that could be read, or not the same ones. Are files "
            "changing? Run again."
        )


def score(layer: int, banks: Banks, settings: Settings, *, row: CkaRow, maps: bool) -> LayerScores:
    """Everything about one layer."""
    found = _Found()
    plain = banks.plain.features(layer, banks.pooling)
    targets = banks.sample.source.test.targets
    found.items["index"] = banks.rows
    found.items["target"] = targets[banks.rows]
    found.timed("pairs", lambda: _pairs(found, layer, banks, settings))
    found.timed("rank", lambda: _rank(found, plain))
    if maps:
        found.timed("tsne", lambda: _map(found, layer, banks, settings))
    found.metrics |= row.metrics()
    found.errors |= row.errors()
    found.undefined |= row.undefined()
    skipped = banks.skipped()
    return LayerScores(
        layer=layer,
        metrics=found.metrics,
        n=len(plain),
        items=found.items,
        seconds=found.seconds,
        notes={
            "standard_errors": found.errors,
            **({"tsne": found.tsne} if found.tsne else {}),
            **({"undefined": found.undefined} if found.undefined else {}),
            **({"skipped_images": skipped} if skipped else {}),
        },
    )


@dataclass(eq=False)
class _Found:
    """What is known of a layer so far."""

    metrics: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)
    items: dict[str, NDArray[Any]] = field(default_factory=dict)
    tsne: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, phase: str, work: Callable[[], None]) -> None:
        started = time.perf_counter()
        work()
        self.seconds[phase] = time.perf_counter() - started


def _pairs(found: _Found, layer: int, banks: Banks, settings: Settings) -> None:
    views = [view.features(layer, banks.pooling) for view in banks.views]
    if settings.normalise:
        try:
            views = [uniformity.unit(view) for view in views]
        except ValueError as error:
            raise TaskError(
                f"Layer {layer}: {error}. An image has a feature of zeros alone; "
                "--set normalise=false takes the features as they are."
            ) from error
    scores = uniformity.pair_scores(views[0], views[1], gamma=settings.gamma, t=settings.t)
    found.metrics |= scores.metrics
    found.errors |= scores.standard_errors
    found.undefined |= scores.undefined
    found.items |= {name: values.astype(np.float32) for name, values in scores.items.items()}


def _rank(found: _Found, features: NDArray[Any]) -> None:
    values = rank.singular_values(features)
    centred = rank.singular_values(features, centred=True)
    found.items |= {"singular_values": values, "centred_singular_values": centred}
    if values[0] > 0:
        found.metrics["rankme"] = rank.rankme(values)
    else:
        found.undefined["rankme"] = "the features are zero"
    if centred[0] > cka.ROUNDING * values[0]:
        found.metrics["effective_rank"] = rank.effective_rank(centred)
    else:
        found.undefined["effective_rank"] = "the features are constant"


def _map(found: _Found, layer: int, banks: Banks, settings: Settings) -> None:
    rows, features = banks.mapped(layer)
    targets = banks.sample.source.test.targets[rows]
    names = ("silhouette", "tsne/silhouette", "tsne/purity", "tsne/divergence")
    if len(rows) < embedding.MIN_IMAGES or not 2 <= len(np.unique(targets)) < len(rows):
        found.undefined |= dict.fromkeys(names, "the maps have too few images or classes")
        return
    if not cka.centred(features).any():
        found.undefined |= dict.fromkeys(names, "the features are constant")
        return
    perplexity = embedding.fitting_perplexity(settings.perplexity, len(rows))
    made = embedding.tsne_map(
        features,
        perplexity=perplexity,
        components=settings.components,
        iterations=settings.iterations,
        seed=settings.seed,
    )
    k = min(settings.neighbours, len(rows) - 1)
    found.metrics |= {
        "silhouette": embedding.silhouette(features, targets, metric="cosine"),
        "tsne/silhouette": embedding.silhouette(made.points, targets, metric="euclidean"),
        "tsne/purity": embedding.purity(made.points, targets, k=k),
        "tsne/divergence": made.divergence,
    }
    found.tsne = {"images": len(rows), "perplexity": perplexity, "neighbours": k}
    found.items |= {"tsne/index": rows, "tsne/target": targets, "tsne/points": made.points}
