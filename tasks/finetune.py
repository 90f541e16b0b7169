"""Fine-tuning end to end: the encoder up to a layer and a new head, all of it trained.

The recipe is MoCo v3's transfer (DeiT's trainer): AdamW, rate 3e-4 x batch / 512, 100 epochs, 3 of
warm-up, cosine, label smoothing .1, random crops of 5 to 100 % of the area and flips, with weight decay,
stochastic depth, mixup and cutmix per dataset. `--layers 6,12` fine-tunes truncated encoders, each on
its own: that is what early exit would give.

mocov3   the epoch is chosen on validation images taken from train; test is read once.
paper    trains on all of train; reports the epoch best on test (top-1), as the references do, labelled so.
code     as the SDSSL authors' script: batch 128 (so rate 7.5e-5), patch embedding frozen, positions
         trained, they and [CLS] decayed, no stochastic depth, test read every 10 epochs; else as paper.
         Its loss is halved besides, which AdamW does not feel.
imagenet as MoCo v3 on ImageNet (DeiT's recipe): 150 epochs at 5e-4 x batch / 512, RandAugment, random
         erasing, mixup, cutmix, three copies of an image per epoch. The others have no values for ImageNet.

    sdssl-bench run --task finetune --dataset flowers --ckpt x
    accelerate launch -m sdssl_bench run --task finetune --dataset cifar100 --ckpt x --layers 6,12
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sdssl_bench.datasets import ClassificationTask
from sdssl_bench.errors import UsageError, did_you_mean
from sdssl_bench.system import Work
from sdssl_bench.task import LayerScores, RunContext

if TYPE_CHECKING:
    from sdssl_bench.datasets import ClassificationData
    from sdssl_bench.encoders import Encoder
    from sdssl_bench.probes import Job, TuneRecipe

TRANSFER: Mapping[str, Mapping[str, float]] = {
    "cifar10": {"weight_decay": 0.1, "drop_path": 0.1, "mixup": 0.8, "cutmix": 1.0},
    "cifar100": {"weight_decay": 0.1, "drop_path": 0.1, "mixup": 0.5, "cutmix": 1.0},
    "flowers": {"weight_decay": 0.3, "drop_path": 0.1, "mixup": 0.0, "cutmix": 0.0},
    "pets": {"weight_decay": 0.1, "drop_path": 0.0, "mixup": 0.8, "cutmix": 0.0},
}
"""MoCo v3's transfer scripts."""
AUTHORS = {name: {**row, "drop_path": 0.0} for name, row in TRANSFER.items()}
AUTHORS["cifar100"]["weight_decay"] = 0.3
"""The SDSSL authors' scripts, of SD- models (for CIFAR-100's baseline: 0.1)."""
OTHERS = {"weight_decay": 0.1, "drop_path": 0.1, "mixup": 0.8, "cutmix": 1.0}
"""For datasets without a released recipe: CIFAR-100's with mixup .8. Ours, never the paper's."""
TABLES = {"mocov3": TRANSFER, "code": AUTHORS}
FROM_TABLE = -1.0
RATE_BATCH = 512
"""Images per step that base rates are for; DeiT."""
METRICS = ("headline", "top1", "mean_per_class")


@dataclass(frozen=True)
class Task(ClassificationTask):
    """Fine-tuning; every field is a parameter of `--set`."""

    name: ClassVar[str] = "finetune"
    title: ClassVar[str] = "fine-tuning of the encoder up to a layer"
    version: ClassVar[int] = 2
    shares_pass: ClassVar[bool] = False
    points: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "mocov3": {},
        "paper": {"select": "test", "metric": "top1"},
        "code": {
            "select": "test",
            "metric": "top1",
            "watch_every": 10,
            "batch": 128,
            "constants_of": "code",
            "drop_path": 0.0,
            "freeze_patch_embed": True,
            "train_positions": True,
            "decay_tokens": True,
            "head_init": "linear",
        },
        "imagenet": {
            "select": "test",
            "epochs": 150,
            "warmup": 5,
            "lr": 5e-4,
            "crop_scale": 0.08,
            "interpolation": "bicubic",
            "randaugment": 9,
            "erasing": 0.25,
            "repeats": 3,
            "transform": "A",
            "weight_decay": 0.05,
            "drop_path": 0.1,
            "mixup": 0.8,
            "cutmix": 1.0,
        },
    }
    pitfalls: ClassVar[tuple[str, ...]] = (
        "Rates follow the batch over all processes: --set batch=128 alone makes the rate "
        "eight times smaller.",
        "Layers share no pass: each is a training of its own. --dry-run says how many.",
        "Nobody released recipes for CUB, Aircraft, Cars, Dogs and NABirds: their constants "
        "are this suite's.",
        "paper, code and imagenet choose the epoch on test, as their sources do, and say so.",
    )
    elsewhere: ClassVar[tuple[str, ...]] = (
        "MoCo v3's transfer code accepts RandAugment and random erasing without effect: its "
        "data file replaces DeiT's.",
        "The SDSSL authors' script computes its rate for one process, 7.5e-5; its "
        "stochastic depth has no effect.",
        "ViT's own recipe (SGD, 384 pixels), DeiT's for CIFAR (SGD, 1,000 epochs) and "
        "DINO's (rate 7.5e-6, 1,000 epochs; dino#81, #144) are other protocols: their "
        "numbers are higher.",
    )

    protocol: str = "mocov3"
    select: str = "val"
    """Epoch that is reported: val, best on validation; test, best on test; last."""
    metric: str = "headline"
    """What is best: headline, the accuracy the field reports for the set; top1; mean_per_class."""
    watch_every: int = 1
    """Epochs between two readings of what `select` looks at; the last epoch is always read."""
    epochs: int = 100
    """MoCo v3 transfer."""
    warmup: int = 3
    """Epochs of linear warm-up from 1e-6; MoCo v3 transfer."""
    batch: int = 1024
    """Images per step over all processes; MoCo v3 transfer, 8 x 128."""
    lr: float = 3e-4
    """Rate at batch 512, scaled with the batch; DeiT."""
    smoothing: float = 0.1
    """Label smoothing; DeiT."""
    crop_scale: float = 0.05
    """Smallest share of the area of a random crop; MoCo v3 transfer."""
    interpolation: str = "bilinear"
    """Of random crops, and of what RandAugment turns."""
    randaugment: int = 0
    """Magnitude of RandAugment (timm: two operations, deviation .5, increasing); 0 is off; DeiT: 9."""
    erasing: float = 0.0
    """Probability of random erasing (timm: one box of noise); DeiT: .25."""
    repeats: int = 1
    """Copies of an image in an epoch, which stays as long (repeated augmentation); DeiT: 3."""
    transform: str = "B"
    """Preprocessing A to E of evaluated images; MoCo v3 transfer."""
    constants_of: str = "mocov3"
    """Whose the dataset's own values below are: mocov3, or code, the SDSSL authors'."""
    weight_decay: float = FROM_TABLE
    """-1 is the dataset's own value."""
    drop_path: float = FROM_TABLE
    """Stochastic depth of the last block; -1 is the dataset's own value."""
    mixup: float = FROM_TABLE
    """Parameter of mixup's Beta distribution; -1 is the dataset's own value."""
    cutmix: float = FROM_TABLE
    """Parameter of CutMix's Beta distribution; -1 is the dataset's own value."""
    layer_decay: float = 1.0
    """Factor of the rate per block below the head; 1 is off."""
    freeze_patch_embed: bool = False
    """Keep the patch embedding as it is; the SDSSL authors' script."""
    train_positions: bool = False
    """Train fixed sin-cos positions too; the SDSSL authors' script."""
    decay_tokens: bool = False
    """Weight decay of positions, [CLS] and registers too; the SDSSL authors' script."""
    head_init: str = "normal"
    """normal, N(0, .01^2) and zero bias; linear, torch's default (the SDSSL authors' script)."""
    val_fraction: float = 0.1
    """Share of train that chooses the epoch where validation is not predefined."""

    def __post_init__(self) -> None:
        from sdssl_bench.datasets import preprocess
        from sdssl_bench.probes import RESAMPLING, SELECT

        if self.select not in SELECT:
            raise UsageError(did_you_mean("select", self.select, SELECT))
        for field, known in (
            ("metric", METRICS),
            ("constants_of", tuple(TABLES)),
            ("head_init", ("normal", "linear")),
            ("interpolation", tuple(RESAMPLING)),
        ):
            if getattr(self, field) not in known:
                raise UsageError(did_you_mean(field, getattr(self, field), known))
        if self.watch_every < 1:
            raise UsageError(f"watch_every is a number of epochs from 1: {self.watch_every}.")
        preprocess(self.transform, 224)
        if self.epochs < 1 or self.batch < 1 or self.warmup < 0 or self.lr <= 0:
            raise UsageError("epochs, batch and lr must be positive, warmup from 0.")
        if not 0 < self.val_fraction < 1 or not 0 < self.crop_scale <= 1:
            raise UsageError("val_fraction and crop_scale lie between 0 and 1.")
        if not 0 <= self.smoothing < 1 or not 0 < self.layer_decay <= 1:
            raise UsageError("smoothing lies in [0, 1), layer_decay in (0, 1].")
        for field in OTHERS:
            value = getattr(self, field)
            if value < 0 and value != FROM_TABLE:
                raise UsageError(f"{field} is from 0, or -1 for the dataset's own; found {value}.")
        if not 0 <= self.randaugment <= 10 or not 0 <= self.erasing <= 1 or self.repeats < 1:
            raise UsageError("randaugment lies in 0 to 10, erasing in 0 to 1, repeats from 1.")
        if self.drop_path >= 1:
            raise UsageError(f"drop_path is a probability below 1, found {self.drop_path}.")

    def constants(self, name: str) -> dict[str, float]:
        """Weight decay, stochastic depth, mixup and cutmix for a dataset.

        Raises:
            UsageError: on ImageNet, if they are to be the dataset's own.
        """
        stated = {field: float(getattr(self, field)) for field in OTHERS}
        if name == "imagenet" and FROM_TABLE in stated.values():
            raise UsageError(
                f"{self.protocol} is a recipe for transfer and has none for ImageNet, where MoCo v3 "
                f"fine-tunes by another: --protocol imagenet. Or set {', '.join(OTHERS)}."
            )
        row = TABLES[self.constants_of].get(name, OTHERS)
        return {
            field: row[field] if stated[field] == FROM_TABLE else stated[field] for field in OTHERS
        }

    def resolve(
        self, encoder: Encoder, data: ClassificationData, ctx: RunContext
    ) -> dict[str, Any]:
        """The rate, the dataset's constants and where they come from, pixels, and who chooses."""
        recipe = self.recipe(encoder, data)
        chosen = {
            "val": "validation: predefined"
            if data.train.predefined_val is not None
            else f"validation: {self.val_fraction:g} of every class by name hash",
            "test": "test",
            "last": "nothing: last epoch",
        }
        return {
            "lr": recipe.lr,
            **self.constants(data.name),
            "drop_path": recipe.drop_path,
            "constants_from": self._source(data.name),
            "epoch_chosen_on": chosen[self.select],
            "epoch_chosen_by": self.judged_by(data),
            "augmentation": dict(recipe.augmentation.describe()),
            "transform": recipe.preprocess.describe(),
        }

    def _source(self, name: str) -> str:
        if FROM_TABLE not in (getattr(self, field) for field in OTHERS):
            return "the protocol"
        source = {"mocov3": "MoCo v3 transfer", "code": "SDSSL code"}[self.constants_of]
        return source if name in TABLES[self.constants_of] else "this suite"

    def headline(self, data: ClassificationData) -> str:
        """The metric that is compared; its name says so where test chose the epoch."""
        chosen = self.judged_by(data)
        return f"best_epoch_on_test/{chosen}" if self.select == "test" else chosen

    def judged_by(self, data: ClassificationData) -> str:
        """The accuracy that chooses the epoch: top1 or mean_per_class."""
        return data.headline if self.metric == "headline" else self.metric

    def recipe(self, encoder: Encoder, data: ClassificationData) -> TuneRecipe:
        """The recipe for this encoder and dataset."""
        from sdssl_bench.datasets import preprocess
        from sdssl_bench.probes import Mixing, RandomCropFlip, TuneRecipe, takes_drop_path

        row = self.constants(data.name)
        return TuneRecipe(
            lr=self.lr * self.batch / RATE_BATCH,
            epochs=self.epochs,
            warmup=self.warmup,
            batch=self.batch,
            weight_decay=row["weight_decay"],
            drop_path=row["drop_path"] if takes_drop_path(encoder) else 0.0,
            layer_decay=self.layer_decay,
            freeze_patch_embed=self.freeze_patch_embed,
            train_positions=self.train_positions,
            decay_tokens=self.decay_tokens,
            head_init=self.head_init,
            mixing=Mixing(row["mixup"], row["cutmix"], self.smoothing),
            augmentation=RandomCropFlip(
                encoder.input_size, (self.crop_scale, 1.0), self.interpolation, self.randaugment
            ),
            erasing=self.erasing,
            repeats=self.repeats,
            preprocess=preprocess(self.transform, encoder.input_size),
        )

    def run(
        self, encoder: Encoder, data: ClassificationData, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[LayerScores]:
        """Scores of each layer, one training after another."""
        from sdssl_bench import probes

        yield from probes.score_tuned_layers(encoder, layers, self._job(encoder, data, ctx))

    def work(
        self, encoder: Encoder, data: ClassificationData, layers: Sequence[int], ctx: RunContext
    ) -> Iterator[Work]:
        """Images that train, in all epochs of all layers; the time is not estimated."""
        fit = self._job(encoder, data, ctx).fit
        yield Work("training", len(layers) * self.epochs * len(fit), "images", None)

    def _job(self, encoder: Encoder, data: ClassificationData, ctx: RunContext) -> Job:
        from sdssl_bench.probes import make_job

        chosen = {key: getattr(self, key) for key in ("select", "watch_every", "val_fraction")}
        metric = self.judged_by(data)
        return make_job(data, self.recipe(encoder, data), metric=metric, ctx=ctx, **chosen)
