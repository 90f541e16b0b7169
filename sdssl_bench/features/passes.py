"""One process's share of an extraction: missing rows through the encoder into the banks."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from sdssl_bench.encoders import BLOCK, Encoder
from sdssl_bench.errors import TaskError, UserError
from sdssl_bench.features.forward import Forward, placed
from sdssl_bench.features.loading import Batch, batches
from sdssl_bench.features.sources import Source
from sdssl_bench.features.store import BankFile, BankFolder, BankKey, BankWriter
from sdssl_bench.system import is_main_process, num_processes, process_index, unwritable
from sdssl_bench.task import RunContext

FLUSH_SECONDS = 3.0
"""How much work a kill may cost; bringing rows to disk more often would slow small encoders."""
ADVICE = (
    "'sdssl-bench cache rm' makes room, --cache-dir chooses another folder, --bank-dtype float16 "
    "halves the need."
)
STOP = "stop"
"""A file that tells the other processes that one has failed."""


class StoppedError(TaskError):
    """This process gave up because another one failed."""


@dataclass(frozen=True, eq=False)
class Pass:
    """What to compute, the same for all processes.

    Attributes:
        folder: where the banks lie.
        files: the banks that lack rows.
        missing: [N] which rows each of them lacks.
        keys: of each of them.
        device: where this process's encoder runs.
    """

    folder: BankFolder
    files: Mapping[str, BankFile]
    missing: Mapping[str, NDArray[np.bool_]]
    keys: Sequence[BankKey]
    device: torch.device
    ctx: RunContext


@dataclass
class PassResult:
    """What became of a process's share.

    Attributes:
        seconds: load (waiting for images), transfer, forward, write.
        error: why it stopped early, None if it did not.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    error: UserError | None = None


def run_pass(encoder: Encoder, source: Source, job: Pass) -> PassResult:
    """Compute this process's share; an error is returned, so that no other process waits for ever."""
    result = PassResult()
    stop = job.folder.path / STOP
    try:
        with placed(encoder, job.device):
            _Share(encoder, source, job, result.seconds).run()
    except UserError as error:
        result.error = error
    except OSError as error:
        # Images that cannot be read are no errors here: they are counted.
        result.error = unwritable(error, job.folder.path, advice=ADVICE)
    except Exception as error:
        if num_processes() == 1:
            raise
        result.error = TaskError(
            f"Process {process_index()} failed: {type(error).__name__}: {error}"
        )
    if result.error is not None and num_processes() > 1:
        with suppress(OSError):
            stop.touch()
    return result


class _Share:
    """The blocks of one process."""

    def __init__(
        self,
        encoder: Encoder,
        source: Source,
        job: Pass,
        seconds: dict[str, float],
    ) -> None:
        self.source, self.images, self.job, self.seconds = source, source.images, job, seconds
        self.forward = Forward(
            encoder,
            job.keys,
            device=job.device,
            dtype=job.ctx.dtype,
            batch_size=job.ctx.batch_size,
            pools=source.pools,
            views=source.views,
        )
        self.groups = source.groups(
            np.flatnonzero(np.logical_or.reduce(list(job.missing.values()))),
            batch_size=job.ctx.batch_size,
            device=job.device,
            piece=self.forward.piece,
            part=(process_index(), num_processes()),
        )
        # The source's groups fit already.
        self.forward.piece = max((len(group.rows) for group in self.groups), default=1)
        self.bad: dict[int, str] = {}
        self.flushed = time.monotonic()

    def run(self) -> None:
        progress = self.job.ctx.progress if is_main_process() else None
        if progress is not None:
            label = f"features of {self.images.dataset} {self.images.split}"
            progress.start(label, sum(len(group.rows) for group in self.groups), "images")
        writer = BankWriter(self.job.folder, self.job.files)
        spent = {"load": 0.0, "write": 0.0}
        try:
            for proven, batch, waited in self._loaded():
                spent["load"] += waited
                features = self.forward(batch.pixels) if batch.pixels is not None else {}
                started = time.perf_counter()
                self._write(writer, batch, features)
                self.bad.update(batch.bad)
                self._prove(writer, proven)
                if time.monotonic() - self.flushed > FLUSH_SECONDS:
                    self._flush(writer)
                spent["write"] += time.perf_counter() - started
                if progress is not None:
                    progress.advance(len(batch.rows) + len(batch.bad))
            started = time.perf_counter()
            writer.flush()
            spent["write"] += time.perf_counter() - started
        except BaseException:
            with suppress(OSError):
                writer.flush()
            raise
        finally:
            writer.close()
            self.seconds.update({**spent, **self.forward.seconds})
        if progress is not None:
            progress.finish()

    def _loaded(self) -> Iterator[tuple[NDArray[np.int64], Batch, float]]:
        loaded = batches(
            self.images,
            self.source.preprocess,
            [group.rows for group in self.groups],
            device=self.job.device,
            num_workers=self.job.ctx.num_workers,
        )
        started = time.perf_counter()
        for group, batch in zip(self.groups, loaded, strict=True):
            yield group.proven, batch, time.perf_counter() - started
            started = time.perf_counter()

    def _write(
        self, writer: BankWriter, batch: Batch, features: Mapping[str, NDArray[np.float32]]
    ) -> None:
        for key in self.job.keys:
            name = key.name
            if name not in features:
                return
            # float16 has no values above 65,504; what overflows is caught right below.
            with np.errstate(over="ignore"):
                values = features[name].astype(self.job.ctx.bank_dtype, copy=False)
            self._check(values, features[name], batch.rows, key)
            lacking = self.job.missing[name][batch.rows]
            if lacking.all():
                writer.write(name, batch.rows, values)
            elif lacking.any():
                writer.write(name, batch.rows[lacking], values[lacking])

    def _check(
        self,
        stored: NDArray[np.floating],
        computed: NDArray[np.float32],
        rows: NDArray[np.int64],
        key: BankKey,
    ) -> None:
        if np.isfinite(stored).all():
            return
        where = int(np.flatnonzero(~np.isfinite(stored).all(axis=1))[0])
        if np.isfinite(computed[where]).all():
            advice = "They overflow float16: store them with --bank-dtype float32."
        elif self.job.ctx.dtype != "float32":
            advice = f"Try --dtype float32 (it was {self.job.ctx.dtype})."
        else:
            advice = "Check the weights with 'sdssl-bench doctor'."
        what = [key.pooling] if key.point == BLOCK else [key.pooling, key.point]
        raise TaskError(
            f"Features must be finite. Layer {key.layer} ({', '.join(what)}) gives NaN or infinity for image "
            f"{self.images.names[int(rows[where])]} of {self.images.dataset} {self.images.split}. "
            f"{advice}"
        )

    def _prove(self, writer: BankWriter, rows: NDArray[np.int64]) -> None:
        bad = {row: self.bad.pop(row) for row in rows.tolist() if row in self.bad}
        writer.prove(np.setdiff1d(rows, np.fromiter(bad, np.int64, len(bad))), bad)

    def _flush(self, writer: BankWriter) -> None:
        writer.flush()
        self.flushed = time.monotonic()
        if num_processes() > 1 and (self.job.folder.path / STOP).exists():
            raise StoppedError("Another process of this run failed.")
