"""ImageNet's true size within 8 GB: time, memory and bytes of each stage, and how they grow.

    python benchmarks/scale.py --stages extract,knn,cka --rows 160000,320000,640000,1281167 --cache-dir DIR
    python benchmarks/scale.py --stages logreg --layers 1 --rows 10000,20000,40000,80000
    python benchmarks/scale.py --stages logreg --layers 1 --rows 1281167 --penalties 1

Banks are a ViT-S's: 12 layers of 384 in float16, of synthetic images whose number is their colour. Layer l
of image i is the centre of its class, further from others in later layers, and noise of its own. The suite's
own code does the rest, each stage and size in a process that may hold 8 GiB of private memory, a limit
that the kernel enforces:

extract      images through the encoder into the banks, all layers at once; 12 layers of 1,281,167 take 12 GB
knn          top-200 and the vote of --queries test images, last layer; time grows with the queries too
logreg       the whole task: validation split, 45 penalties (or --penalties of them, evenly), refit, test
cka          unbiased, batches of 256, all pairs of the layers
cka-biased   all images at once
names        what the list of images itself takes

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sdssl_bench.analysis.layer_similarity import similarity
from sdssl_bench.datasets.base import ClassificationData, ImageSet
from sdssl_bench.encoders.encoder import Encoder, LayerFeatures, ModelInfo, everything
from sdssl_bench.features.bank import FeatureBank
from sdssl_bench.features.extraction import extract
from sdssl_bench.neighbors.exact import top_k
from sdssl_bench.neighbors.vote import weighted_knn_vote
from sdssl_bench.probes.linear import sweep
from sdssl_bench.probes.logistic import choice
from sdssl_bench.probes.logistic.probe import score_logreg_layers
from sdssl_bench.task import RunContext

IMAGENET, TEST, DEPTH = 1_281_167, 50_000, 12
LIMIT_GIB = 8
BITS = 24
FIRST_TEST = 8_000_000
"""Number of the first test image: a multiple of every number of classes here, beyond all of train."""


class Numbered(ImageSet):
    """Images of one colour each, which spells their number."""

    def load(self, index: int) -> Image.Image:
        """A 2 x 2 image."""
        number = index + (FIRST_TEST if self.split == "test" else 0)
        return Image.new("RGB", (2, 2), (number >> 16, number >> 8 & 255, number & 255))


class Synthetic(Encoder):
    """Layer l: the centre of the image's class, and cosines of random projections of its number's bits."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.depth, self.dims, self.stride, self.input_size = DEPTH, (width,) * DEPTH, 1, 2
        self.norm, self.classes = "none", classes
        generator = torch.Generator().manual_seed(0)
        self.centres = nn.Parameter(0.12 * torch.randn(classes, width, generator=generator))
        self.weight = nn.Parameter(0.5 * torch.randn(DEPTH, BITS, width, generator=generator))
        self.info = ModelInfo(
            "synthetic", "", "module", "model", "synthetic", weights_sha256=f"{width} {classes}"
        )

    def forward_layers(
        self,
        images: Tensor,
        layers: Sequence[int],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[int, Any]:
        """As for every encoder; there are no patches worth the name."""
        mean, std = (torch.tensor(one)[:, None, None] for one in (self.mean, self.std))
        colour = ((images * std + mean) * 255).round().long()[:, :, 0, 0]
        number = (colour * torch.tensor([65536, 256, 1])).sum(1)
        bits = ((number[:, None] >> torch.arange(BITS)) & 1).float() * 2 - 1
        centres = self.centres[number % self.classes]
        found = {}
        for n in sorted(layers):
            x = (0.3 + 0.7 * n / DEPTH) * centres + torch.cos(bits @ self.weight[n - 1])
            found[n] = reduce(LayerFeatures(x, x[:, None, None], lambda t: t))
        return found


class AsIs:
    """The pixels."""

    def describe(self) -> dict[str, Any]:
        """Its identity."""
        return {"id": "as is"}

    def __call__(self, image: Image.Image) -> Tensor:
        """Uint8 [3, 2, 2]."""
        return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def images(rows: int, split: str, classes: int) -> Numbered:
    return Numbered(
        dataset="synthetic-imagenet",
        split=split,
        class_names=tuple(map(str, range(classes))),
        targets=np.arange(rows, dtype=np.int64) % classes,
        names=[f"{split}/n{i % classes:08d}/n{i % classes:08d}_{i}.JPEG" for i in range(rows)],
        root=Path(),
        fingerprint=str(rows),
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
        # The last of the twelve.
        layers = range(DEPTH + 1 - self.layers, DEPTH + 1)
        ctx = RunContext(
            None,
            Path(self.cache),
            device="cpu",
            bank_dtype="float16",
            batch_size=512,
            num_workers=1,
        )
        peak = PrivatePeak()
        if self.stage == "names":
            sets = {"train": images(0, "train", self.classes)}
        else:
            sets = {"train": images(self.rows, "train", self.classes)}
            sets["test"] = images(self.queries, "test", self.classes)
        banks: dict[str, FeatureBank] = {}

        def extracted() -> str:
            encoder = Synthetic(self.width, self.classes)
            for split, one in sets.items():
                banks[split] = extract(encoder, one, layers, preprocess=AsIs(), ctx=ctx)
            spent = banks["train"].seconds
            return (
                f"{'cached' if banks['train'].cached else ''} write {spent.get('write', 0):.1f} s"
            )

        work: dict[str, Callable[[], str]] = {
            "extract": extracted,
            "knn": lambda: self._knn(banks),
            "logreg": lambda: self._logreg(sets, banks, layers, ctx),
            "cka": lambda: self._cka(banks, "unbiased"),
            "cka-biased": lambda: self._cka(banks, "biased"),
            "names": lambda: f"{len(images(self.rows, 'train', self.classes).names):,} paths",
        }
        if self.stage not in ("extract", "names"):
            extracted()  # from the cache
        wall, cpu = time.perf_counter(), clock()
        note = work[self.stage]()
        return {
            "seconds": time.perf_counter() - wall, "cpu": clock() - cpu, "note": note,
            "private": peak.stop(), "bytes": stored(Path(self.cache), self.rows),
        }  # fmt: skip

    def _knn(self, banks: dict[str, FeatureBank]) -> str:
        train, test = banks["train"], banks["test"]
        k = min(200, self.rows)
        scores, ids = top_k(test.features(DEPTH), train.features(DEPTH), k=k)
        ranks = weighted_knn_vote(
            scores, train.targets[ids], test.targets, ks=(min(20, k), k), temperature=0.07,
            num_classes=self.classes,
        )  # fmt: skip
        correct = ranks[min(20, k)] == 0
        return f"{self.queries:,} queries, {correct.mean():.3f} right"

    def _logreg(
        self,
        sets: dict[str, Numbered],
        banks: dict[str, FeatureBank],
        layers: range,
        ctx: RunContext,
    ) -> str:
        data = ClassificationData("synthetic", "folder", "top1", sets["train"], sets["test"])
        spread = np.linspace(0, len(sweep.GRID) - 1, self.penalties).round().astype(int)
        choice.GRID = tuple(sweep.GRID[i] for i in spread)  # type: ignore[attr-defined]
        found = list(
            score_logreg_layers(
                data,
                banks,
                layers,
                kind="cls",
                sweep="grid",
                tolerance=1e-5,
                val_fraction=0.2,
                ctx=ctx,
            )
        )
        spent = found[0].seconds
        shares = f"select {spent['select']:.0f} s, refit {spent['refit']:.0f} s"
        return f"{self.penalties} penalties, {shares}, {found[-1].metrics['top1']:.3f} right"

    def _cka(self, banks: dict[str, FeatureBank], estimator: str) -> str:
        features = {n: banks["train"].features(n) for n in banks["train"].layers}
        found = similarity(features, None, estimator=estimator, batch=256, seed=0)
        return f"first with last {found.found.values[0, -1]:.3f}"


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


def clock() -> float:
    """Processor seconds of this process and the workers that ended."""
    own, workers = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + workers.ru_utime + workers.ru_stime


def stored(cache: Path, rows: int) -> int:
    """Bytes on disk of the banks of so many images."""
    manifests = [one for one in cache.glob("features/*/manifest.json")
                 if json.loads(one.read_text())["rows"] == rows]  # fmt: skip
    return sum(p.stat().st_size for one in manifests for p in one.parent.glob("*.npy"))


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


def numbers(text: str) -> list[int]:
    return [int(part.replace("_", "")) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", default="extract,knn,logreg,cka,cka-biased,names")
    parser.add_argument("--rows", type=numbers, default=numbers("5000,10000,20000,40000"))
    parser.add_argument("--layers", type=int, default=DEPTH)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--penalties", type=int, default=len(sweep.GRID))
    parser.add_argument("--cache-dir", type=Path, help="where banks are kept for the next call")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(Job(**json.loads(options.alone)).run()))
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
                if stage not in ("extract", "names"):
                    measured(Job(**{**vars(job), "stage": "extract"}))
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
