"""Copy detection on INRIA Copydays (Douze et al. 2009; protocol of DINO), layer by layer.

Feature: [CLS] and GeM (p = 4) of the patch tokens, side by side, whitened. Every copy is a query, the
originals and distractors are the database. AP is the trapezoid's over a list of 20 (mAP@20) and over the
whole ranking (mAP); micro-AP (muAP) ranks the lists of all queries of a block together. The headline is
the block "strong".

    sdssl-bench run --task copydays --ckpt dino_vitb8.pth --all-layers --distractors DIR --whitening DIR

DINO ViT-B/8, layer 12, 10,000 YFCC distractors, 20,000 YFCC images for whitening: 85.8. Nobody published
which images; a row without distractors or whitening says so in its dataset's name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sdssl_bench.datasets import sets_of
from sdssl_bench.errors import TaskError, UsageError, did_you_mean
from sdssl_bench.parameters import Argument, Backend, FileScores, check_side
from sdssl_bench.system import Work
from sdssl_bench.task import DatasetInfo, LayerScores, Option, RunContext, Trial
from sdssl_bench.task import Task as Contract

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sdssl_bench.datasets import CopydaysData, ImageSet, Preprocess
    from sdssl_bench.encoders import Encoder
    from sdssl_bench.features import FeatureBank

FEATURES = {"cls+gem": ("cls", "gem"), "cls": ("cls",), "gem": ("gem",), "mean": ("mean",)}


@dataclass(frozen=True, eq=False)
class Inputs:
    """The copies, and what a folder was given for."""

    data: CopydaysData
    distractors: ImageSet | None
    whitening: ImageSet | None


def score_files(
    features: Annotated[
        Path, Argument("npz with original, strong, ..., distractors, whitening, *_names.", "FILE")
    ],
    whitening: Annotated[str, Argument("dino or centred.", panel="Protocol")] = "dino",
    top_k: Annotated[int, Argument("Length of each list.", panel="Protocol", least=1)] = 20,
    backend: Backend = "auto",
) -> FileScores:
    """Copy-detection mAP (first 20, whole ranking) and micro-AP per block, for every layer.

    sdssl-bench score copydays f.npz --json
    """
    from sdssl_bench.retrieval import precision_table, score_copydays

    scores = score_copydays(features, preset=whitening, top_k=top_k, backend=backend)
    one = scores.get("layers", [scores])[0]
    title = f"Copydays, {one['distractors']:,} distractors, whitening {one['whitening']}"
    return FileScores(scores, [precision_table(scores, title, first="block")])


@dataclass(frozen=True)
class Task(Contract):
    """The copy-detection protocol; every field is a parameter of `--set`."""

    name: ClassVar[str] = "copydays"
    title: ClassVar[str] = "copy detection"
    version: ClassVar[int] = 1
    datasets: ClassVar[tuple[str, ...]] = sets_of("copies")
    default_datasets: ClassVar[tuple[str, ...]] = ("copydays",)
    options: ClassVar[tuple[Option, ...]] = (
        Option("imsize", "parameter", "Pixels."),
        Option("pool", "parameter", "Feature."),
        Option("distractors", "input", "Distractor images."),
        Option("whitening", "input", "Images to learn whitening from."),
        Option("gallery", "artifact", "Pictures of the worst queries."),
    )
    trial: ClassVar[Trial] = Trial(changes={"imsize": "64"})
    score_files = score_files
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "dino": {},
        "centred": {"whitening": "centred"},
        "sdssl-code": {"imsize": 224},
    }
    pitfalls: ClassVar[tuple[str, ...]] = (
        "The 10,000 distractors and 20,000 whitening images of DINO were never named "
        "(dino#106): digests of yours are recorded, and only rows with the same ones "
        "compare.",
        "A copy found second counts 1/4, third 1/6 (trapezoids): below the usual 1/2 and 1/3.",
        "Whitening need not help: SSCD has strong mAP 88.4 without and 86.6 with it.",
    )
    elsewhere: ClassVar[tuple[str, ...]] = (
        "DINO's script counts files by position, so one that is missing shifts every later "
        "block, and skips a missing distractor folder silently.",
        "DINO centres the features and not their second moment; MultiGrain and scikit-learn "
        "centre both (protocol centred).",
        "The SDSSL authors' n runs over the last n blocks: their layer is 13 - n. They "
        "squash to 224 pixels.",
        "SSCD keeps the aspect (short side 288), takes 100 neighbours and reports micro-AP.",
    )

    protocol: str = "dino"
    imsize: int = 320
    """Side in pixels that images are squashed to, rounded down to whole patches; DINO."""
    pool: str = "cls+gem"
    """Feature of an image: cls+gem (DINO), cls, gem or mean; GeM has p = 4."""
    whitening: str = "dino"
    """Learnt from --whitening: dino (un-centred second moment) or centred (covariance)."""
    floor: float = 1e-5
    """Smallest eigenvalue of the whitening relative to the largest; DINO."""
    num_whitening: int = 20_000
    """Images taken from --whitening at most; DINO."""
    num_distractors: int = 10_000
    """Images taken from --distractors at most; DINO."""
    top_k: int = 20
    """Length of each query's list; DINO."""
    curve: tuple[int, ...] = (0, 100, 1_000, 10_000)
    """Numbers of distractors at which mAP is reported too, when there are distractors."""

    def __post_init__(self) -> None:
        from sdssl_bench.retrieval import PRESETS

        if self.pool not in FEATURES:
            raise UsageError(did_you_mean("pooling", self.pool, FEATURES))
        if self.whitening not in PRESETS:
            raise UsageError(did_you_mean("whitening", self.whitening, PRESETS))
        if min(self.imsize, self.num_distractors, self.top_k) < 1 or self.num_whitening < 2:
            raise UsageError("imsize, num_distractors and top_k are at least 1, num_whitening 2.")
        check_side("--imsize", self.imsize)
        if min(self.curve, default=0) < 0 or not 0 < self.floor < 1:
            raise UsageError("curve takes numbers of images, floor a fraction between 0 and 1.")

    def load_data(self, name: str, ctx: RunContext) -> Inputs:
        """The copies, verified; distractors and whitening images if folders were given."""
        from sdssl_bench.datasets import copydays, load_extra

        data = copydays.load(name, data_root=ctx.data_root, allow_partial=ctx.allow_partial)
        if ctx.limit is not None:
            data = copydays.limited(data, ctx.limit)
        apart: list[ImageSet] = [data.images]
        extra: dict[str, ImageSet | None] = {"distractors": None, "whitening": None}
        counts = {"distractors": self.num_distractors, "whitening": self.num_whitening}
        for kind, count in counts.items():
            if kind not in ctx.inputs:
                continue
            most = count if ctx.limit is None else min(count, max(2, ctx.limit))
            found = load_extra(kind, ctx.inputs[kind], most, seed=ctx.seed, apart_from=apart)
            extra[kind] = found
            apart.append(found)
        return Inputs(data, **extra)

    def describe_data(self, data: Inputs) -> DatasetInfo:
        """Identity of copies, distractors and whitening images; the name says what is lacking."""
        from sdssl_bench.datasets import describe_extra
        from sdssl_bench.records import digest

        base, distractors, whitening = data.data, data.distractors, data.whitening
        splits = {"queries": len(base.images), "database": len(base.rows["original"])}
        details: dict[str, Any] = {
            **base.notes,
            "blocks": {block: len(rows) for block, rows in base.rows.items()},
        }
        asked = (self.num_distractors, self.num_whitening)
        prints = [base.fingerprint]
        for images, count in zip((distractors, whitening), asked, strict=True):
            if images is not None:
                splits[images.split] = len(images)
                details[images.split] = describe_extra(images, count)
                prints.append(f"{images.split} {images.fingerprint}")
        name = f"{base.name} {len(distractors) if distractors else 'no'}-distractors " + (
            f"whitened-{len(whitening)}" if whitening else "no-whitening"
        )
        return DatasetInfo(name, base.variant, digest(prints), splits, details)

    def resolve(self, encoder: Encoder, data: Inputs, ctx: RunContext) -> dict[str, Any]:
        """The images in pixels for this encoder, and what was done without."""
        return {
            "transform": self._steps(encoder).describe(),
            "whitening": self.whitening if data.whitening else "none",
            "distractors": len(data.distractors) if data.distractors else 0,
            "gem_p": 4,
        }

    def headline(self, data: Inputs) -> str:
        """Mean AP of the strong copies over the lists of 20."""
        return f"strong/mAP@{self.top_k}"

    def _steps(self, encoder: Encoder) -> Preprocess:
        from sdssl_bench.datasets import preprocess

        side = self.imsize // encoder.stride * encoder.stride
        if side < 1:
            raise UsageError(f"imsize {self.imsize} is below one patch of {encoder.stride} pixels.")
        return preprocess("D", side)

    def run(
        self, encoder: Encoder, data: Inputs, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[LayerScores]:
        """Scores of each layer from one pass over all images."""
        from sdssl_bench.features import extract, skipped_images
        from sdssl_bench.retrieval import CopyFeatures, gallery, readable, score_copies
        from sdssl_bench.system import is_main_process, resolve_device

        banks: dict[str, FeatureBank] = self._sets(extract, encoder, data, layers, ctx)
        if not is_main_process():
            return
        seconds = {
            f"{name}/{phase}": value
            for name, bank in banks.items()
            for phase, value in bank.seconds.items()
        }
        kept = readable(data.data, banks["copies"].indices)
        for layer in layers:
            started = time.perf_counter()
            vectors = {name: self._vectors(bank, layer) for name, bank in banks.items()}
            scores = score_copies(
                CopyFeatures(
                    originals=vectors["copies"][kept.rows["original"]],
                    queries={b: vectors["copies"][rows] for b, rows in kept.rows.items()},
                    targets=kept.targets,
                    distractors=vectors.get("distractors"),
                    whitening=vectors.get("whitening"),
                ),
                preset=self.whitening,
                floor=self.floor,
                top_k=self.top_k,
                curve=self.curve,
                backend=ctx.backend,
                device=resolve_device(ctx.device),
            )
            if self.headline(data) not in scores.metrics:
                raise TaskError("Copydays: there is no strong copy to score among the files.")
            if "gallery" in ctx.artifacts:
                gallery.write_worst_copies(
                    ctx.artifacts["gallery"] / f"layer{layer:02d}",
                    scores,
                    kept,
                    images=data.data.images,
                    distractors=data.distractors,
                    banks=banks,
                )
            seconds["score"] = time.perf_counter() - started
            yield LayerScores(
                layer=layer,
                metrics=scores.metrics,
                n=len(kept.rows["strong"]),
                items={
                    **{f"{b}/position": found for b, found in scores.positions.items()},
                    **{f"{b}/index": banks["copies"].indices[r] for b, r in kept.rows.items()},
                },
                seconds=seconds,
                notes={
                    **({} if scores.num_floored is None else {"floored": scores.num_floored}),
                    **skipped_images(banks),
                },
            )
            seconds = {}

    def work(
        self, encoder: Encoder, data: Inputs, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[Work]:
        """A pass over each set; ranking is not estimated."""
        from sdssl_bench.features import extract_work

        yield from self._sets(extract_work, encoder, data, layers, ctx).values()
        yield Work("whitening and ranking", len(layers), "layers", None)

    def _sets(self, do: Callable[..., Any], *run: Any) -> dict[str, Any]:
        """`do` with each set of images: as `features.extract`."""
        encoder, data, layers, ctx = run
        names = ("copies", "distractors", "whitening")
        sets = zip(names, (data.data.images, data.distractors, data.whitening), strict=True)
        # The limit is applied to the set already: copies and originals have to agree.
        common = {"poolings": FEATURES[self.pool], "ctx": replace(ctx, limit=None)}
        common["preprocess"] = self._steps(encoder)
        found = [(name, images) for name, images in sets if images is not None]
        return {name: do(encoder, images, layers, **common) for name, images in found}

    def _vectors(self, bank: FeatureBank, layer: int) -> NDArray[np.float32]:
        """[N, D or 2 D] of one layer."""
        import numpy as np

        parts = [bank.features(layer, pooling) for pooling in FEATURES[self.pool]]
        return np.concatenate(parts, axis=1, dtype=np.float32)
