"""From trained heads to the scores of each layer; what chose them, and which diverged."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sdssl_bench.datasets import ClassificationData, Preprocess, preprocess
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import TaskError
from sdssl_bench.features import FeatureBank, extract, feature_identity, skipped_images
from sdssl_bench.probes.linear.inputs import needed
from sdssl_bench.probes.linear.sgd_probe import Curves, Input, SgdRecipe, Trainer, Watched, all_rows
from sdssl_bench.probes.linear.state import TrainingState
from sdssl_bench.probes.scores import Graded, is_whole
from sdssl_bench.probes.val_split import validation_mask
from sdssl_bench.system import is_main_process
from sdssl_bench.task import LayerScores, RunContext, limited_indices


def score_sgd_layers(
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
) -> Iterator[LayerScores]:
    """Train all heads of all layers at once and score each layer.

    Args:
        encoder: frozen.
        data: the dataset.
        layers: any of 1..L.
        kinds: what heads see of a layer; all of them compete if there are several.
        rates: learning rates; all of them compete if there are several.
        recipe: of the training.
        transform: preprocessing of images that are not augmented.
        val_fraction: of train, where several heads compete and validation is not predefined.
        ctx: everything else.

    Raises:
        TaskError: once all others are yielded, if every head of some layer diverged.
    """
    inputs: list[Input] = [(layer, kind) for layer in layers for kind in kinds]
    competing = len(kinds) * len(rates) > 1
    used, poolings = needed(kinds, layers)
    steps = preprocess(transform, encoder.input_size)
    splits = {"test": data.test, **({"train": data.train} if competing else {})}
    banks = {
        split: extract(encoder, images, used, poolings=poolings, preprocess=steps, ctx=ctx)
        for split, images in splits.items()
    }
    test = Watched(
        "test",
        banks["test"],
        all_rows(banks["test"]),
        inputs,
        data.train.num_classes,
        is_whole(data, banks["test"].indices),
    )
    indices, watch = limited_indices(len(data.train), ctx.limit), test
    if competing:
        bank = banks["train"]
        mask = validation_mask(data.train, bank.indices, fraction=val_fraction)
        indices = bank.indices[~mask]
        watch = Watched("val", bank, np.flatnonzero(mask), inputs, data.train.num_classes, False)
    trainer = Trainer(encoder, data.train, indices, inputs, rates, recipe, ctx)
    state = training_state(encoder, data, trainer, steps=steps, ctx=ctx)
    curves = trainer.train(state, watch)
    if is_main_process():
        yield from _scores(trainer, curves, test, data, layers, kinds, banks, competing)
    state.remove()


def training_state(
    encoder: Encoder,
    data: ClassificationData,
    trainer: Trainer,
    *,
    steps: Preprocess,
    ctx: RunContext,
) -> TrainingState:
    """Where a training goes on if it was interrupted; `steps` is the preprocessing of watched images."""
    recipe = trainer.recipe
    return TrainingState(
        ctx.cache_dir,
        f"linear-{data.name}",
        {
            "task": "linear/sgd/1",
            "features": feature_identity(
                encoder, data.train, preprocess=steps, dtype=ctx.dtype, bank_dtype=ctx.bank_dtype
            ),
            **encoder.place,
            "test": data.test.fingerprint,
            "inputs": [list(one) for one in trainer.inputs],
            "rates": list(trainer.rates),
            "recipe": [
                recipe.epochs, recipe.batch, recipe.iterations, recipe.per_epoch, recipe.init,
                recipe.batch_norm, dict(recipe.augmentation.describe()),
            ],
            "images": hashlib.sha256(trainer.indices.tobytes()).hexdigest(),
            "seed": ctx.seed,
            "on_bad_image": ctx.on_bad_image,
        },
    )  # fmt: skip


def _scores(
    trainer: Trainer,
    curves: Curves,
    test: Watched,
    data: ClassificationData,
    layers: Sequence[int],
    kinds: Sequence[str],
    banks: dict[str, FeatureBank],
    competing: bool,
) -> Iterator[LayerScores]:
    graded = test.grade(trainer.heads)
    diverged = np.asarray(trainer.heads.diverged)
    watched = np.array(getattr(curves, data.headline))  # [epochs, I, R]
    seconds = {**trainer.seconds, **_extraction(banks)}
    lost = []
    for place, layer in enumerate(layers):
        of_layer = slice(place * len(kinds), (place + 1) * len(kinds))
        final = np.where(diverged[of_layer] < 0, watched[-1, of_layer], -1.0)
        # Of equal heads the first: the first input, then the first rate of the protocol.
        kind, rate = np.unravel_index(int(final.argmax()), final.shape)
        if final[kind, rate] < 0:
            lost.append(f"layer {layer} at step {diverged[of_layer].max()}")
            continue
        head = of_layer.start + int(kind), int(rate)
        curve = {
            "train_loss": [_number(epoch[head[0]][head[1]]) for epoch in curves.loss],
            f"{'val' if competing else 'test'}/{data.headline}": watched[
                :, head[0], head[1]
            ].tolist(),
        }
        one = graded[head[0]][head[1]]
        yield LayerScores(
            layer=layer,
            metrics={**one.metrics(), **_beside(curves, head, data.headline, competing)},
            n=len(one.targets),
            items=_items(one, banks["test"]),
            seconds=seconds,
            notes={
                "curve": curve,
                "train_images": len(trainer.indices),
                "epoch": "last",
                **_competition(trainer, of_layer, head, watched[-1], competing),
                **_diverged(trainer, of_layer),
                **skipped_images(banks),
            },
        )
        seconds = {}
    if lost:
        raise TaskError(
            f"SGD diverged in every head of {', '.join(lost)}; all other layers are stored. Choose a "
            "lower rate (--set lr=...), normalise the features (--set batch_norm=true), or use "
            "--protocol logreg."
        )


def _beside(
    curves: Curves, head: tuple[int, int], headline: str, competing: bool
) -> dict[str, float]:
    """The best epoch, labelled by the split that shows it; validation of the last where it chose."""
    values = {name: [epoch[head[0]][head[1]] for epoch in getattr(curves, name)]
              for name in ("top1", "mean_per_class")}  # fmt: skip
    if competing:
        return {f"val/{headline}": values[headline][-1]}
    return {f"best_epoch_on_test/{name}": max(curve) for name, curve in values.items()}


def _competition(
    trainer: Trainer, of_layer: slice, head: tuple[int, int], last: Any, competing: bool
) -> dict[str, Any]:
    if not competing:
        return {"lr": trainer.rates[0]}
    layer_inputs = trainer.inputs[of_layer]
    return {
        "lr": trainer.rates[head[1]],
        "features": trainer.inputs[head[0]][1],
        "val_of_heads": [
            {"features": kind, "lr": rate, "val": _number(last[of_layer][row][column])}
            for row, (_, kind) in enumerate(layer_inputs)
            for column, rate in enumerate(trainer.rates)
            if trainer.heads.diverged[of_layer][row][column] < 0
        ],
    }


def _diverged(trainer: Trainer, of_layer: slice) -> dict[str, Any]:
    found = [
        {
            "features": trainer.inputs[of_layer][row][1],
            "lr": trainer.rates[column],
            "step": int(step),
        }
        for row, steps in enumerate(trainer.heads.diverged[of_layer].tolist())
        for column, step in enumerate(steps)
        if step >= 0
    ]
    return {"diverged_heads": found} if found else {}


def _items(graded: Graded, bank: FeatureBank) -> dict[str, Any]:
    return {"index": bank.indices, "target": bank.targets, "correct": graded.correct}


def _extraction(banks: dict[str, FeatureBank]) -> dict[str, float]:
    return {f"{s}/{phase}": t for s, bank in banks.items() for phase, t in bank.seconds.items()}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
