"""Linear classification on frozen features: SGD on augmented images, or logistic regression.

mocov3   SGD as MoCo v3's linear evaluation (what the SDSSL paper cites): momentum 0.9, no weight decay,
         batch 1024, base rate 3 for a ViT, 0.1 for a ResNet (x batch / 256), 90 epochs, cosine per epoch,
         random crops and flips. The last epoch is the headline; the best stands beside it, "on test".
code     as the SDSSL authors' multi-exit script: 100 epochs, base rate .002, cosine per iteration.
dino     as DINO: last four [CLS] of a ViT-S, [CLS] and mean patch of a wider one, base rate .001.
dinov2   as DINOv2: 13 rates x last {1, 4} [CLS] x with or without mean patch; chosen on validation.
logreg   multinomial logistic regression on features of un-augmented images, C of 45 chosen on
         validation images taken from train, refitted on train + validation, test read once. Of few labels
         (--shots, --fraction, --subset) a part is validation; of one a class there is none, and C is 1.

All layers (and rates, inputs, penalties) are trained together: one encoder pass feeds every head.

    sdssl-bench run --task linear --dataset cifar100,flowers --ckpt x --all-layers
    sdssl-bench run --task linear --protocol logreg --dataset flowers --ckpt x --all-layers

SD-MoCo v3 ViT-S/16 with mocov3 on ImageNet: see the paper's Table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from sdssl_bench.datasets import FewLabelTask
from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.system import Work
from sdssl_bench.task import LayerScores, Option, RunContext, Trial

if TYPE_CHECKING:
    from sdssl_bench.datasets import ClassificationData
    from sdssl_bench.encoders import Encoder
    from sdssl_bench.probes import SgdRecipe

SMALL_WIDTH = 384
"""Up to this width DINO's protocol concatenates four layers, above it adds the mean patch."""

VIT_RATE, RESNET_RATE = 3.0, 0.1
"""Base rates of MoCo v3's linear evaluation."""
RATE_BATCH = 256
"""Images per step that base rates are for; MoCo v3, DINO, DINOv2."""
SGD_ONLY = (
    "lr", "batch", "epochs", "iterations", "schedule", "init", "crop_scale", "interpolation", "batch_norm",
)  # fmt: skip
NEWTON_ONLY = ("sweep", "tolerance")


@dataclass(frozen=True)
class Task(FewLabelTask):
    """The linear probe; every field is a parameter of `--set`."""

    name: ClassVar[str] = "linear"
    title: ClassVar[str] = "linear classifiers: SGD, or logistic regression"
    version: ClassVar[int] = 1
    options: ClassVar[tuple[Option, ...]] = (
        *FewLabelTask.few_labels,
        Option("features", "parameter", "What a head sees, such as cls,last4+mean."),
    )
    trial: ClassVar[Trial] = Trial("logreg", datasets=("flowers",))
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "mocov3": {},
        "code": {
            "lr": (0.002,),
            "epochs": 100,
            "schedule": "iteration",
            "init": "linear",
            "transform": "C",
        },
        "dino": {"lr": (0.001,), "epochs": 100, "features": ("auto",), "transform": "A"},
        "dinov2": {
            "lr": (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1),
            "epochs": 10,
            "iterations": 1250,
            "schedule": "iteration",
            "features": ("cls", "cls+mean", "last4", "last4+mean"),
            "transform": "A",
            "interpolation": "bicubic",
            "val_fraction": 0.1,
        },
        "logreg": {"solver": "newton", "transform": "E"},
    }
    pitfalls: ClassVar[tuple[str, ...]] = (
        "The scale of features grows with depth, so one rate does not suit all layers. Give several "
        "(--set lr=0.3,3,30; chosen on validation), --set batch_norm=true, or take logreg.",
        "Rates are per 256 images: another batch with the same base rate is another recipe.",
        "A best epoch on test is stored beside the last and never the headline; several papers report it.",
        "logreg is not what Table 4 of the SDSSL paper shows: there SimCLR's CIFAR-10 probe is below its "
        "own k-NN, as an SGD probe without a sweep is.",
    )
    elsewhere: ClassVar[tuple[str, ...]] = (
        "MoCo v3 and DINO report the best epoch on the images they report; mocov3 and dino here the last.",
        "DINO's rates were swept, and the values never published (dino#249); its ResNet-50 needs another "
        "rate (dino#84, #131).",
        "DINOv2 picks the best of its heads on the images it reports unless told otherwise, and needs a "
        "batch of 1,024 over all processes (dinov2#106, #232). Here validation images choose.",
        "CLIP and DINOv2 search C of scikit-learn, which multiplies the sum of the losses: C of n images "
        "is a penalty of 1 / (C n) on their mean, as here.",
        "The SDSSL authors average accuracies of batches, which counts a short last batch too much; here "
        "every image counts once.",
    )

    protocol: str = "mocov3"
    solver: str = "sgd"
    """sgd on augmented images, or newton: logistic regression on cached features."""
    features: tuple[str, ...] = ("cls",)
    """What a head sees: cls, mean, cls+mean, last4, last4+mean; auto is DINO's choice by width."""
    transform: str = "B"
    """Preprocessing A to E of images that are not augmented; B is MoCo v3's."""
    lr: tuple[float, ...] = ()
    """sgd: base rates, x batch / 256; none is 3 for a ViT, 0.1 for a ResNet (MoCo v3)."""
    batch: int = 1024
    """sgd: images per step; MoCo v3."""
    epochs: int = 90
    """sgd: MoCo v3."""
    iterations: int = 0
    """sgd: steps per epoch; 0 is one pass over the images."""
    schedule: str = "epoch"
    """sgd: the cosine steps per epoch or per iteration."""
    init: str = "normal"
    """sgd: normal, N(0, .01^2) and zero bias; linear, torch's default of a linear layer."""
    crop_scale: float = 0.08
    """sgd: smallest share of the area of a random crop."""
    interpolation: str = "bilinear"
    """sgd: of random crops."""
    batch_norm: bool = False
    """sgd: normalise features by batch statistics, without affine parameters (as MAE)."""
    sweep: str = "grid"
    """newton: grid, 45 values of C (DINOv2); clip, CLIP's search among 96."""
    tolerance: float = 1e-5
    """newton: distance of the mean loss from its optimum."""
    val_fraction: float = 0.2
    """Share of train that chooses C, rates and inputs where validation is not predefined."""

    def __post_init__(self) -> None:
        from sdssl_bench.datasets import preprocess
        from sdssl_bench.probes import RESAMPLING, SWEEPS, parts_of

        super().__post_init__()
        for field, known in (
            ("solver", ("sgd", "newton")),
            ("schedule", ("epoch", "iteration")),
            ("init", ("normal", "linear")),
            ("interpolation", tuple(RESAMPLING)),
            ("sweep", SWEEPS),
        ):
            if getattr(self, field) not in known:
                raise UsageError(did_you_mean(field, getattr(self, field), known))
        preprocess(self.transform, 224)
        for kind in self.features:
            if kind != "auto":
                parts_of(kind, 1)
        if not self.features or len(set(self.features)) < len(self.features):
            raise UsageError("--features needs at least one input, each once.")
        idle = SGD_ONLY if self.solver == "newton" else NEWTON_ONLY
        defaults = {f.name: f.default for f in fields(self)}
        changed = [field for field in idle if getattr(self, field) != defaults[field]]
        if changed:
            names = ", ".join(changed)
            raise UsageError(f"{names} have no effect on the solver {self.solver}. Leave them out.")
        if self.part and self.solver != "newton":
            raise UsageError("Few labels are for logistic regression: --protocol logreg.")
        if self.solver == "newton" and len(self.features) > 1:
            raise UsageError("Logistic regression takes one input; run it once for each.")
        positive = (self.batch, self.epochs, self.tolerance, self.crop_scale, *self.lr)
        if min(positive) <= 0 or self.iterations < 0 or self.crop_scale > 1:
            raise UsageError(
                "batch, epochs, lr and tolerance must be positive, crop_scale in (0, 1], iterations from 0."
            )
        if not 0 < self.val_fraction < 1:
            raise UsageError(f"val_fraction lies between 0 and 1, found {self.val_fraction}.")

    def resolve(
        self, encoder: Encoder, data: ClassificationData, ctx: RunContext
    ) -> dict[str, Any]:
        """Pixels, inputs, rates and how the choice is made."""
        from sdssl_bench.datasets import preprocess

        common = {
            "features": list(self.kinds(encoder)),
            "transform": preprocess(self.transform, encoder.input_size).describe(),
            "validation": "predefined"
            if data.train.predefined_val is not None
            else f"{self.val_fraction:g} of every class by name hash",
        }
        if self.solver == "newton":
            if (draws := self.draws(data, ctx)) is not None:
                common["validation"] = f"{self.val_fraction:g} of a class's labels by name hash"
                common["labels"] = draws.describe()
            return {**common, "chosen_on": f"validation {data.headline}", "sweep": self.sweep}
        single = len(self.rates(encoder)) * len(self.kinds(encoder)) == 1
        if single:
            common["validation"] = "none: one head per layer, trained on all of train"
        return {
            **common,
            "lr": list(self.rates(encoder)),
            "augmentation": dict(self.recipe(encoder).augmentation.describe()),
            "chosen_on": "nothing: last epoch" if single else f"validation {data.headline}",
        }

    def headline(self, data: ClassificationData) -> str:
        """The metric the field reports for this set."""
        return data.headline

    def kinds(self, encoder: Encoder) -> tuple[str, ...]:
        """What heads see; "auto" resolved by the encoder's width."""
        from sdssl_bench.encoders import by_stages

        if by_stages(encoder):
            auto = "cls"
        elif encoder.dims[-1] <= SMALL_WIDTH:
            auto = "last4"
        else:
            auto = "cls+mean"
        return tuple(dict.fromkeys(auto if kind == "auto" else kind for kind in self.features))

    def rates(self, encoder: Encoder) -> tuple[float, ...]:
        """Learning rates of the first step."""
        from sdssl_bench.encoders import by_stages

        base = self.lr or (RESNET_RATE if by_stages(encoder) else VIT_RATE,)
        return tuple(rate * self.batch / RATE_BATCH for rate in base)

    def recipe(self, encoder: Encoder) -> SgdRecipe:
        """How SGD trains on this encoder's input size."""
        from sdssl_bench.probes import RandomCropFlip, SgdRecipe

        crop = RandomCropFlip(encoder.input_size, (self.crop_scale, 1.0), self.interpolation)
        return SgdRecipe(
            epochs=self.epochs,
            batch=self.batch,
            iterations=self.iterations,
            per_epoch=self.schedule == "epoch",
            init=self.init,
            batch_norm=self.batch_norm,
            augmentation=crop,
        )

    def run(
        self, encoder: Encoder, data: ClassificationData, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[LayerScores]:
        """Scores of each layer from heads that are trained together."""
        if self.solver == "sgd":
            from sdssl_bench.probes import score_sgd_layers

            yield from score_sgd_layers(encoder, data, layers, **self._sgd(encoder), ctx=ctx)
            return
        from sdssl_bench.features import extract
        from sdssl_bench.probes import score_logreg_layers
        from sdssl_bench.system import is_main_process

        (kind,) = self.kinds(encoder)
        found = self._splits(extract, encoder, data, layers, ctx)
        if not is_main_process():
            return
        yield from score_logreg_layers(
            data,
            dict(zip(("train", "test"), found, strict=True)),
            layers,
            kind=kind,
            sweep=self.sweep,
            tolerance=self.tolerance,
            val_fraction=self.val_fraction,
            draws=self.draws(data, ctx),
            ctx=ctx,
        )

    def work(
        self, encoder: Encoder, data: ClassificationData, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[Work]:
        """The passes and the training; or the passes and the problems that are solved."""
        if self.solver == "sgd":
            from sdssl_bench.probes import sgd_work

            yield from sgd_work(encoder, data, layers, **self._sgd(encoder), ctx=ctx)
            return
        from sdssl_bench.features import extract_work
        from sdssl_bench.probes import logreg_work

        yield from self._splits(extract_work, encoder, data, layers, ctx)
        (kind,) = self.kinds(encoder)
        draws = self.draws(data, ctx)
        yield logreg_work(encoder, data, layers, kind=kind, sweep=self.sweep, draws=draws, ctx=ctx)

    def _sgd(self, encoder: Encoder) -> dict[str, Any]:
        return {
            "kinds": self.kinds(encoder), "rates": self.rates(encoder), "recipe": self.recipe(encoder),
            "transform": self.transform, "val_fraction": self.val_fraction,
        }  # fmt: skip

    def _splits(self, do: Callable[..., Any], *run: Any) -> list[Any]:
        """`do` with the training images, then test: as `features.extract`."""
        from sdssl_bench.probes import needed

        encoder, data, layers, ctx = run
        used, poolings = needed(self.kinds(encoder), layers)
        return self.splits(
            do, encoder, data, used, poolings=poolings, transform=self.transform, ctx=ctx
        )
