"""Fine-tunes layers one after another, keeps what validation chose, and scores it on test once."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.datasets import ClassificationData
from sdssl_bench.encoders import Encoder
from sdssl_bench.errors import TaskError
from sdssl_bench.features import feature_identity
from sdssl_bench.probes.finetuning.recipe import DivergedError, TuneRecipe, Tuning, size_of
from sdssl_bench.probes.linear.state import TrainingState
from sdssl_bench.probes.scores import Graded, is_whole
from sdssl_bench.probes.val_split import validation_mask
from sdssl_bench.rounding import percent
from sdssl_bench.system import broadcast, is_main_process, num_processes
from sdssl_bench.task import LayerScores, RunContext, limited_indices

SELECT = ("val", "test", "last")
"""Which epoch is reported: best on validation (then tested once), best on test, or the last."""


@dataclass(eq=False)
class History:
    """What is known of the epochs so far.

    Attributes:
        train_loss: per epoch.
        read: epochs, from 1, after which the watched split was read; none if no split is watched.
        top1, mean_per_class: per reading.
        best: reading with the best watched accuracy so far, -1 before the first; of equals the first.
    """

    train_loss: list[float] = field(default_factory=list)
    read: list[int] = field(default_factory=list)
    top1: list[float] = field(default_factory=list)
    mean_per_class: list[float] = field(default_factory=list)
    best: int = -1


@dataclass(frozen=True, eq=False)
class Job:
    """What all layers have in common.

    Attributes:
        select: one of SELECT.
        metric: accuracy that chooses the epoch, "top1" or "mean_per_class".
        watch_every: epochs between two readings of the watched split.
        fit: training images that train.
        watched: indices of the images of `watched_split` that are scored after each epoch.
        test: indices of the test images.
    """

    data: ClassificationData
    recipe: TuneRecipe
    select: str
    metric: str
    watch_every: int
    fit: NDArray[np.int64]
    watched: NDArray[np.int64]
    test: NDArray[np.int64]
    ctx: RunContext


def make_job(
    data: ClassificationData,
    recipe: TuneRecipe,
    *,
    select: str,
    metric: str,
    watch_every: int,
    val_fraction: float,
    ctx: RunContext,
) -> Job:
    """Decides which images train, which choose the epoch, which test."""
    train = limited_indices(len(data.train), ctx.limit)
    test = limited_indices(len(data.test), ctx.limit)
    watched = {"test": test, "last": test[:0]}.get(select)
    if watched is None:
        mask = validation_mask(data.train, train, fraction=val_fraction)
        train, watched = train[~mask], train[mask]
    return Job(data, recipe, select, metric, watch_every, train, watched, test, ctx)


def score_tuned_layers(encoder: Encoder, layers: Sequence[int], job: Job) -> Iterator[LayerScores]:
    """Fine-tune and score each layer.

    Raises:
        TaskError: once all others are yielded, if the training of a layer diverged.
    """
    lost = []
    for layer in layers:
        try:
            scores = _score_layer(encoder, layer, job)
        except DivergedError as error:
            lost.append(str(error))
            continue
        if is_main_process():
            yield scores
    if lost:
        raise TaskError(" ".join(lost))


def _score_layer(encoder: Encoder, layer: int, job: Job) -> LayerScores:
    tuning = Tuning(encoder, layer, job.data.train, job.fit, job.recipe, job.ctx)
    state = TrainingState(
        job.ctx.cache_dir, f"finetune-{job.data.name}", _facts(encoder, layer, job)
    )
    history, best, kept = _train(tuning, job, state)
    if job.select == "test":
        # Test was read after every epoch, and the best of these readings is what is reported.
        assert kept is not None
        graded, rows, bad = kept
    else:
        if best is not None:
            tuning.model.load_state_dict(best)
        graded, rows, bad = tuning.grade(
            job.data.test, job.test, whole=is_whole(job.data, job.test)
        )
    scores = _scores(tuning, job, history, graded, rows, bad)
    state.remove()
    return scores


def _train(
    tuning: Tuning, job: Job, state: TrainingState
) -> tuple[History, dict[str, Tensor] | None, tuple[Graded, NDArray[np.int64], list[str]] | None]:
    """All epochs, going on from `state`; the best weights, or the best reading of test."""
    history, best = History(), None
    kept: tuple[Graded, NDArray[np.int64], list[str]] | None = None
    saved = broadcast(state.load() if is_main_process() else None)
    if saved is not None:
        tuning.load(saved["tuning"])
        history, best = History(**saved["history"]), saved["best"]
        if saved["kept"] is not None:
            ranks, rows, bad = saved["kept"]
            rows = rows.numpy()
            kept = (_regrade(ranks.numpy(), rows, job), rows, bad)
        _say(tuning, f"goes on after epoch {len(history.train_loss)} of {job.recipe.epochs}")
    for epoch in range(len(history.train_loss), job.recipe.epochs):
        history.train_loss.append(tuning.epoch(epoch))
        if _is_read(epoch, job):
            split = job.data.test if job.select == "test" else job.data.train
            whole = job.select == "test" and is_whole(job.data, job.watched)
            reading = tuning.grade(split, job.watched, whole=whole)
            metrics = reading[0].metrics()
            history.read.append(epoch + 1)
            history.top1.append(metrics["top1"])
            history.mean_per_class.append(metrics["mean_per_class"])
            values = getattr(history, job.metric)
            if history.best < 0 or values[-1] > values[history.best]:
                history.best = len(values) - 1
                if job.select == "test":
                    kept = reading
                else:
                    best = tuning.weights()
        _say(tuning, _state_of(history, job))
        if state.due():
            state.save(
                {
                    "tuning": tuning.state(),
                    "history": vars(history),
                    "best": best,
                    "kept": None if kept is None else _tensors(kept),
                }
            )
    return history, best, kept


def _is_read(epoch: int, job: Job) -> bool:
    """Whether the watched split is read after this epoch: at every so many, and after the last."""
    last = epoch + 1 == job.recipe.epochs
    return len(job.watched) > 0 and (last or (epoch + 1) % job.watch_every == 0)


def _say(tuning: Tuning, text: str) -> None:
    if tuning.ctx.progress is not None and is_main_process():
        tuning.ctx.progress.message(f"layer {tuning.layer}, {text}")


def _state_of(history: History, job: Job) -> str:
    """The last epoch in one line: loss, and the watched accuracy beside its best."""
    text = (
        f"epoch {len(history.train_loss)} of {job.recipe.epochs}: loss {history.train_loss[-1]:.3f}"
    )
    if history.best < 0 or history.read[-1] < len(history.train_loss):
        return text
    values = getattr(history, job.metric)
    return (
        f"{text}, {job.select} {job.metric} {percent(values[-1])}, best "
        f"{percent(values[history.best])} in epoch {history.read[history.best]}"
    )


def _tensors(kept: tuple[Graded, NDArray[np.int64], list[str]]) -> tuple[Tensor, Tensor, list[str]]:
    import torch

    return torch.from_numpy(kept[0].ranks), torch.from_numpy(kept[1]), kept[2]


def _regrade(ranks: NDArray[np.int64], rows: NDArray[np.int64], job: Job) -> Graded:
    classes = None if is_whole(job.data, rows) else np.unique(job.data.test.targets[rows])
    return Graded(ranks, job.data.test.targets[rows], job.data.train.num_classes, classes)


def _scores(
    tuning: Tuning,
    job: Job,
    history: History,
    graded: Graded,
    rows: NDArray[np.int64],
    bad: list[str],
) -> LayerScores:
    on_test = "best_epoch_on_test/" if job.select == "test" else ""
    metrics = {f"{on_test}{name}": value for name, value in graded.metrics().items()}
    watched = {name: getattr(history, name) for name in ("top1", "mean_per_class")}
    split = "val" if job.select == "val" else "test"
    curve: dict[str, Any] = {"train_loss": history.train_loss}
    if len(job.watched):
        curve |= {f"{split}/{name}": values for name, values in watched.items()}
        curve[f"{split}/epoch"] = history.read
    if job.select == "test":
        metrics |= {name: values[-1] for name, values in watched.items()}
    if job.select == "val":
        metrics[f"val/{job.metric}"] = watched[job.metric][history.best]
    skipped = {"skipped_images": {"test": {"count": len(bad), "first": bad[:20]}}} if bad else {}
    return LayerScores(
        layer=tuning.layer,
        metrics=metrics,
        n=len(graded.targets),
        items={"index": rows, "target": graded.targets, "correct": graded.correct},
        seconds=tuning.seconds,
        notes={
            "epoch": history.read[history.best] if history.read else job.recipe.epochs,
            "epoch_chosen_on": {"val": "validation", "test": "test", "last": "nothing: last"}[
                job.select
            ],
            "curve": curve,
            "images": {"fit": len(job.fit), "watched": len(job.watched)},
            "trained_parameters": size_of(tuning.model),
            **skipped,
        },
    )


def _facts(encoder: Encoder, layer: int, job: Job) -> dict[str, Any]:
    recipe, ctx = job.recipe, job.ctx
    settings = {
        name: value
        for name, value in vars(recipe).items()
        if name not in ("mixing", "augmentation", "preprocess")
    }
    return {
        "task": "finetune/2",
        "encoder": feature_identity(
            encoder,
            job.data.train,
            preprocess=recipe.preprocess,
            dtype=ctx.dtype,
            bank_dtype="float32",
        ),
        "layer": layer,
        "test": job.data.test.fingerprint,
        "settings": settings,
        "mixing": vars(recipe.mixing),
        "augmentation": dict(recipe.augmentation.describe()),
        "select": job.select,
        "metric": job.metric,
        "watch_every": job.watch_every,
        "images": [
            hashlib.sha256(part.tobytes()).hexdigest() for part in (job.fit, job.watched, job.test)
        ],
        "seed": ctx.seed,
        "processes": num_processes(),
        "piece": ctx.batch_size,
        "on_bad_image": ctx.on_bad_image,
    }
