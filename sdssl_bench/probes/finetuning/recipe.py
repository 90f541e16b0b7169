"""End-to-end fine-tuning of a truncated encoder with a linear head (MoCo v3 transfer, DeiT's trainer).

AdamW, cosine per epoch with warm-up, soft targets. An epoch depends on (seed, epoch, process count)
alone, so a killed run that goes on from its state ends where an undisturbed one does. Several
processes (`accelerate launch`) share each batch; gradients are averaged.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from sdssl_bench.datasets import ImageSet, Preprocess
from sdssl_bench.encoders import Encoder, move
from sdssl_bench.errors import TaskError
from sdssl_bench.features import DTYPES, Batch, automatic_batch_size, batches
from sdssl_bench.probes.augment import EpochImages, RandomCropFlip, epoch_order, steps_of
from sdssl_bench.probes.finetuning.mixing import Mixing
from sdssl_bench.probes.finetuning.tunable import Tunable, parameter_groups
from sdssl_bench.probes.linear.regularisers import erase
from sdssl_bench.probes.linear.schedules import deit_lr
from sdssl_bench.probes.scores import Graded, grade, ranks_of
from sdssl_bench.system import gather_objects, num_processes, process_index, resolve_device
from sdssl_bench.task import RunContext

BETAS, EPS = (0.9, 0.999), 1e-8
"""Of AdamW; DeiT."""


class DivergedError(TaskError):
    """The loss is no longer finite."""


@dataclass(frozen=True)
class TuneRecipe:
    """How an encoder is fine-tuned, after the scripts of MoCo v3, DeiT and the SDSSL authors.

    Attributes:
        lr: rate at the end of the warm-up.
        epochs, warmup, batch: epochs, warm-up epochs, images per step over all processes.
        weight_decay, drop_path, layer_decay: of the optimiser and the network.
        freeze_patch_embed, train_positions: keep the first, train fixed positions; only of a ViT.
        decay_tokens, head_init: see `tunable`.
        mixing: mixup, cutmix, smoothing.
        augmentation: of training images.
        erasing, repeats: probability of random erasing; copies of an image in an epoch.
        preprocess: of evaluated images.
    """

    lr: float
    epochs: int
    warmup: int
    batch: int
    weight_decay: float
    drop_path: float
    layer_decay: float
    freeze_patch_embed: bool
    train_positions: bool
    decay_tokens: bool
    head_init: str
    mixing: Mixing
    augmentation: RandomCropFlip
    erasing: float
    repeats: int
    preprocess: Preprocess


@dataclass(eq=False)
class Tuning:
    """One encoder being fine-tuned up to one layer.

    Attributes:
        encoder: where it starts; not changed.
        layer: where it is cut.
        images: the training split.
        indices: which of its images train.
        recipe: how.
        ctx: device, precision, images per pass, workers, seed.
    """

    encoder: Encoder
    layer: int
    images: ImageSet
    indices: NDArray[np.int64]
    recipe: TuneRecipe
    ctx: RunContext
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "evaluate": 0.0})

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.device = torch.device(resolve_device(self.ctx.device))
        # Devices and precision are the run's own, so two runs in one process cannot disagree.
        self._accelerator = Accelerator(
            cpu=self.device.type == "cpu", device_placement=False, mixed_precision="no"
        )
        self.model = Tunable(
            self.encoder,
            self.layer,
            num_classes=self.images.num_classes,
            drop_path=recipe.drop_path,
            freeze_patch_embed=recipe.freeze_patch_embed,
            train_positions=recipe.train_positions,
            head_init=recipe.head_init,
            seed=self.ctx.seed,
        ).to(self.device)
        self._groups = parameter_groups(
            self.model,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            layer_decay=recipe.layer_decay,
            decay_tokens=recipe.decay_tokens,
        )
        optimizer = torch.optim.AdamW(self._groups, betas=BETAS, eps=EPS)
        self._parallel, self._optimizer = self._accelerator.prepare(self.model, optimizer)
        self._scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.ctx.dtype == "float16" and self.device.type == "cuda"
        )
        automatic = min(128, automatic_batch_size(self.encoder.input_size, self.device))
        self._piece = self.ctx.batch_size or automatic

    def state(self) -> dict[str, Any]:
        """Weights, optimiser and loss scale; what `load` takes."""
        return {
            "model": self.weights(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])

    def weights(self) -> dict[str, Tensor]:
        """A copy of the weights on the CPU."""
        return {
            name: value.detach().to("cpu", copy=True)
            for name, value in self.model.state_dict().items()
        }

    def epoch(self, number: int) -> float:
        """Train one epoch; its mean loss over all processes.

        Raises:
            DivergedError: if the loss is not finite.
        """
        started, recipe = time.perf_counter(), self.recipe
        lr = deit_lr(number, lr=recipe.lr, epochs=recipe.epochs, warmup=recipe.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        rank, world = process_index(), num_processes()
        torch.manual_seed(
            int(np.random.default_rng([self.ctx.seed, number, rank, 3]).integers(2**62))
        )
        order = epoch_order(self.indices, seed=self.ctx.seed, epoch=number, repeats=recipe.repeats)
        steps = steps_of(len(order), recipe.batch)
        # DeiT drops the last, smaller batch; a set smaller than one batch is one step.
        steps = [s for s in steps if s.stop - s.start == recipe.batch] or steps
        shares = [np.arange(step.start, step.stop)[rank::world] for step in steps]
        progress = self.ctx.progress if rank == 0 else None
        if progress is not None:
            title = f"layer {self.layer}, epoch {number + 1} of {recipe.epochs}"
            progress.start(title, steps[-1].stop)
        self._parallel.train()
        losses = []
        source = EpochImages(self.images, order, self.ctx.seed, number)
        loaded = self._load(source, recipe.augmentation, shares)
        for index, (step, batch) in enumerate(zip(steps, loaded, strict=True)):
            rng = np.random.default_rng([self.ctx.seed, number, index, rank, 2])
            targets = torch.from_numpy(self.images.targets[order[batch.rows]])
            weight = world / (step.stop - step.start)
            losses.append(self._step(batch, targets, rng=rng, weight=weight))
            if progress is not None:
                progress.advance(step.stop - step.start)
        if progress is not None:
            progress.finish()
        self.seconds["train"] += time.perf_counter() - started
        mean = float(np.mean(gather_objects(float(np.mean(losses)))))
        if not np.isfinite(mean):
            raise DivergedError(
                f"Fine-tuning of layer {self.layer} diverged in epoch {number + 1}: the loss is "
                f"{mean}. Lower --set lr, or use --dtype float32."
            )
        return mean

    def _load(
        self, source: EpochImages, augmentation: RandomCropFlip, shares: Sequence[NDArray[np.int64]]
    ) -> Iterator[Batch]:
        loaded = batches(
            cast(ImageSet, source),
            cast(Any, augmentation),
            shares,
            device=self.device,
            num_workers=self.ctx.num_workers,
        )
        for batch in loaded:
            check_batch(batch, self.ctx, "training")
            yield batch

    def _step(
        self, batch: Batch, targets: Tensor, *, rng: np.random.Generator, weight: float
    ) -> float:
        """One optimiser step; the mean loss of this process's images."""
        assert batch.pixels is not None
        self._optimizer.zero_grad()
        pixels = move(batch.pixels.to(self.device), self.model.backbone)
        if self.recipe.erasing:
            pixels = erase(pixels, rng, probability=self.recipe.erasing)
        images, soft = self.recipe.mixing(
            pixels,
            targets.to(self.device),
            num_classes=self.images.num_classes,
            rng=rng,
        )
        total = 0.0
        starts = range(0, len(images), self._piece)
        for start in starts:
            part = slice(start, start + self._piece)
            # Processes exchange gradients once per step, with the last piece.
            last = start == starts[-1]
            sync = nullcontext() if last else self._accelerator.no_sync(self._parallel)
            with sync:
                with self._precision():
                    logits = self._parallel(images[part])
                loss = -(soft[part] * logits.float().log_softmax(-1)).sum()
                self._scaler.scale(loss * weight).backward()
            total += float(loss.detach())
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return total / len(images)

    def _precision(self) -> AbstractContextManager[Any]:
        reduced = self.ctx.dtype != "float32"
        return torch.autocast(
            self.device.type, dtype=DTYPES[self.ctx.dtype] if reduced else None, enabled=reduced
        )

    def grade(
        self, images: ImageSet, indices: NDArray[np.int64], *, whole: bool
    ) -> tuple[Graded, NDArray[np.int64], list[str]]:
        """Who is right among some images of a split: ranks, their indices, and unreadable images."""
        started = time.perf_counter()
        of_process = indices[process_index() :: num_processes()]
        groups = [of_process[a : a + self._piece] for a in range(0, len(of_process), self._piece)]
        self.model.eval()
        found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        bad: list[str] = []
        for batch in batches(
            images, self.recipe.preprocess, groups,
            device=self.device, num_workers=self.ctx.num_workers,
        ):  # fmt: skip
            check_batch(batch, self.ctx, images.split)
            bad += batch.bad.values()
            if batch.pixels is None:
                continue
            with torch.inference_mode(), self._precision():
                logits = self.model(move(batch.pixels, self.model.backbone)).float().cpu()
            ranks = ranks_of(logits, torch.from_numpy(images.targets[batch.rows]))
            found.append((batch.rows, ranks.numpy()))
        everyone = [one for share in gather_objects(found) for one in share]
        rows = np.concatenate([one for one, _ in everyone])
        ranks_by_row = np.concatenate([one for _, one in everyone])[rows.argsort()]
        rows = np.sort(rows)
        self.seconds["evaluate"] += time.perf_counter() - started
        graded = grade(
            ranks_by_row, images.targets[rows], num_classes=images.num_classes, whole=whole
        )
        return graded, rows, [text for share in gather_objects(bad) for text in share]


def check_batch(batch: Batch, ctx: RunContext, what: str) -> None:
    """Refuse unreadable images unless they may be skipped.

    Raises:
        TaskError: naming the first.
    """
    if batch.bad and (ctx.on_bad_image == "error" or batch.pixels is None):
        raise TaskError(
            f"{len(batch.bad)} {what} images of a batch cannot be read, the first: "
            f"{next(iter(batch.bad.values()))}. Repair them, or leave them out with "
            "--on-bad-image skip."
        )


def size_of(model: nn.Module) -> int:
    """Trainable numbers of a model."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
