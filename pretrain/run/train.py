"""The training run: accelerate for processes and precision, everything else in the open.

Schedules are assigned by us at every step (accelerate would step a scheduler once per process).
A run stops cleanly on SIGTERM and SIGINT, and goes on bit for bit on a CPU with --resume auto.
"""

import importlib.util
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdssl_bench.errors import UsageError
from sdssl_bench.pretrain.data.device_views import normalised
from sdssl_bench.pretrain.data.feeding import Feed, open_feed
from sdssl_bench.pretrain.objective import schedules
from sdssl_bench.pretrain.objective.assembly import build_model, build_optimizer
from sdssl_bench.pretrain.objective.sdssl import SDSSL
from sdssl_bench.pretrain.objective.slices import backward
from sdssl_bench.pretrain.run import snapshots
from sdssl_bench.pretrain.run.collapse import alarm
from sdssl_bench.pretrain.run.config import PretrainConfig
from sdssl_bench.pretrain.run.exports import FINAL, knn_records
from sdssl_bench.pretrain.run.launcher import brought_along, check_launcher
from sdssl_bench.pretrain.run.run_folder import RunFolder
from sdssl_bench.pretrain.run.runlog import RunLog
from sdssl_bench.pretrain.run.skipped_steps import SkippedSteps
from sdssl_bench.pretrain.run.stopping import Interrupted, stop_signals
from sdssl_bench.system import Progress, distributed

SIGNAL_EVERY = 10
"""Steps between the moments when several processes agree whether one of them was told to stop."""


def train(config: PretrainConfig, out: Path, *, resume: str | None = None) -> Path:
    """Pretrains an encoder; returns the self-describing checkpoint of the finished run.

    Args:
        config: from `presets.resolve`.
        out: folder for snapshots, encoders, log and results.
        resume: "auto" goes on from the newest snapshot in `out` if there is one, or a snapshot's
            path; None starts anew, and refuses a folder that holds a run.

    Raises:
        UsageError: for settings that cannot be on this machine, or do not fit the snapshot.
        DataError: if images are missing or the folder cannot be written.
        TaskError: if the loss or the weights stop being finite.
        Interrupted: after SIGTERM or SIGINT.
    """
    if config.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise UsageError(
            f"Recipe {config.recipe} trains in fp16, which needs a GPU: add --mixed-precision no or bf16."
        )
    _check_tracker(config.log_with)
    check_launcher(config.mixed_precision)
    from accelerate import Accelerator

    # First, so that the group is made with the suite's patience: k-NN on one process takes its time.
    distributed.join()
    torch.manual_seed(config.seed)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision, log_with=config.log_with, project_dir=str(out)
    )
    with Progress(quiet=not accelerator.is_main_process) as progress:
        run = Run(config, out, accelerator=accelerator, progress=progress)
        try:
            return run.go(resume)
        finally:
            run.folder.close()


def _check_tracker(name: str | None) -> None:
    """Accelerate only warns where a tracker's package is missing, and trains without it."""
    if name is not None and importlib.util.find_spec(name) is None:
        raise UsageError(
            f"--log-with {name} needs the package {name}, which is not installed: "
            f"pip install {name}. The JSON-lines log is written in any case."
        )


class Run:
    """One training run in one process."""

    def __init__(
        self, config: PretrainConfig, out: Path, *, accelerator: Any, progress: Progress
    ) -> None:
        self.config, self.out = config, out
        self.accelerator, self.progress = accelerator, progress
        world = accelerator.num_processes
        if config.batch_size % (world * config.accumulate):
            raise UsageError(
                f"--batch-size {config.batch_size} is no multiple of {world} processes times "
                f"--accumulate {config.accumulate}."
            )
        if config.batch_size // (world * config.accumulate) < 2:
            raise UsageError(
                f"--batch-size {config.batch_size} leaves 1 image for a slice of each of {world} "
                f"processes (--accumulate {config.accumulate}); batch-norm needs 2."
            )
        core = build_model(config)
        if world > 1 and accelerator.device.type == "cuda":
            core = nn.SyncBatchNorm.convert_sync_batchnorm(core)
        core.to(accelerator.device)
        self.core: SDSSL = core
        self.feed: Feed = open_feed(
            config,
            size=core.student.input_size,
            rank=accelerator.process_index,
            world_size=world,
        )
        self.total = self.feed.per_epoch * config.epochs
        self.last = self.feed.per_epoch * (config.stop_epoch or config.epochs)
        optimizer = build_optimizer(core, config)
        self.skips = SkippedSteps(optimizer, accelerator.device)
        self.model, self.optimizer = accelerator.prepare(core, optimizer)
        self.folder = RunFolder(
            out,
            config,
            accelerator=accelerator,
            model=core,
            optimizer=self.optimizer,
            layout={"processes": world, **self.feed.layout},
        )
        self.mean, self.std = (
            torch.tensor(values, device=accelerator.device)
            for values in (core.student.mean, core.student.std)
        )

    def go(self, resume: str | None) -> Path:
        """Trains from the first step, or the snapshot's, to the last."""
        start = self.folder.open(resume)
        if start:
            self.progress.message(f"resumed after step {start:,}")
        log = RunLog(
            self.accelerator,
            self.out / "log.jsonl",
            progress=self.progress,
            start=start,
            total=self.total,
            per_epoch=self.feed.per_epoch,
        )
        if self.config.log_with:
            self.accelerator.init_trackers("sdssl-bench", config=self.config.to_json())
        log.event({"step": start, "launch": self._launch()})
        self.progress.start("pretraining", self.last - start, "steps")
        with stop_signals() as stopping:
            self._catch_up(start, log)
            self._loop(start, log, stopping)
        self.progress.finish()
        final = self.out / FINAL
        self.folder.export(final, epoch=self.last / self.feed.per_epoch)
        self.accelerator.end_training()
        return final

    def _launch(self) -> dict[str, Any]:
        accelerator = self.accelerator
        return {
            "processes": accelerator.num_processes,
            "device": str(accelerator.device),
            "mixed_precision": accelerator.mixed_precision,
            **brought_along(),
        }

    def _catch_up(self, start: int, log: RunLog) -> None:
        """What is due at the first step: a run may have been stopped between its snapshot and these."""
        scoring = bool(self.config.knn) and self._scored_after(start)
        if start or scoring:
            path = self.folder.export(epoch=start / self.feed.per_epoch)
        if scoring and not distributed.broadcast(log.scored):
            self._evaluate(path, start, log)

    def _scored_after(self, done: int) -> bool:
        return done % (self.feed.per_epoch * self.config.knn_every) == 0 or done == self.last

    def _loop(self, start: int, log: RunLog, stopping: list[int]) -> None:
        config, per_epoch = self.config, self.feed.per_epoch
        saved = snapshots.newest(self.out)
        self.model.train()
        log.rest()
        waiting = time.perf_counter()
        for step, (pixels, drawn) in enumerate(self.feed.batches(start, self.last), start):
            waited = time.perf_counter() - waiting
            values = self.schedule(step)
            self.skips.before()
            terms = self._step(pixels, drawn, **values)
            skipped = self.skips.last()
            log.add(step, terms, images=config.batch_size, waited=waited, skipped=skipped)
            self.progress.advance()
            done = step + 1
            signal = self._signal(stopping, done)
            saving = done % (per_epoch * config.save_every) == 0 or done == self.last or signal
            evaluating = bool(config.knn) and self._scored_after(done)
            if done % config.log_every == 0 or saving or evaluating:
                log.write(done, log.check(last_good=saved), **values)
            if done % config.collapse_every == 0:
                features = self.accelerator.gather(terms.features)
                if not features.isfinite().all():
                    log.check(last_good=saved)
                measures, warning = alarm(features)
                log.event({"step": done, **measures})
                if warning:
                    log.warn(done, warning)
            if saving:
                saved = self.folder.save(done, last_good=saved)
            if saving or evaluating:
                path = self.folder.export(epoch=done / per_epoch)
                if evaluating:
                    self._evaluate(path, done, log)
                log.rest()
            if signal:
                raise Interrupted(
                    128 + signal,
                    f"stopped by signal {signal} after step {done}; saved to {saved}. The same command "
                    "with --resume auto goes on from there.",
                )
            waiting = time.perf_counter()

    def schedule(self, step: int) -> dict[str, float]:
        """Learning rate, alpha and momentum of a step."""
        config = self.config
        return {
            "lr": schedules.learning_rate(
                step,
                self.total,
                peak=config.base_lr * config.batch_size / 256,
                warmup=round(config.warmup_epochs * self.feed.per_epoch),
                rule=config.warmup_rule,
            ),
            "alpha": schedules.alpha(
                step, self.total, final=config.alpha_max, schedule=config.alpha_schedule
            ),
            "momentum": schedules.ema_momentum(step, self.total, start=config.ema_start),
        }

    def _step(self, pixels: Any, drawn: Any, *, lr: float, alpha: float, momentum: float) -> Any:
        config, device = self.config, self.accelerator.device
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if config.ema_timing == "before":
            self.core.update_teacher(momentum)
        pixels = pixels.to(device, non_blocking=True)
        # Both views at once: half the operations, and at 32 px their number is what a GPU waits for.
        draws = drawn.flatten(0, 1) if config.device_views else None
        images = normalised(pixels.flatten(0, 1), draws, mean=self.mean, std=self.std)
        view1, view2 = images.unflatten(0, pixels.shape[:2])
        terms = backward(
            self.accelerator,
            self.model,
            view1,
            view2=view2,
            alpha=alpha,
            beta=config.beta,
            slices=config.accumulate,
        )
        self.optimizer.step()
        self.optimizer.zero_grad()
        if config.ema_timing == "after":
            self.core.update_teacher(momentum)
        return terms

    def _signal(self, stopping: list[int], done: int) -> int:
        """The signal that told any process to stop, 0 if none did; the same in all of them."""
        mine = stopping[0] if stopping else 0
        if self.accelerator.num_processes == 1:
            return mine
        if done % SIGNAL_EVERY:
            return 0
        received = torch.tensor([mine], device=self.accelerator.device)
        return int(self.accelerator.gather(received).max())

    def _evaluate(self, path: Path, step: int, log: RunLog) -> None:
        """All-layer k-NN of a written encoder, into the run's records and log."""
        for event, text in knn_records(
            path, self.config, self.out, device=str(self.accelerator.device)
        ):
            log.event({"step": step, **event})
            self.progress.message(text)
