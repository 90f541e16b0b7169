"""Linear probes trained by SGD on augmented images: one encoder pass per batch feeds all heads.

With one head per layer it trains on all of train and test is read after every epoch, as the references
do: the last epoch is the headline, the best stands beside it. With several heads per layer (learning
rates, inputs) they train on the fitting part, validation chooses, and test is read once.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.datasets import ImageSet
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import TaskError
from sdssl_bench.features import BankKey, FeatureBank, Forward, batches, placed
from sdssl_bench.probes.augment import EpochImages, RandomCropFlip, epoch_order, steps_of
from sdssl_bench.probes.linear.heads import Heads
from sdssl_bench.probes.linear.inputs import joined, needed, parts_of
from sdssl_bench.probes.linear.schedules import cosine
from sdssl_bench.probes.linear.state import TrainingState
from sdssl_bench.probes.scores import Graded, grade, ranks_of
from sdssl_bench.rounding import percent
from sdssl_bench.system import gather_objects, num_processes, process_index, resolve_device
from sdssl_bench.task import RunContext

EVAL_ROWS = 2048
"""Rows of all inputs scored at a time."""

Input = tuple[int, str]
"""Layer and kind of what a head sees."""


@dataclass(frozen=True)
class SgdRecipe:
    """How heads are trained.

    Attributes:
        epochs: passes, or multiples of `iterations` steps.
        batch: images per step.
        iterations: steps per epoch; 0 is one pass over the images.
        per_epoch: the cosine steps once per epoch instead of once per step.
        init: see `Heads`.
        batch_norm: see `Heads`.
        augmentation: of training images.
    """

    epochs: int
    batch: int
    iterations: int
    per_epoch: bool
    init: str
    batch_norm: bool
    augmentation: RandomCropFlip


@dataclass(eq=False)
class Curves:
    """What is known of each epoch: training loss, and ranks' accuracies on the watched split.

    Attributes:
        loss: per epoch [I, R] mean loss; NaN of a head that diverged.
        top1: per epoch [I, R] accuracy on the watched split.
        mean_per_class: the same, averaged over classes.
    """

    loss: list[Any] = field(default_factory=list)
    top1: list[Any] = field(default_factory=list)
    mean_per_class: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class Trainer:
    """Trains all heads on the layers of one encoder.

    Attributes:
        encoder: frozen.
        images: the training split.
        indices: which of its images train.
        inputs: [I] what each head sees.
        rates: [R] learning rates.
        recipe: how.
        ctx: device, batch size of the forward pass, workers, seed.
        forward: all features that the heads see, of a batch of images.
        widths: [I] of the inputs.
        heads: what is trained.
    """

    encoder: Encoder
    images: ImageSet
    indices: NDArray[np.int64]
    inputs: Sequence[Input]
    rates: Sequence[float]
    recipe: SgdRecipe
    ctx: RunContext
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        layers = sorted({layer for layer, _ in self.inputs})
        used, poolings = needed([kind for _, kind in self.inputs], layers)
        self.device = torch.device(resolve_device(self.ctx.device))
        self.forward = Forward(
            self.encoder,
            [BankKey(layer, p, self.encoder.point) for layer in used for p in poolings],
            device=self.device,
            dtype=self.ctx.dtype,
            batch_size=self.ctx.batch_size,
        )
        dims = self.encoder.dims
        self.widths = [sum(dims[one - 1] for one, _ in parts_of(k, n)) for n, k in self.inputs]
        kinds = sorted({kind for _, kind in self.inputs})
        self.heads = Heads(
            self.widths,
            self.rates,
            num_classes=self.images.num_classes,
            seeds=[(self.ctx.seed, layer, kinds.index(kind)) for layer, kind in self.inputs],
            init=self.recipe.init,
            batch_norm=self.recipe.batch_norm,
            device=self.device,
        )

    def train(self, state: TrainingState, watch: "Watched") -> Curves:
        """Train to the last epoch, going on from `state`; looks at `watch` after every epoch."""
        curves, first = Curves(), 0
        saved = state.load()
        if saved is not None:
            self.heads.load(saved["heads"])
            curves, first = Curves(**saved["curves"]), int(saved["epochs"])
            self._say(f"training goes on after epoch {first} of {self.recipe.epochs}")
        with placed(self.encoder, self.device):
            for epoch in range(first, self.recipe.epochs):
                loss = self.epoch(epoch)
                self.heads.check()
                graded = watch.grade(self.heads)
                curves.loss.append(loss.tolist())
                curves.top1.append([[g.metrics()["top1"] for g in one] for one in graded])
                curves.mean_per_class.append(
                    [[g.metrics()["mean_per_class"] for g in one] for one in graded]
                )
                best = [max(rates) for rates in curves.top1[-1]]
                names = [
                    f"{layer}{'' if kind == 'cls' else f' {kind}'}" for layer, kind in self.inputs
                ]
                self._say(
                    f"epoch {epoch + 1} of {self.recipe.epochs}: {watch.split} top1 by layer "
                    + "  ".join(f"{n}: {percent(v)}" for n, v in zip(names, best, strict=True))
                )
                if state.due():
                    state.save(
                        {"heads": self.heads.state(), "curves": vars(curves), "epochs": epoch + 1}
                    )
        return curves

    def _say(self, text: str) -> None:
        if self.ctx.progress is not None and process_index() == 0:
            self.ctx.progress.message(text)

    def epoch(self, epoch: int) -> Tensor:
        """One epoch of steps; [I, R] mean training loss."""
        recipe, started = self.recipe, time.perf_counter()
        count = recipe.iterations * recipe.batch or None
        order = epoch_order(self.indices, seed=self.ctx.seed, epoch=epoch, count=count)
        steps = steps_of(len(order), recipe.batch)
        progress = self.ctx.progress if process_index() == 0 else None
        if progress is not None:
            progress.start(f"epoch {epoch + 1} of {recipe.epochs}", len(order))
        total = torch.zeros(len(self.inputs), len(self.rates), dtype=torch.float64)
        source = EpochImages(self.images, order, self.ctx.seed, epoch)
        for number, (positions, features) in enumerate(self._features(source, steps)):
            at = epoch if recipe.per_epoch else epoch + number / len(steps)
            targets = torch.from_numpy(self.images.targets[order[positions]])
            rows = [self._input(features, one) for one in self.inputs]
            loss = self.heads.step(rows, targets, cosine(at, recipe.epochs))
            total += loss.double().cpu() * len(positions)
            if progress is not None:
                progress.advance(len(positions))
        if progress is not None:
            progress.finish()
        spent = time.perf_counter() - started
        self.seconds["train"] = self.seconds.get("train", 0.0) + spent
        return total / len(order)

    def _input(self, features: Mapping[str, NDArray[np.float32]], one: Input) -> Tensor:
        keys = [BankKey(*part, self.encoder.point) for part in parts_of(one[1], one[0])]
        columns = [features[key.name] for key in keys]
        return torch.from_numpy(columns[0] if len(columns) == 1 else np.concatenate(columns, 1))

    def pieces(self, steps: Sequence[slice]) -> tuple[list[NDArray[np.int64]], set[int]]:
        """Positions of each forward pass of this process, and which of them end a step."""
        rank, world = process_index(), num_processes()
        pieces: list[NDArray[np.int64]] = []
        last: set[int] = set()
        for step in steps:
            of_process = np.arange(step.start, step.stop)[rank::world]
            parts = range(0, max(len(of_process), 1), self.forward.piece)
            pieces += [of_process[a : a + self.forward.piece] for a in parts]
            last.add(len(pieces) - 1)
        return pieces, last

    def _features(
        self, source: EpochImages, steps: Sequence[slice]
    ) -> Iterator[tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]]:
        """Positions and features of each step's images; every process computes its share of them."""
        pieces, last = self.pieces(steps)
        loaded = batches(
            cast(ImageSet, source),
            cast(Any, self.recipe.augmentation),
            pieces,
            device=self.device,
            num_workers=self.ctx.num_workers,
        )
        held: list[tuple[NDArray[np.int64], dict[str, NDArray[np.float32]] | None, dict[int, str]]]
        held = []
        for number, batch in enumerate(loaded):
            features = None if batch.pixels is None else self.forward(batch.pixels)
            held.append((batch.rows, features, batch.bad))
            if number in last:
                yield self._together(held)
                held = []

    def _together(
        self, held: Sequence[tuple[NDArray[np.int64], Any, dict[int, str]]]
    ) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]:
        """The step's images of all processes in order of position."""
        everyone = [part for share in gather_objects(held) for part in share]
        bad = [text for _, _, one in everyone for text in one.values()]
        if bad and self.ctx.on_bad_image == "error":
            raise TaskError(
                f"{len(bad)} training images cannot be read, the first: {bad[0]}. Repair them, or "
                "leave them out with --on-bad-image skip."
            )
        good = [(rows, features) for rows, features, _ in everyone if features is not None]
        if not good:
            raise TaskError(f"No image of a training step can be read, the first: {bad[0]}.")
        positions = np.concatenate([rows for rows, _ in good])
        order = np.argsort(positions)
        names = good[0][1].keys()
        joint = {n: np.concatenate([features[n] for _, features in good])[order] for n in names}
        return positions[order], joint


@dataclass(frozen=True, eq=False)
class Watched:
    """A split whose features do not change: scored whole after an epoch, by any head.

    Attributes:
        split: "val" or "test".
        bank: its features.
        rows: which rows of the bank.
        inputs: as of the trainer.
        num_classes: C.
        whole: whether every class must occur.
    """

    split: str
    bank: FeatureBank
    rows: NDArray[np.int64]
    inputs: Sequence[Input]
    num_classes: int
    whole: bool

    def grade(self, heads: Heads) -> list[list[Graded]]:
        """[I][R] who was right."""
        targets = self.bank.targets[self.rows]
        sources = [joined(self.bank, kind, layer) for layer, kind in self.inputs]
        found: list[list[NDArray[np.int64]]] = [[] for _ in self.inputs]
        for start in range(0, len(self.rows), EVAL_ROWS):
            part = self.rows[start : start + EVAL_ROWS]
            rows = [torch.from_numpy(np.array(source[part])).float() for source in sources]
            true = torch.from_numpy(targets[start : start + EVAL_ROWS])
            for ranks, logits in zip(found, heads.logits(rows), strict=True):
                ranks.append(ranks_of(logits, true.to(logits.device)).cpu().numpy())
        return [
            [
                grade(one, targets, num_classes=self.num_classes, whole=self.whole)
                for one in np.concatenate(ranks, axis=1)
            ]
            for ranks in found
        ]


def all_rows(bank: FeatureBank) -> NDArray[np.int64]:
    """Every row of a bank."""
    return np.arange(len(bank.targets))
