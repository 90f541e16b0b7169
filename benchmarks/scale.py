"""ImageNet's true size within 8 GB: time, memory and bytes of each stage, and how they grow.

    python benchmarks/scale.py --stages write,knn,cka --rows 160000,320000,640000,1281167 --cache-dir DIR
    python benchmarks/scale.py --stages logreg --layers 1 --rows 10000,20000,40000,80000
    python benchmarks/scale.py --stages logreg --layers 1 --rows 1281167 --penalties 1

Banks are a ViT-S's, 12 layers of 384 in float16, of random features: a centre for each class, further from
others in later layers, and noise. The suite's own code does the rest, each stage and size in a process that
may hold 8 GiB of private memory, a limit that the kernel enforces:

write        features into the banks of all layers, and the journal; no images, no encoder
knn          top-200 and the vote of --queries test images, last layer; time grows with the queries too
logreg       the whole task: validation split, 45 penalties (or --penalties of them, evenly), refit, test
cka          unbiased, batches of 256, all pairs of the layers
cka-biased   all images at once
names        what the list of images itself takes
plan         no measurement: forward passes for the paper's Tables 1 to 4, and days at --speed images/s a GPU

"growth" is the slope of log seconds over log rows. Seconds of a processor are those of a quiet machine even
on a busy one. Where the largest size is smaller than ImageNet, the last line extrapolates, and says so.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench import datasets, tasks
from sdssl_bench.analysis.layer_similarity import similarity
from sdssl_bench.datasets.base import ClassificationData, ImageSet
from sdssl_bench.features.bank import FeatureBank
from sdssl_bench.features.passes import FLUSH_SECONDS
from sdssl_bench.features.store import BankFile, BankFolder, BankKey, BankWriter
from sdssl_bench.neighbors.exact import top_k
from sdssl_bench.neighbors.vote import weighted_knn_vote
from sdssl_bench.paper.layouts import DATASETS, FRAMEWORKS
from sdssl_bench.probes.linear import sweep
from sdssl_bench.probes.logistic import choice
from sdssl_bench.probes.logistic.probe import score_logreg_layers
from sdssl_bench.task import RunContext

IMAGENET, DEPTH = 1_281_167, 12
LIMIT_GIB = 8
BLOCK = 8_192
"""Rows written together."""
COST = {"ViT-S/32": 0.25, "ViT-S/16": 1.0, "ViT-B/16": 3.8}
"""Multiply-adds of a pass, in those of a ViT-S/16: 1.15, 4.6 and 17.6 billion."""
BACKWARD = 3
"""Passes that a step of training stands for."""
Measured = tuple[float, float, str]
"""Seconds on the wall, of processors, and what came out."""
Rows = NDArray[np.int64]


def images(rows: int, split: str, classes: int) -> ImageSet:
    return ImageSet(
        dataset="synthetic",
        split=split,
        class_names=tuple(map(str, range(classes))),
        targets=np.arange(rows, dtype=np.int64) % classes,
        names=[f"{split}/n{i % classes:08d}/n{i % classes:08d}_{i}.JPEG" for i in range(rows)],
        root=Path(),
        fingerprint="",
        freshness="",
    )


@dataclass(frozen=True)
class Job:
    """One stage at one size; see the module's options."""

    stage: str
    rows: int
    layers: int
    width: int
    classes: int
    queries: int
    penalties: int
    cache: str

    def run(self) -> dict[str, Any]:
        """Its own seconds, on the wall and of processors, what it found, and memory."""
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_GIB * 2**30,) * 2)
        peak = PrivatePeak()
        wall, cpu, note = getattr(self, "_" + self.stage.replace("-", "_"))()
        return {
            "seconds": wall, "cpu": cpu, "note": note, "private": peak.stop(),
            "bytes": 0 if self.stage == "names" else self.layers * self.rows * self.width * 2,
        }  # fmt: skip

    def _folder(self, split: str) -> tuple[BankFolder, dict[tuple[int, str], BankFile]]:
        rows = self.rows if split == "train" else self.queries
        folder = BankFolder(
            Path(self.cache) / f"{split}-{rows}-{self.layers}-{self.width}-{self.classes}", rows
        )
        # The last of the twelve.
        names = {n: BankKey(n, "cls").name for n in range(DEPTH + 1 - self.layers, DEPTH + 1)}
        if not folder.manifest():
            folder.prepare({}, dict.fromkeys(names.values(), self.width), "float16", about={})
        files = folder.files(list(names.values()))
        return folder, {(n, "cls"): files[name] for n, name in names.items()}

    def _write(self) -> Measured:
        spent = np.zeros(2)
        for split in ("train", "test"):
            folder, files = self._folder(split)
            own = {BankKey(*pair).name: file for pair, file in files.items()}
            if all(one.done.all() for one in folder.state(own).values()):
                continue
            writer, flushed = BankWriter(folder, own), time.perf_counter()
            for start in range(0, folder.num_rows, BLOCK):
                rows = np.arange(start, min(start + BLOCK, folder.num_rows))
                for (layer, _), name in zip(files, own, strict=True):
                    values = self._features(rows, layer, split)
                    began = clocks()
                    writer.write(name, rows, values)
                    spent += clocks() - began
                began = clocks()
                writer.prove(rows, {})
                if time.perf_counter() - flushed > FLUSH_SECONDS:
                    writer.flush()
                    flushed = time.perf_counter()
                spent += clocks() - began
            began = clocks()
            writer.flush()
            writer.close()
            folder.seal(folder.state(own), own)
            spent += clocks() - began
        return float(spent[0]), float(spent[1]), ""

    def _features(self, rows: Rows, layer: int, split: str) -> NDArray[np.float16]:
        centres = np.random.default_rng(0).standard_normal((self.classes, self.width), np.float32)
        random = np.random.default_rng([layer, int(rows[0]), split == "test"])
        noise = random.standard_normal((len(rows), self.width), np.float32)
        apart = 0.2 * (0.3 + 0.7 * layer / DEPTH)
        return (apart * centres[rows % self.classes] + noise).astype(np.float16)

    def _banks(self) -> dict[str, FeatureBank]:
        banks = {}
        for split in ("train", "test"):
            folder, files = self._folder(split)
            rows = np.arange(folder.num_rows)
            banks[split] = FeatureBank(
                files, len(rows), indices=rows, targets=rows % self.classes, bad_images=[],
                seconds={}, cached=True,
            )  # fmt: skip
        return banks

    def _names(self) -> Measured:
        began = clocks()
        kept = images(self.rows, "train", self.classes)
        return *(clocks() - began).tolist(), f"{len(kept.names):,} paths"

    def _knn(self) -> Measured:
        train, test = (self._banks()[split] for split in ("train", "test"))
        k, began = min(200, self.rows), clocks()
        scores, ids = top_k(test.features(DEPTH), train.features(DEPTH), k=k)
        ranks = weighted_knn_vote(
            scores, train.targets[ids], test.targets, ks=(min(20, k),), temperature=0.07,
            num_classes=self.classes,
        )  # fmt: skip
        right = (ranks[min(20, k)] == 0).mean()
        return *(clocks() - began).tolist(), f"{self.queries:,} queries, {right:.3f} right"

    def _logreg(self) -> Measured:
        banks = self._banks()
        sets = (
            images(self.rows, "train", self.classes),
            images(self.queries, "test", self.classes),
        )
        spread = np.linspace(0, len(sweep.GRID) - 1, self.penalties).round().astype(int)
        choice.GRID = tuple(sweep.GRID[i] for i in spread)  # type: ignore[attr-defined]
        began = clocks()
        found = list(
            score_logreg_layers(
                ClassificationData("synthetic", "folder", "top1", *sets), banks,
                banks["train"].layers, kind="cls", sweep="grid", tolerance=1e-5, val_fraction=0.2,
                ctx=RunContext(None, Path(self.cache), device="cpu"),
            )
        )  # fmt: skip
        note = f"{self.penalties} penalties, {found[-1].metrics['top1']:.3f} right"
        return *(clocks() - began).tolist(), note

    def _cka(self, estimator: str = "unbiased") -> Measured:
        bank, began = self._banks()["train"], clocks()
        features = {n: bank.features(n) for n in bank.layers}
        found = similarity(features, None, estimator=estimator, batch=256, seed=0)
        note = f"first with last {found.found.values[0, -1]:.3f}"
        return *(clocks() - began).tolist(), note

    def _cka_biased(self) -> Measured:
        return self._cka("biased")


class PrivatePeak:
    """Largest private memory of this process, looked at fifty times a second."""

    def __init__(self) -> None:
        self._peak, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    self._peak = max(self._peak, int(line.split()[1]) * 1024)

    def stop(self) -> int:
        """The peak in bytes."""
        time.sleep(0.05)
        self._done.set()
        self._thread.join()
        return self._peak


def clocks() -> NDArray[np.float64]:
    """Seconds on the wall and of all processors."""
    return np.array([time.perf_counter(), time.process_time()])


def measured(job: Job) -> dict[str, Any]:
    """What a process of its own says of the job, with its peak of resident memory."""
    with tempfile.TemporaryFile() as out:
        command = [sys.executable, __file__, "--alone", json.dumps(vars(job))]
        process = subprocess.Popen(command, stdout=out)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{job} ended with {process.returncode}")
        out.seek(0)
        found: dict[str, Any] = json.loads(out.read())
    return {**found, "resident": used.ru_maxrss * 1024}


def report(stage: str, rows: Sequence[int], found: Sequence[dict[str, Any]]) -> None:
    """The growth over the sizes, and what it means for ImageNet."""
    if len(rows) < 2:
        return
    for name, unit, scale in (("cpu", "s of processors", 1.0), ("private", "GiB private", 2**30)):
        values = [max(one[name], 1e-9) / scale for one in found]
        slope, start = np.polyfit(np.log(rows), np.log(values), 1)
        line = f"{stage}: {unit} grow with rows^{slope:.2f}"
        if max(rows) < IMAGENET:
            there = float(np.exp(start + slope * np.log(IMAGENET)))
            line += f"; {there:,.1f} at {IMAGENET:,} rows (extrapolated)"
        print(line)


def plan(speed: float) -> None:
    """Forward passes for the paper's tables in those of a ViT-S/16 at 224 px, and days at a speed."""

    def count(names: Sequence[str], split: str) -> int:
        return sum(datasets.spec(name).sizes[split] for name in names)

    own, transfer = ["imagenet"], [name for name in DATASETS if name != "imagenet"]
    epochs = {preset: tasks.load(preset.split("/")[0], preset.split("/")[1]).epochs
              for preset in ("linear/mocov3", "finetune/paper", "finetune/imagenet")}  # fmt: skip
    encoders, every = len(FRAMEWORKS) * 2, sum(COST.values())
    passes = {
        "k-NN, ImageNet, three sizes": every * (count(own, "train") + count(own, "test")),
        "linear, ImageNet, three sizes": every * epochs["linear/mocov3"] * count(own, "train"),
        "k-NN, nine sets": count(transfer, "train") + count(transfer, "test"),
        "linear, nine sets": epochs["linear/mocov3"] * count(transfer, "train"),
        "fine-tuning, nine sets": BACKWARD * epochs["finetune/paper"] * count(transfer, "train"),
        "fine-tuning, ImageNet": BACKWARD * epochs["finetune/imagenet"] * count(own, "train"),
    }
    print(f"{encoders} encoders of each size         M passes   days on 1        8       64 GPUs")
    for name, one in [*passes.items(), ("together", sum(passes.values()))]:
        days = encoders * one / speed / 86_400
        print(
            f"{name:<32} {encoders * one / 1e6:>9,.1f} {days:>11.2f} {days / 8:>8.2f} {days / 64:>8.2f}"
        )


def numbers(text: str) -> list[int]:
    return [int(part.replace("_", "")) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", default="write,knn,logreg,cka,cka-biased,names")
    parser.add_argument("--rows", type=numbers, default=numbers("5000,10000,20000,40000"))
    parser.add_argument("--layers", type=int, default=DEPTH)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--penalties", type=int, default=len(sweep.GRID))
    parser.add_argument("--cache-dir", type=Path, help="where banks are kept for the next call")
    parser.add_argument("--speed", type=float, default=1000, help="images/s of a GPU, for the plan")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(Job(**json.loads(options.alone)).run()))
        return
    if options.stages == "plan":
        plan(options.speed)
        return
    print("stage            rows layers   seconds  processor  private  resident      disk")
    with tempfile.TemporaryDirectory() as own:
        for stage in filter(None, options.stages.split(",")):
            found = []
            for rows in options.rows:
                job = Job(
                    stage, rows, options.layers, options.width, options.classes, options.queries,
                    options.penalties, str(options.cache_dir or own),
                )  # fmt: skip
                if stage not in ("write", "names"):
                    measured(Job(**{**vars(job), "stage": "write"}))
                one = measured(job)
                found.append(one)
                print(
                    f"{stage:<10} {rows:>10,} {options.layers:>6} {one['seconds']:>9.1f} "
                    f"{one['cpu']:>10.1f} {one['private'] / 2**30:>8.2f} {one['resident'] / 2**30:>9.2f} "
                    f"{one['bytes'] / 1e9:>9.2f}  {one['note']}",
                    flush=True,
                )
            report(stage, options.rows, found)


if __name__ == "__main__":
    main()
