"""The training run: accelerate for processes and precision, everything else in the open.

Schedules are assigned by us at every step (accelerate would step a scheduler once per process).
A run stops cleanly on SIGTERM and SIGINT, and goes on bit for bit on a CPU with --resume auto.
"""

import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdssl_bench import distributed
from sdssl_bench.errors import UsageError
from sdssl_bench.pretrain import schedules, snapshots
from sdssl_bench.pretrain.assembly import build_model, build_optimizer
from sdssl_bench.pretrain.collapse import alarm
from sdssl_bench.pretrain.config import PretrainConfig
from sdssl_bench.pretrain.device_views import finish
from sdssl_bench.pretrain.exports import ENCODERS, FINAL, export, knn_records
from sdssl_bench.pretrain.feeding import Feed, open_feed
from sdssl_bench.pretrain.runlog import RunLog
from sdssl_bench.pretrain.sdssl import SDSSL
from sdssl_bench.pretrain.slices import backward
from sdssl_bench.pretrain.stopping import Interrupted, stop_signals
from sdssl_bench.progress import Progress

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
        TaskError: if the loss stops being finite.
        Interrupted: after SIGTERM or SIGINT.
    """
    if config.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise UsageError(
            f"Recipe {config.recipe} trains in fp16, which needs a GPU: add --mixed-precision no or bf16."
        )
    _check_tracker(config.log_with)
    from accelerate import Accelerator

    # First, so that the group is made with the suite's patience: k-NN on one process takes its time.
    distributed.join()
    torch.manual_seed(config.seed)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision, log_with=config.log_with, project_dir=str(out)
    )
    with Progress(quiet=not accelerator.is_main_process) as progress:
        return Run(config, out, accelerator=accelerator, progress=progress).go(resume)


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
        self.model, self.optimizer = accelerator.prepare(core, build_optimizer(core, config))
        self.layout = {"processes": world, **self.feed.layout}
        self.mean, self.std = (
            torch.tensor(values, device=accelerator.device)
            for values in (core.student.mean, core.student.std)
        )

    def go(self, resume: str | None) -> Path:
        """Trains from the first step, or the snapshot's, to the last."""
        self._prepare_folder(resume)
        start = self._restore(resume)
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
        self.progress.start("pretraining", self.last - start, "steps")
        with stop_signals() as stopping:
            self._loop(start, log, stopping)
        self.progress.finish()
        final = self.out / FINAL
        self._export(final, epoch=self.last / self.feed.per_epoch)
        self.accelerator.end_training()
        return final

    def _loop(self, start: int, log: RunLog, stopping: list[int]) -> None:
        config, per_epoch = self.config, self.feed.per_epoch
        saved = snapshots.newest(self.out)
        if start == 0 and config.knn:
            self._evaluate(self._export(epoch=0.0), 0, log)
        self.model.train()
        log.rest()
        waiting = time.perf_counter()
        for step, (pixels, drawn) in enumerate(self.feed.batches(start, self.last), start):
            waited = time.perf_counter() - waiting
            values = self.schedule(step)
            terms = self._step(pixels, drawn, **values)
            log.add(step, terms, images=config.batch_size, waited=waited)
            self.progress.advance()
            done = step + 1
            told = self._told(stopping, done)
            saving = done % (per_epoch * config.save_every) == 0 or done == self.last or told
            evaluating = bool(config.knn) and (
                done % (per_epoch * config.knn_every) == 0 or done == self.last
            )
            if done % config.log_every == 0 or saving or evaluating:
                log.write(done, log.check(last_good=saved), **values)
            if done % config.collapse_every == 0:
                measures, warning = alarm(self.accelerator.gather(terms.features))
                log.event({"step": done, **measures})
                if warning:
                    log.warn(done, warning)
            if saving:
                saved = self._save(done)
            if saving or evaluating:
                path = self._export(epoch=done / per_epoch)
                if evaluating:
                    self._evaluate(path, done, log)
                log.rest()
            if told:
                raise Interrupted(
                    128 + told,
                    f"stopped by signal {told} after step {done}; saved to {saved}. The same command "
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
        draws = drawn.to(device, non_blocking=True) if config.device_views else (None, None)
        view1, view2 = (
            finish(p, d, mean=self.mean, std=self.std) for p, d in zip(pixels, draws, strict=True)
        )
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

    def _told(self, stopping: list[int], done: int) -> int:
        """The signal that told any process to stop, 0 if none did; the same in all of them."""
        mine = stopping[0] if stopping else 0
        if self.accelerator.num_processes == 1:
            return mine
        if done % SIGNAL_EVERY:
            return 0
        told = torch.tensor([mine], device=self.accelerator.device)
        return int(self.accelerator.gather(told).max())

    def _prepare_folder(self, resume: str | None) -> None:
        """Refuses an unsuitable folder before the first step, in every process alike."""
        parameters = sum(p.numel() for p in self.core.parameters())
        trained = sum(p.numel() for p in self.core.parameters() if p.requires_grad)
        size = 4 * (parameters + 2 * trained)
        if self.accelerator.is_local_main_process:
            if resume is None and snapshots.newest(self.out):
                raise UsageError(
                    f"--out {self.out} holds a run already. Go on with --resume auto, or choose "
                    "another folder."
                )
            snapshots.prepare_folder(self.out, needed=size * (self.config.keep + 1))
            (self.out / "config.json").write_text(json.dumps(self.config.to_json(), indent=1))
        self.accelerator.wait_for_everyone()

    def _restore(self, resume: str | None) -> int:
        path = snapshots.newest(self.out) if resume == "auto" else Path(resume) if resume else None
        if path is None:
            return 0
        found = snapshots.read(path, self.config, layout=self.layout)
        self.core.load_state_dict(found["model"], strict=True)
        self.optimizer.load_state_dict(found["optimizer"])
        if self.accelerator.scaler is not None and found["scaler"]:
            self.accelerator.scaler.load_state_dict(found["scaler"])
        snapshots.set_generators(found["generators"][self.accelerator.process_index])
        self.progress.message(f"resumed from {path}")
        return int(found["step"])

    def _save(self, step: int) -> Path:
        from accelerate.utils import gather_object

        payload = {
            "model": self.core.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            "generators": gather_object([snapshots.generators()]),
            "step": step,
            "config": json.dumps(self.config.to_json()),
            "layout": json.dumps(self.layout),
        }
        if self.accelerator.is_local_main_process:
            snapshots.write(self.out, payload, step=step, keep=self.config.keep)
        self.accelerator.wait_for_everyone()
        path = snapshots.newest(self.out)
        assert path is not None
        return path

    def _export(self, path: Path | None = None, *, epoch: float) -> Path:
        """Writes the evaluated network to `path`, else under its epoch's name."""
        path = path or self.out / ENCODERS / f"epoch-{epoch:08.3f}.safetensors"
        if self.accelerator.is_local_main_process:
            export(self.core, self.config, path, epoch=epoch)
        self.accelerator.wait_for_everyone()
        return path

    def _evaluate(self, path: Path, step: int, log: RunLog) -> None:
        """All-layer k-NN of a written encoder, into the run's records and log."""
        for event, text in knn_records(
            path, self.config, self.out, device=str(self.accelerator.device)
        ):
            log.event({"step": step, **event})
            self.progress.message(text)
