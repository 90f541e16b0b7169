"""What a run says while it trains: a JSON line, a console line and the trackers' entry per interval."""

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdssl_bench.errors import DataError, TaskError
from sdssl_bench.pretrain.objective.frameworks import LossTerms
from sdssl_bench.system import Progress, replacing

TERMS = ("loss", "ssl", "isd", "pred")
REMEDY = "Start anew in another --out with a lower --base-lr, or with --mixed-precision bf16 or no."


class RunLog:
    """Collects the terms of every step and writes their means at each interval.

    Args:
        accelerator: accelerate's Accelerator; means are over its processes.
        path: of the JSON lines; lines of steps from `start` on, of an interrupted run, are removed.
        progress: shows the run.
        start: first step.
        total: steps of the whole run.
        per_epoch: steps of an epoch.

    Attributes:
        scored: whether the log holds k-NN scores of the first step already (main process).

    Raises:
        DataError: if the log cannot be written.
    """

    def __init__(
        self,
        accelerator: Any,
        path: Path,
        *,
        progress: Progress,
        start: int,
        total: int,
        per_epoch: int,
    ) -> None:
        self.accelerator, self.path, self.progress = accelerator, path, progress
        self.total, self.per_epoch = total, per_epoch
        self._pending: list[tuple[int, Tensor]] = []
        self._images = 0
        self._waited = 0.0
        self._since = time.perf_counter()
        self.scored = False
        if accelerator.is_main_process:
            kept = [entry for entry in _entries(path) if entry["step"] <= start]
            self.scored = any(e["step"] == start and "knn" in e for e in kept)
            with replacing(path) as temporary:
                self._write(temporary, "w", kept)

    def add(
        self, step: int, terms: LossTerms, *, images: int, waited: float, skipped: Tensor
    ) -> None:
        """Keeps a step's terms on the device, so that nothing waits for it.

        Args:
            step: 0-based.
            terms: of its loss.
            images: of all processes.
            waited: seconds for them.
            skipped: [] 1 if the optimizer left the step out, else 0.
        """
        self._pending.append((step, torch.stack([*(t.float() for t in terms[:4]), skipped])))
        self._images += images
        self._waited += waited

    def check(self, *, last_good: Path | None) -> dict[str, float]:
        """Means of the steps since the last check, over all processes. Called by all of them.

        Raises:
            TaskError: if a loss is not finite, naming the step and the last good snapshot.
        """
        if not self._pending:
            return {}
        values = torch.stack([terms for _, terms in self._pending])
        values = self.accelerator.reduce(values, reduction="mean").cpu()
        steps = [step for step, _ in self._pending]
        self._pending.clear()
        values, skipped = values[:, :4], values[:, 4]
        left_out = [step + 1 for step, one in zip(steps, skipped.tolist(), strict=True) if one > 0]
        if left_out:
            self._tell_skipped(left_out)
        for step, row in zip(steps, values.tolist(), strict=True):
            if not all(map(math.isfinite, row)):
                terms = ", ".join(f"{k} {v}" for k, v in zip(TERMS, row, strict=True))
                raise TaskError(
                    f"The loss is not finite at step {step} ({terms}). The last good snapshot is "
                    f"{last_good or 'none'}. {REMEDY}"
                )
        return dict(zip(TERMS, values.mean(0).tolist(), strict=True))

    def write(self, step: int, means: dict[str, float], **values: float) -> None:
        """One line after `step` steps: means of the terms, and the schedules' values."""
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        entry = {
            "step": step,
            "epoch": step / self.per_epoch,
            **means,
            **values,
            "images_per_second": self._images / seconds,
            "data_seconds": self._waited,
            "seconds": seconds,
        }
        self._images, self._waited, self._since = 0, 0.0, now
        self.event(entry)
        shown = " ".join(f"{k} {v:.4g}" for k, v in {**means, **values}.items())
        self.progress.message(
            f"epoch {entry['epoch']:.2f} step {step}/{self.total} {shown} "
            f"{entry['images_per_second']:.0f} images/s"
        )

    def event(self, entry: dict[str, Any]) -> None:
        """Appends one JSON line, which has its step, and gives the trackers its numbers."""
        numbers = {k: v for k, v in entry.items() if isinstance(v, int | float) and k != "step"}
        numbers |= {f"knn/layer{layer:0>2}": v for layer, v in entry.get("knn", {}).items()}
        if numbers:
            self.accelerator.log(numbers, step=entry["step"])
        if self.accelerator.is_main_process:
            self._write(self.path, "a", [entry])

    def _write(self, path: Path, mode: str, entries: list[dict[str, Any]]) -> None:
        try:
            with path.open(mode) as stream:
                stream.writelines(json.dumps(entry) + "\n" for entry in entries)
        except OSError as error:
            raise DataError(
                f"The log {path} cannot be written: {error}. Make room and go on with --resume auto."
            ) from None

    def warn(self, step: int, text: str) -> None:
        """Says something that should not be overlooked, and keeps it in the log."""
        self.event({"step": step, "warning": text})
        self.progress.message(f"WARNING at step {step}: {text}")

    def _tell_skipped(self, steps: list[int]) -> None:
        """Says in which steps fp16 gradients were not finite, so that the optimizer left them out."""
        scale = self.accelerator.scaler.get_scale() if self.accelerator.scaler else None
        for step in steps:
            self.event({"step": step, "skipped": 1, "loss_scale": scale})
        self.progress.message(
            f"fp16 gradients were not finite in step {', '.join(map(str, steps))}: the optimizer left it "
            f"out, and the loss scale is now {scale}. Learning rate, alpha and the teacher's momentum go on."
        )

    def rest(self) -> None:
        """Starts the clock anew, after work that is not training."""
        self._since = time.perf_counter()
        self._images, self._waited = 0, 0.0


def _entries(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; one that a full disk or a kill cut short is no line."""
    entries = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries
