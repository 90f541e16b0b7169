"""Semantic segmentation without training: each patch is labelled by its nearest labelled patches.

A bank holds patches of training images with the share of each class among their pixels. A patch of a test
image takes the mean of the shares of its k nearest, weighted by the softmax of cosine / temperature; the
votes are scaled up to pixels bilinearly, and the class with most votes wins (Balazevic et al. 2023, called
Hummingbird or dense nearest-neighbour retrieval; constants of open-hummingbird). Score: mIoU.

    sdssl-bench run --task segmentation --dataset voc2012 --ckpt dino_vits16.pth --all-layers

The protocol of capi (Darcet et al. 2025) differs in nearly every choice, and is a preset: --protocol capi.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sdssl_bench.datasets import sets_of
from sdssl_bench.errors import TaskError, UsageError
from sdssl_bench.parameters import check_side, recorded_parameters
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
    from rich.console import RenderableType

    from sdssl_bench.datasets import MaskData
    from sdssl_bench.dense import Candidate, DenseScorer, Settings
    from sdssl_bench.encoders import Encoder


@dataclass(frozen=True)
class Task(Contract):
    """The segmentation protocol; every field is a parameter of `--set`."""

    name: ClassVar[str] = "segmentation"
    title: ClassVar[str] = "k-NN segmentation of patches"
    version: ClassVar[int] = 1
    datasets: ClassVar[tuple[str, ...]] = sets_of("masks")
    folder_has: ClassVar[str] = "SegmentationClass"
    options: ClassVar[tuple[Option, ...]] = (
        Option("image-size", "parameter", "Side of the images in pixels."),
        Option("mask-size", "parameter", "Side of the masks in pixels, 0 as they are."),
        Option("bank", "parameter", "Patches of training images, at most; 0 is all."),
    )
    trial: ClassVar[Trial] = Trial(changes={"image_size": "96", "mask_size": "96"})
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "hummingbird-512": {},
        "hummingbird-224": {"image_size": 224, "mask_size": 224},
        "full-512": {"mask_size": 0},
        "capi": {
            "k": (1, 3, 10, 30),
            "distance": ("cosine", "euclidean"),
            "vote": "pixels",
            "standardise": True,
            "image_size": 224,
            "mask_size": 224,
            "bank": 0,
            "void": "vote",
            "absent": "zero",
        },
    }
    pitfalls: ClassVar[tuple[str, ...]] = (
        "The resolution of image and mask is part of the number, so it is in the protocol's name: "
        "papers report one encoder several points apart for that reason.",
        "Patches of 14 do not divide 512: the image is squashed to 504 pixels, the masks stay at "
        "512, so that encoders are scored on the same pixels.",
        "The size of the bank matters: on VOC DINOv2 ViT-S/14 is reported with 70.2, 74.9 and 77.0 "
        "at 102,400, 1,024,000 and 10,240,000 patches.",
        "mIoU averages over classes, whose pixels are summed over all images first. It is no mean "
        "over images; the interval is over images all the same.",
        "Train is VOC's own list of 1,464 images, where papers often take the 10,582 of trainaug.",
    )
    elsewhere: ClassVar[tuple[str, ...]] = (
        "open-hummingbird fills its bank from random crops with colour jitter, twice in its table, "
        "and by default searches approximately with ScaNN; here images are taken as they are, and "
        "the search is exact.",
        "It matches predicted to true classes by the Hungarian method before the mIoU, which can "
        "only raise it, drops the last incomplete batch of test images, normalises blue by 0.255 "
        "in place of 0.225, and on ADE20K counts the unlabelled class 0 as a 151st.",
        "capi, here --protocol capi, searches ADE20K in bfloat16, here in float32; its tenth of the "
        "training images is drawn anew in every run, here by --seed; and on ADE20K an unlabelled pixel "
        "wins a tie of votes there, here a class does.",
    )

    protocol: str = "hummingbird-512"
    k: tuple[int, ...] = (30,)
    """Nearest patches; open-hummingbird. Of several k and distances the best on a tenth of the training
    images is taken, layer by layer, and the whole bank is searched with it; capi."""
    distance: tuple[str, ...] = ("cosine",)
    """cosine (open-hummingbird), euclidean, or both to choose from (capi)."""
    vote: str = "soft"
    """soft: shares of classes, bilinear between patches (open-hummingbird); pixels: each pixel of a patch
    takes the most frequent class there (capi)."""
    temperature: float = 0.02
    """Of the softmax over their cosines; open-hummingbird."""
    standardise: bool = False
    """Subtract the mean of training patches and divide by their standard deviation; capi."""
    image_size: int = 512
    """Side in pixels that images are squashed to, floored to whole patches; open-hummingbird, README."""
    mask_size: int = 512
    """Side in pixels that test masks are squashed to (nearest) and scored at; 0 leaves them as they are."""
    bank: int = 102_400
    """Patches in the bank at most, equally many of each training image; open-hummingbird, README. 0: all."""
    void: str = "background"
    """Unlabelled pixels in the bank: background (open-hummingbird), where that is a class, ignore, or vote
    as one more class, which is always wrong (capi)."""
    absent: str = "ignore"
    """Classes in no true mask that were called all the same: ignore, or zero in the mean (capi)."""

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1:
            raise UsageError(f"--set k takes numbers from 1, found {list(self.k)}.")
        for name, least in (("image_size", 1), ("mask_size", 0), ("bank", 0)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"--set {name} takes a number from {least}, found {getattr(self, name)}."
                )
        check_side("--image-size", self.image_size)
        check_side("--mask-size", self.mask_size)
        if not self.temperature > 0:
            raise UsageError(f"The temperature must be positive, found {self.temperature}.")
        self.settings  # noqa: B018  # checks the words

    @property
    def settings(self) -> Settings:
        """The parameters as the scorer takes them."""
        from sdssl_bench.dense import Settings

        return Settings(**{one.name: getattr(self, one.name) for one in fields(Settings)})

    @property
    def part(self) -> str:
        """The resolution of the masks, where it is another than the preset's: it makes another number."""
        default = next(one.default for one in fields(self) if one.name == "mask_size")
        if self.mask_size == self.presets[self.protocol].get("mask_size", default):
            return ""
        return f"{self.mask_size}px-masks" if self.mask_size else "whole-masks"

    def load_data(self, name: str, ctx: RunContext) -> MaskData:
        """Images and masks, verified."""
        from sdssl_bench.datasets import masks

        return masks.load(name, data_root=ctx.data_root, allow_partial=ctx.allow_partial)

    def describe_data(self, data: MaskData) -> DatasetInfo:
        """Identity of images and masks."""
        return DatasetInfo(
            name=data.name,
            variant=data.variant,
            fingerprint=data.fingerprint,
            splits={"train": len(data.train), "test": len(data.test)},
            details={"class_names": list(data.class_names), **data.notes},
        )

    def resolve(self, encoder: Encoder, data: MaskData, ctx: RunContext) -> dict[str, Any]:
        """The image in pixels, the pixels that are scored, and how the bank is filled."""
        steps = self.settings.steps(encoder)
        encoder.check_size(steps.size, steps.size)
        images = len(limited_indices(len(data.train), ctx.limit))
        each = self.settings.per_image(encoder, images)
        return {
            "transform": steps.describe(),
            "masks": f"{self.mask_size} x {self.mask_size}" if self.mask_size else "as they are",
            "patches_per_image": each,
            "bank": each * images,
            "held_out": self.settings.held_out(images),
            "seed": ctx.seed,
        }

    def headline(self, data: MaskData) -> str:
        """Mean IoU over the classes that occur in the test masks."""
        return "mIoU"

    def run(
        self, encoder: Encoder, data: MaskData, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[LayerScores]:
        """Scores of each layer once all test images are done; a block of them is kept when it is done."""
        from sdssl_bench.metrics import class_iou, overlap_scores

        started = time.perf_counter()
        scorer = self._scorer(encoder, data, layers, ctx)
        for layer, counts in scorer.score():
            if not counts[:, 0].any():
                raise TaskError(f"{data.name}: no test mask has a labelled pixel to score.")
            seconds = {**scorer.seconds, "total": time.perf_counter() - started}
            scores, iou = overlap_scores(counts, absent=self.absent), class_iou(counts)
            skipped = {
                split: {"count": len(names), "first": names[:20]}
                for split, names in scorer.bad.items()
            }
            yield LayerScores(
                layer=layer,
                metrics={name: float(values.mean()) for name, values in scores.items()},
                n=len(counts),
                items={"index": scorer.tested, "counts": counts.astype("int32"), **scores},
                seconds=seconds if layer == layers[0] else {},
                notes={
                    "bank": scorer.bank_rows[layer],
                    "classes": int((iou == iou).sum()),
                    **_choice(scorer.choices.get(layer)),
                    **({"skipped_images": skipped} if any(scorer.bad.values()) else {}),
                },
            )

    def work(
        self, encoder: Encoder, data: MaskData, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[Work]:
        """The blocks of images that are not done yet."""
        from sdssl_bench.dense import dense_work

        yield from dense_work(self._scorer(encoder, data, layers, ctx))

    def _scorer(self, *run: Any) -> DenseScorer:
        from sdssl_bench.dense import DenseScorer

        encoder, data, layers, ctx = run
        parameters = recorded_parameters(self)
        identity = {"task": self.name, "version": self.version, "parameters": parameters}
        return DenseScorer(
            encoder, layers, data, settings=self.settings, identity=identity, ctx=ctx
        )

    def tables(self, record: Mapping[str, Any], path: Path) -> Iterator[RenderableType]:
        """What was chosen, and IoU of the classes."""
        from sdssl_bench.dense import choice_table, class_table

        yield from choice_table(record)
        yield class_table(record, path)


def _choice(scores: Mapping[Candidate, float] | None) -> dict[str, Any]:
    """What was chosen on held-out images, and the mIoU of all that was tried."""
    if scores is None:
        return {}
    from sdssl_bench.dense import best_candidate

    tried = {f"k={one.k} {one.distance}": value for one, value in scores.items()}
    return {"chosen": best_candidate(scores)._asdict(), "held_out_mIoU": tried}
