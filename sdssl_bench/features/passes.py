"""One process's share of an extraction: blocks of missing rows through the encoder into the banks."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.distributed import is_main_process, num_processes, process_index
from sdssl_bench.encoder import Encoder
from sdssl_bench.errors import TaskError, UserError
from sdssl_bench.features.forward import Forward, placed
from sdssl_bench.features.identity import Preprocess
from sdssl_bench.features.loading import Batch, batches
from sdssl_bench.features.store import BankFile, BankFolder, BankWriter, bank_name, shard_rows
from sdssl_bench.task import RunContext

FLUSH_SECONDS = 3.0
"""How much work a kill may cost; bringing rows to disk more often would slow small encoders."""
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
        pairs: (layer, pooling) of each of them.
        device: where this process's encoder runs.
    """

    folder: BankFolder
    files: Mapping[str, BankFile]
    missing: Mapping[str, NDArray[np.bool_]]
    pairs: Sequence[tuple[int, str]]
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


def run_pass(encoder: Encoder, images: ImageSet, preprocess: Preprocess, job: Pass) -> PassResult:
    """Compute this process's share; an error is returned, so that no other process waits for ever."""
    result = PassResult()
    stop = job.folder.path / STOP
    try:
        with placed(encoder, job.device):
            _Share(encoder, images, preprocess, job, result.seconds).run()
    except UserError as error:
        result.error = error
    except OSError as error:
        result.error = TaskError(
            f"Features of {images.dataset} {images.split} cannot be computed: {error}. If the disk "
            "is full, make room with 'sdssl-bench cache rm' or choose another --cache-dir; what is "
            "stored is kept."
        )
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
        images: ImageSet,
        preprocess: Preprocess,
        job: Pass,
        seconds: dict[str, float],
    ) -> None:
        self.images, self.preprocess, self.job, self.seconds = images, preprocess, job, seconds
        self.forward = Forward(
            encoder,
            job.pairs,
            device=job.device,
            dtype=job.ctx.dtype,
            batch_size=job.ctx.batch_size,
        )
        self.shard_size = shard_rows(len(images))
        self.groups, self.ends = plan_batches(
            np.flatnonzero(np.logical_or.reduce(list(job.missing.values()))),
            num_rows=len(images),
            batch_size=self.forward.piece,
            part=(process_index(), num_processes()),
        )
        self.bad: dict[int, str] = {}
        self.flushed = time.monotonic()

    def run(self) -> None:
        progress = self.job.ctx.progress if is_main_process() else None
        if progress is not None:
            label = f"features of {self.images.dataset} {self.images.split}"
            progress.start(label, sum(map(len, self.groups)), "images")
        writer = BankWriter(self.job.folder, self.job.files)
        spent = {"load": 0.0, "write": 0.0}
        try:
            for shards, batch, waited in self._loaded():
                spent["load"] += waited
                features = self.forward(batch.pixels) if batch.pixels is not None else {}
                started = time.perf_counter()
                self._write(writer, batch, features)
                self.bad.update(batch.bad)
                for shard in shards:
                    self._finish(writer, shard)
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

    def _loaded(self) -> Iterator[tuple[list[int], Batch, float]]:
        loaded = batches(
            self.images,
            self.preprocess,
            self.groups,
            device=self.job.device,
            num_workers=self.job.ctx.num_workers,
        )
        started = time.perf_counter()
        for shards, batch in zip(self.ends, loaded, strict=True):
            yield shards, batch, time.perf_counter() - started
            started = time.perf_counter()

    def _write(
        self, writer: BankWriter, batch: Batch, features: Mapping[str, NDArray[np.float32]]
    ) -> None:
        for (layer, pooling), name in ((p, bank_name(*p)) for p in self.job.pairs):
            if name not in features:
                return
            # float16 has no values above 65,504; what overflows is caught right below.
            with np.errstate(over="ignore"):
                values = features[name].astype(self.job.ctx.bank_dtype, copy=False)
            self._check(values, features[name], batch.rows, layer=layer, pooling=pooling)
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
        *,
        layer: int,
        pooling: str,
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
        raise TaskError(
            f"Features must be finite. Layer {layer} ({pooling}) gives NaN or infinity for image "
            f"{self.images.names[int(rows[where])]} of {self.images.dataset} {self.images.split}. "
            f"{advice}"
        )

    def _finish(self, writer: BankWriter, shard: int) -> None:
        first = shard * self.shard_size
        bad = {r: why for r, why in self.bad.items() if first <= r < first + self.shard_size}
        for row in bad:
            del self.bad[row]
        writer.finish_shard(shard, limit=self.job.ctx.limit, bad=bad)

    def _flush(self, writer: BankWriter) -> None:
        writer.flush()
        self.flushed = time.monotonic()
        if num_processes() > 1 and (self.job.folder.path / STOP).exists():
            raise StoppedError("Another process of this run failed.")


def plan_batches(
    rows: NDArray[np.int64], *, num_rows: int, batch_size: int, part: tuple[int, int]
) -> tuple[list[NDArray[np.int64]], list[list[int]]]:
    """Batches of one process, and the shards that each batch is the last of.

    A batch never spans two blocks: aligned runs of shards at least as long as a batch. So a run that
    resumes forms the same batches for the shards it still lacks, and its features are the same bits.

    Args:
        rows: all rows to compute, ascending.
        num_rows: N.
        batch_size: images per batch.
        part: (index of this process, number of processes).

    >>> plan_batches(np.arange(70), num_rows=70, batch_size=40, part=(0, 1))[1]
    [[], [0, 1], [2]]
    """
    size = shard_rows(num_rows)
    block = size * math.ceil(batch_size / size)
    cuts = np.flatnonzero(np.diff(rows // block)) + 1
    groups: list[NDArray[np.int64]] = []
    ends: list[list[int]] = []
    for members in np.split(rows, cuts)[part[0] :: part[1]]:
        pieces = [members[at : at + batch_size] for at in range(0, len(members), batch_size)]
        groups += pieces
        ends += [[] for _ in pieces]
        if pieces:
            ends[-1] = np.unique(members // size).tolist()
    return groups, ends
