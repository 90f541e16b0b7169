"""Instance retrieval on revisited Oxford and Paris (Radenovic et al. 2018), layer by layer.

Every database image is ranked by cosine for each of 70 queries. Easy, Medium and Hard take the easy, all,
or hard images as positives; junk, and what a protocol does not count, is deleted from the ranking. AP is
the trapezoid's; mP@k never looks past the last positive; queries without positives are left out.

    sdssl-bench run --task retrieval --dataset roxford5k,rparis6k --ckpt dino_vits16.pth --all-layers

DINO's numbers use 224 pixels at one scale on Oxford and 512 at three on Paris, no query crop; the SDSSL
authors 512 at three on both, so their Oxford columns are not comparable. DINO ViT-S/16, layer 12:
Oxford M 41.8, H 13.7; Paris M 63.1, H 34.4.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sdssl_bench.datasets import sets_of
from sdssl_bench.errors import TaskError, UsageError, did_you_mean
from sdssl_bench.parameters import Argument, FileScores
from sdssl_bench.system import Work
from sdssl_bench.task import (
    DatasetInfo,
    LayerScores,
    Option,
    RunContext,
    Trial,
    limited_indices,
)
from sdssl_bench.task import Task as Contract

if TYPE_CHECKING:
    from sdssl_bench.datasets import ImageSet, RetrievalData
    from sdssl_bench.encoders import Encoder
    from sdssl_bench.features import FeatureBank, Geometry


@dataclass(frozen=True, eq=False)
class Inputs:
    """The set, and distractors if there are any."""

    data: RetrievalData
    distractors: ImageSet | None


SIZES = ("imsize_oxford", "imsize_paris")


def score_files(
    features: Annotated[
        Path, Argument("npz with queries [Q, D] and database [N, D], or [L, ., D].", "FILE")
    ],
    gnd: Annotated[Path, Argument("gnd_roxford5k.pkl, gnd_rparis6k.pkl, or JSON.", "FILE")],
) -> FileScores:
    """Easy, Medium and Hard mAP and mP@k on revisited Oxford/Paris, for every layer.

    sdssl-bench score retrieval f.npz gnd_roxford5k.pkl --json
    """
    from sdssl_bench.retrieval import precision_table, score_retrieval

    found = score_retrieval(features, gnd)
    return FileScores(found, [precision_table(found, "Revisited retrieval", first="protocol")])


@dataclass(frozen=True)
class Task(Contract):
    """The retrieval protocol; every field is a parameter of `--set`."""

    name: ClassVar[str] = "retrieval"
    title: ClassVar[str] = "instance retrieval"
    version: ClassVar[int] = 1
    datasets: ClassVar[tuple[str, ...]] = sets_of("retrieval")
    default_datasets: ClassVar[tuple[str, ...]] = ("roxford5k", "rparis6k")
    options: ClassVar[tuple[Option, ...]] = (
        Option("imsize", "parameter", "Pixels.", SIZES),
        Option("scales", "parameter", "Scales to average.", ("scales_oxford", "scales_paris")),
        Option("pool", "parameter", "Feature."),
        Option("query-crop", "parameter", "Crop queries to their landmark."),
        Option("distractors", "input", "Distractor images."),
        Option("gallery", "artifact", "Pictures of the worst queries."),
    )
    trial: ClassVar[Trial] = Trial(changes={"imsize_oxford": "96", "imsize_paris": "96"})
    score_files = score_files
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "dino": {},
        "sdssl-code": {
            "imsize_oxford": 512, "scales_oxford": (1.0, 0.7071067811865476, 0.5), "fit": "pad",
        },
        "revisitop": {
            "imsize_oxford": 1024, "imsize_paris": 1024, "query_crop": True,
            "scales_oxford": (1.0, 0.7071067811865476, 0.5),
            "pool": "gem", "gem_p": 3.0, "fit": "resize",
        },
    }  # fmt: skip
    pitfalls: ClassVar[tuple[str, ...]] = (
        "Pixels, scales and query crop move mAP by points, in either direction: OpenCLIP-G "
        "has 39.4 with cropped queries and 53 without (dinov2#44).",
        "The archives named -v1 have blurred faces; numbers before June 2022 are of the originals.",
        "AP by trapezoids is below the step-wise AP of scikit-learn and torchmetrics.",
        "70 queries: half a point is no difference before it is tested (compare).",
    )
    elsewhere: ClassVar[tuple[str, ...]] = (
        "DINO's Oxford is 224 pixels at one scale, its Paris 512 at three; that alone gives "
        "its table (dino#87, #90, #219).",
        "revisitop and VISSL crop the queries to their landmark, DINO and the SDSSL authors "
        "do not.",
        "mteb has the same images and reports map@5, another metric.",
        "DINO's script takes weights of its own where yours are missing, and says so in one line.",
    )

    protocol: str = "dino"
    imsize_oxford: int = 224
    """Longest side in pixels, never enlarged; DINO eval_image_retrieval.py for Oxford."""
    imsize_paris: int = 512
    """The same for Paris and any further set."""
    scales_oxford: tuple[float, ...] = (1.0,)
    """Factors of that size whose features are averaged; DINO: one scale on Oxford."""
    scales_paris: tuple[float, ...] = (1.0, 0.7071067811865476, 0.5)
    """The same for Paris and any further set; DINO: three."""
    query_crop: bool = False
    """Crop queries to their landmark before shrinking; revisitop does, DINO and SDSSL do not."""
    pool: str = "cls"
    """Feature of an image: cls, mean or gem over the layer's tokens."""
    gem_p: float = 3.0
    """Power of GeM; Radenovic et al. 2018."""
    fit: str = "crop"
    """What becomes of incomplete patches: crop (DINO), resize, or pad (SDSSL)."""
    num_distractors: int = 1_000_000
    """Images taken from --distractors at most."""
    curve: tuple[int, ...] = (0, 100, 1_000, 10_000, 100_000)
    """Numbers of distractors at which mAP is reported too, when there are distractors."""

    def __post_init__(self) -> None:
        from sdssl_bench.encoders import POOLINGS

        if self.pool not in POOLINGS:
            raise UsageError(did_you_mean("pooling", self.pool, POOLINGS))
        if self.num_distractors < 1 or min(self.curve, default=0) < 0 or not self.gem_p > 0:
            raise UsageError("num_distractors, curve and gem_p must be positive.")
        for name in self.datasets:
            self.geometry(name, 1)

    def geometry(self, dataset: str, patch: int) -> Geometry:
        """Sizes of the images of a dataset for an encoder."""
        from sdssl_bench.features import Geometry

        oxford = dataset == "roxford5k"
        return Geometry(
            self.imsize_oxford if oxford else self.imsize_paris,
            self.scales_oxford if oxford else self.scales_paris,
            self.fit,
            patch,
        )

    def load_data(self, name: str, ctx: RunContext) -> Inputs:
        """Queries, database and ground truth, verified; distractors if a folder was given."""
        from sdssl_bench.datasets import load_extra, roxford_rparis

        data = roxford_rparis.load(name, data_root=ctx.data_root, allow_partial=ctx.allow_partial)
        distractors = None
        if "distractors" in ctx.inputs:
            most = min(self.num_distractors, ctx.limit or self.num_distractors)
            distractors = load_extra(
                "distractors",
                ctx.inputs["distractors"],
                most,
                seed=ctx.seed,
                apart_from=(data.queries, data.database),
            )
        if ctx.limit is not None:
            data = roxford_rparis.limited(
                data,
                queries=limited_indices(len(data.queries), ctx.limit),
                database=limited_indices(len(data.database), ctx.limit),
            )
        return Inputs(data, distractors)

    def describe_data(self, data: Inputs) -> DatasetInfo:
        """Identity of the set and its distractors; rows of different distractors never mix."""
        from sdssl_bench.datasets import describe_extra, without_positives
        from sdssl_bench.records import digest

        base, extra = data.data, data.distractors
        splits = {"queries": len(base.queries), "database": len(base.database)}
        details = {
            **base.notes,
            "queries_without_positives": without_positives(base.truth),
        }
        if extra is None:
            return DatasetInfo(base.name, base.variant, base.fingerprint, splits, details)
        return DatasetInfo(
            f"{base.name} {len(extra)}-distractors",
            base.variant,
            digest([base.fingerprint, extra.fingerprint]),
            {**splits, "distractors": len(extra)},
            {**details, "distractors": describe_extra(extra, self.num_distractors)},
        )

    def resolve(self, encoder: Encoder, data: Inputs, ctx: RunContext) -> dict[str, Any]:
        """The images in pixels for this dataset and encoder."""
        geometry = self.geometry(data.data.name, encoder.stride)
        encoder.check_size(*geometry.usual())
        return {
            **geometry.describe(),
            "query_crop": self.query_crop,
            "pool": self.pool if self.pool != "gem" else f"gem p={self.gem_p:g}",
        }

    def headline(self, data: Inputs) -> str:
        """Mean AP under the Medium protocol."""
        return "M/mAP"

    def run(
        self, encoder: Encoder, data: Inputs, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[LayerScores]:
        """Scores of each layer from one pass over all images."""
        from sdssl_bench.features import extract_from, skipped_images
        from sdssl_bench.retrieval import gallery, score_layer
        from sdssl_bench.system import is_main_process, resolve_device

        base = data.data
        boxes = base.truth.boxes if self.query_crop else None
        banks: list[FeatureBank] = self._sets(extract_from, encoder, data, layers, ctx)
        queries, database = banks[:2]
        if not is_main_process():
            return
        truth = base.truth.restricted(queries=queries.indices, database=database.indices)
        named = dict(zip(("queries", "database", "distractors"), banks, strict=False))
        seconds = {
            f"{name}/{k}": v for name, bank in named.items() for k, v in bank.seconds.items()
        }
        for layer in layers:
            started = time.perf_counter()
            rows, *parts = (bank.features(layer, self.pool) for bank in banks)
            scores = score_layer(
                rows, parts, truth, curve=self.curve, device=resolve_device(ctx.device)
            )
            counted = scores.protocols[-1]["M"].num_queries
            if not counted:
                raise TaskError(
                    f"{base.name}: no query has a positive among the images that are there, so there "
                    "is nothing to score. Use more images (a larger --limit, a complete copy)."
                )
            seconds["search"] = time.perf_counter() - started
            if "gallery" in ctx.artifacts:
                gallery.write_worst_queries(
                    ctx.artifacts["gallery"] / f"layer{layer:02d}",
                    scores.protocols[-1]["M"].ap,
                    base.truth,
                    sets=[base.queries, base.database, data.distractors],
                    banks=banks,
                    features=(rows, parts),
                    boxes=boxes,
                    ctx=ctx,
                )
            yield LayerScores(
                layer=layer,
                metrics=scores.metrics(),
                n=counted,
                items={"index": queries.indices, **scores.items()},
                seconds=seconds,
                notes=skipped_images(named),
            )
            seconds = {}

    def work(
        self, encoder: Encoder, data: Inputs, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[Work]:
        """A pass over each set, then a ranking of all images in each layer."""
        from sdssl_bench.features import extract_from_work
        from sdssl_bench.retrieval import ranking_work

        yield from self._sets(extract_from_work, encoder, data, layers, ctx)
        widths = [encoder.dims[layer - 1] for layer in layers]
        extra = 0 if data.distractors is None else len(data.distractors)
        yield ranking_work(widths, data.data.truth, distractors=extra, curve=self.curve, ctx=ctx)

    def _sets(self, do: Callable[..., Any], *run: Any) -> list[Any]:
        """`do` with queries, database and distractors: as `features.extract_from`."""
        from sdssl_bench.features import ManySizes as source

        encoder, data, layers, ctx = run
        base, geometry = data.data, self.geometry(data.data.name, encoder.stride)
        boxes = base.truth.boxes if self.query_crop else None
        sets = ((base.queries, boxes), (base.database, None), (data.distractors, None))
        # The limit is applied to the set already: ground truth and images have to agree.
        common = {"poolings": (self.pool,), "ctx": replace(ctx, limit=None)}
        return [
            do(source(images, geometry, self.pool, self.gem_p, cut), encoder, layers, **common)
            for images, cut in sets
            if images is not None
        ]
