"""The folder of a run: proven before training, taken over from a snapshot, and what is saved in it.

snapshots/step-*.pt          the newest few, to go on from
encoders/epoch-*.safetensors the evaluated network at each of them
encoder.safetensors          that of the finished run
config.json, log.jsonl, results/
run.lock                     while the run has the folder
"""

import json
import uuid
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdssl_bench.errors import TaskError, UsageError
from sdssl_bench.pretrain.objective.gathering import share_buffers
from sdssl_bench.pretrain.objective.sdssl import SDSSL
from sdssl_bench.pretrain.run import snapshots
from sdssl_bench.pretrain.run.agreement import everywhere, newest_common, shares_disk
from sdssl_bench.pretrain.run.config import PretrainConfig
from sdssl_bench.pretrain.run.exports import ENCODERS, FINAL, export
from sdssl_bench.pretrain.run.run_lock import RunLock
from sdssl_bench.pretrain.run.runlog import REMEDY
from sdssl_bench.system import distributed


class RunFolder:
    """What a run keeps on disk. Its methods are called by all processes.

    Args:
        out: the folder; nodes may share it, or each have one of that name.
        config: of the run.
        accelerator: accelerate's Accelerator.
        model: the model, not wrapped.
        optimizer: prepared.
        layout: what the order of images depends on besides the configuration.
    """

    def __init__(
        self,
        out: Path,
        config: PretrainConfig,
        *,
        accelerator: Any,
        model: SDSSL,
        optimizer: torch.optim.Optimizer,
        layout: dict[str, Any],
    ) -> None:
        self.out, self.config, self.layout = out, config, layout
        self.accelerator, self.model, self.optimizer = accelerator, model, optimizer
        self.lock = RunLock(out, distributed.broadcast(uuid.uuid4().hex))

    def open(self, resume: str | None) -> int:
        """Makes the folder this run's until `close`; returns the step to go on from.

        Args:
            resume: "auto", a snapshot's path, or None for a new run.

        Raises:
            UsageError: if the folder holds another run, or one that nobody asked to resume, or if
                another process trains in it.
            DataError: if it cannot be written, is too small, or its snapshots are damaged.
        """
        everywhere(lambda: self._refuse(resume))
        # The first process's lock is seen by nodes that share its disk, and is theirs too.
        everywhere(lambda: self._acquire(self.accelerator.is_main_process))
        everywhere(lambda: self._acquire(self.accelerator.is_local_main_process))
        everywhere(lambda: self._refuse(resume))  # a run that has ended meanwhile, too
        everywhere(self._prepare)
        if self.config.knn and not shares_disk(self.out):
            raise UsageError(
                f"--knn needs one --out for all nodes, and they do not share {self.out}. Leave it out, "
                "and run 'sdssl-bench watch' on the node of process 0."
            )
        start = self._restore(resume)
        everywhere(lambda: self._take_over(start, branching=resume not in (None, "auto")))
        return start

    def close(self) -> None:
        """Gives the folder back."""
        self.lock.release()

    def save(self, step: int, *, last_good: Path | None) -> Path:
        """Writes the snapshot after `step` steps.

        Raises:
            TaskError: if the weights are not finite, or another run has the folder; earlier
                snapshots stay.
            DataError: if the disk is full or fails.
        """
        from accelerate.utils import gather_object

        everywhere(self.lock.check)
        if not nn.utils.get_total_norm(self.model.parameters()).isfinite():
            raise TaskError(
                f"The weights are not finite after step {step}. The last good snapshot is "
                f"{last_good or 'none'}. {REMEDY}"
            )
        share_buffers(self.model)
        payload = {
            "model": self.model.state_dict(),
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

    def export(self, path: Path | None = None, *, epoch: float) -> Path:
        """Writes the evaluated network to `path`, else under its epoch's name."""
        share_buffers(self.model)
        path = path or self.out / ENCODERS / f"epoch-{epoch:08.3f}.safetensors"
        if self.accelerator.is_local_main_process:
            export(self.model, self.config, path, epoch=epoch)
        self.accelerator.wait_for_everyone()
        return path

    def _acquire(self, mine: bool) -> None:
        if mine and not self.lock.held:
            self.lock.acquire()

    def _refuse(self, resume: str | None) -> None:
        """Refuses the folder of another run. Waits for nobody."""
        if resume is None and self.accelerator.is_local_main_process and snapshots.newest(self.out):
            raise UsageError(
                f"--out {self.out} holds a run already. Go on with --resume auto, or choose another "
                "folder."
            )

    def _prepare(self) -> None:
        """Refuses an unsuitable folder before the first step. Waits for nobody."""
        if not self.accelerator.is_local_main_process:
            return
        config, student = self.config, self.model.student
        parameters = sum(p.numel() for p in self.model.parameters())
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        encoder = sum(p.numel() for p in student.parameters())
        encoders = config.epochs // config.save_every + config.epochs // config.knn_every + 2
        # Features for k-NN come and go; the scores before the first step prove that they have room.
        needed = 4 * ((parameters + 2 * trained) * (config.keep + 1) + encoder * encoders)
        snapshots.prepare_folder(self.out, needed=needed)

    def _restore(self, resume: str | None) -> int:
        path = newest_common(self.out) if resume == "auto" else Path(resume) if resume else None
        if path is None:
            return 0
        found = everywhere(lambda: snapshots.read(path, self.config, layout=self.layout))
        steps = distributed.gather_objects(int(found["step"]))
        if len(set(steps)) > 1:
            raise UsageError(f"--resume {path} is another snapshot on some nodes: steps {steps}.")
        self.model.load_state_dict(found["model"], strict=True)
        self.optimizer.load_state_dict(found["optimizer"])
        if self.accelerator.scaler is not None and found["scaler"]:
            self.accelerator.scaler.load_state_dict(found["scaler"])
        snapshots.set_generators(found["generators"][self.accelerator.process_index])
        return steps[0]

    def _take_over(self, start: int, *, branching: bool) -> None:
        """Makes the folder this run's, once nothing stands against it. Waits for nobody."""
        if not self.accelerator.is_local_main_process:
            return
        later = snapshots.later_than(self.out, start)
        if later and branching:
            raise UsageError(
                f"--out {self.out} holds snapshots of more steps than --resume, up to {later[-1].name}. "
                "Choose another --out for the branch, or remove them."
            )
        for path in later:  # of one node only
            path.unlink(missing_ok=True)
        # `watch` takes it as the sign that the run is over.
        (self.out / FINAL).unlink(missing_ok=True)
        (self.out / "config.json").write_text(json.dumps(self.config.to_json(), indent=1))
