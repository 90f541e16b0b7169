"""What training linear heads by SGD will cost: from a few batches, steps and looks at the watched split."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from sdssl_bench.datasets import ClassificationData, preprocess
from sdssl_bench.encoders import Encoder
from sdssl_bench.features import batch_seconds, extract_work, placed
from sdssl_bench.probes.augment import EpochImages, epoch_order, steps_of
from sdssl_bench.probes.linear.inputs import needed
from sdssl_bench.probes.linear.sgd_probe import EVAL_ROWS, SgdRecipe, Trainer
from sdssl_bench.probes.linear.sgd_scores import training_state
from sdssl_bench.probes.scores import ranks_of
from sdssl_bench.probes.val_split import validation_mask
from sdssl_bench.system import Work
from sdssl_bench.task import RunContext, limited_indices

STEPS = 3
"""Of the heads, timed after a first one."""


def sgd_work(
    encoder: Encoder,
    data: ClassificationData,
    layers: Sequence[int],
    *,
    kinds: Sequence[str],
    rates: Sequence[float],
    recipe: SgdRecipe,
    transform: str,
    val_fraction: float,
    ctx: RunContext,
) -> Iterator[Work]:
    """What `score_sgd_layers` would do with the same arguments."""
    competing = len(kinds) * len(rates) > 1
    used, poolings = needed(kinds, layers)
    steps = preprocess(transform, encoder.input_size)
    for images in (data.test, *([data.train] if competing else [])):
        yield extract_work(encoder, images, used, poolings=poolings, preprocess=steps, ctx=ctx)
    indices = limited_indices(len(data.train), ctx.limit)
    watched = len(limited_indices(len(data.test), ctx.limit))
    if competing:
        mask = validation_mask(data.train, indices, fraction=val_fraction)
        indices, watched = indices[~mask], int(mask.sum())
    inputs = [(layer, kind) for layer in layers for kind in kinds]
    trainer = Trainer(encoder, data.train, indices, inputs, rates, recipe, ctx)
    saved = training_state(encoder, data, trainer, steps=steps, ctx=ctx).load()
    epochs = recipe.epochs - (0 if saved is None else int(saved["epochs"]))
    each = recipe.iterations * recipe.batch or len(indices)
    yield Work(
        what="training of heads",
        items=epochs * each,
        unit="images",
        stored=(recipe.epochs - epochs) * each,
        measure=lambda: epochs * (_epoch(trainer, each) + _watching(trainer, watched)),
        memory=4 * recipe.batch * sum(trainer.widths),
    )


def _epoch(trainer: Trainer, each: int) -> float:
    """Seconds of an epoch of so many images."""
    recipe, ctx = trainer.recipe, trainer.ctx
    order = epoch_order(trainer.indices, seed=ctx.seed, epoch=0, count=each)
    steps = steps_of(each, recipe.batch)
    pieces, _ = trainer.pieces(steps)
    with placed(trainer.encoder, trainer.device):
        passing = batch_seconds(
            EpochImages(trainer.images, order, ctx.seed, 0),  # type: ignore[arg-type]
            recipe.augmentation,  # type: ignore[arg-type]
            pieces,
            trainer.forward,
            ctx=ctx,
        )
    rows = _noise(trainer, min(each, recipe.batch))
    targets = torch.zeros(len(rows[0]), dtype=torch.int64)
    trainer.heads.step(rows, targets, 0.0)
    started = time.perf_counter()
    for _ in range(STEPS):
        trainer.heads.step(rows, targets, 0.0)
    return passing + (time.perf_counter() - started) / STEPS * len(steps)


def _watching(trainer: Trainer, count: int) -> float:
    """Seconds of scoring the heads on so many images."""
    rows = _noise(trainer, min(count, EVAL_ROWS))
    targets = torch.zeros(len(rows[0]), dtype=torch.int64)
    started = time.perf_counter()
    for logits in trainer.heads.logits(rows):
        ranks_of(logits, targets.to(logits.device)).cpu()
    return (time.perf_counter() - started) * count / max(1, len(rows[0]))


def _noise(trainer: Trainer, count: int) -> list[Tensor]:
    rng = np.random.default_rng(0)
    return [
        torch.from_numpy(rng.standard_normal((count, width), np.float32))
        for width in trainer.widths
    ]
