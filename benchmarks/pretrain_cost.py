"""Cost of self-distillation: SD-MoCo v3 against MoCo v3, steps interleaved in one process.

    python benchmarks/pretrain_cost.py --arch vit_s16 --batch 8 --steps 5

Prints, for both: seconds per step by phase (median), peak memory on a GPU, parameters, GFLOP per image;
the ratios beside the paper's (+8.6 % time with parallel heads, under +6 % memory, ViT-B/16); and how
far the step is from this machine's matrix-product rate. On a CPU the batch is small, so the optimizer,
whose cost does not depend on it, weighs more than on a GPU; it is shown apart for that reason.

    python benchmarks/pretrain_cost.py --arch vit_b16 --batch 64 --peak

measures instead of time the peak memory of each in a process of its own, on a CPU (Linux): anonymous
pages, since those of files come and go with what else the machine has to hold.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sdssl_bench.pretrain.objective.assembly import build_model, build_optimizer
from sdssl_bench.pretrain.run.plan import cost
from sdssl_bench.pretrain.run.presets import resolve

PHASES = ("forward", "backward", "optimizer", "ema")


class Contender:
    """One method, its optimizer, and the seconds its steps took."""

    def __init__(self, preset: str, device: str, precision: str) -> None:
        self.config = resolve(preset)
        self.model = build_model(self.config).to(device)
        self.optimizer: Any = build_optimizer(self.model, self.config)
        self.device, self.precision = device, precision
        self.seconds: list[dict[str, float]] = []
        self.peak = 0

    def step(self, views: torch.Tensor) -> None:
        """One training step, timed by phase."""
        clock = [self._now()]
        amp = self.precision == "bf16"
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=amp):
            terms = self.model(views[0], views[1], alpha=0.5, beta=1.0)
        clock.append(self._now())
        terms.total.backward()
        clock.append(self._now())
        self.optimizer.step()
        self.optimizer.zero_grad()
        clock.append(self._now())
        self.model.update_teacher(0.99)
        clock.append(self._now())
        self.seconds.append(
            {name: b - a for name, a, b in zip(PHASES, clock[:-1], clock[1:], strict=True)}
        )

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        # Processor time of all threads: other programs on this machine do not count.
        return time.process_time()

    def medians(self) -> dict[str, float]:
        """Median seconds of each phase and of the step, the first step left out."""
        timed = self.seconds[1:]
        found = {name: statistics.median(s[name] for s in timed) for name in PHASES}
        return {**found, "step": statistics.median(sum(s.values()) for s in timed)}


def matmul_rate(device: str, precision: str) -> float:
    """FLOP per second of a large matrix product."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = 8192 if device == "cuda" else 1536
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter() if device == "cuda" else time.process_time()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        end = time.perf_counter() if device == "cuda" else time.process_time()
        best = min(best, end - start)
    return 2 * size**3 / best


def kept_bytes(contender: Any) -> int:
    """What a method holds between steps: networks and optimizer."""
    tensors = [*contender.model.parameters(), *contender.model.buffers()]
    for state in contender.optimizer.state.values():
        tensors += [value for value in state.values() if torch.is_tensor(value)]
    return sum(one.nbytes for one in tensors)


def largest_batch(arch: str, device: str) -> int:
    """The largest power of two of which the distilled method takes two steps beside the plain one."""
    fits, batch = 0, 32
    while batch <= 4096:
        try:
            pair = [Contender(f"{sd}mocov3_{arch}", device, "bf16") for sd in ("", "sd_")]
            side = pair[0].model.student.input_size
            for _ in range(2):  # the optimizer's state exists from the second step on
                for one in pair:
                    one.step(torch.randn(2, batch, 3, side, side, device=device))
            fits = batch
        except torch.OutOfMemoryError:
            batch = 4096
        pair, one = [], None  # type: ignore[assignment]
        torch.cuda.empty_cache()
        batch *= 2
    if not fits:
        raise SystemExit(f"Memory of {device} is too short for a batch of 32 of {arch}.")
    return fits


def peak_memory(preset: str, options: argparse.Namespace) -> int:
    """Bytes that two steps take in a process of their own; AdamW's state exists in the second."""
    command = [sys.executable, __file__, "--peak-of", preset, "--batch", str(options.batch)]
    command += ["--precision", options.precision]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def two_steps(preset: str, options: argparse.Namespace) -> None:
    """Prints by how many bytes the peak of this process exceeds what the libraries take."""
    before = anonymous()
    contender = Contender(preset, "cpu", options.precision)
    size = contender.model.student.input_size
    views = torch.randn(2, options.batch, 3, size, size)
    peak, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(2):
        contender.step(views)
    done.set()
    watcher.join()
    print(peak[0] - before)


def anonymous() -> int:
    """Bytes of this process's resident anonymous memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def more(a: float, b: float) -> str:
    """By how much b exceeds a."""
    return f"{100 * (b / a - 1):+.2f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--arch", default="vit_s16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="no", choices=("no", "bf16"))
    parser.add_argument("--peak", action="store_true", help="measure memory on a CPU, not time")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.peak_of:
        two_steps(options.peak_of, options)
        return
    if options.peak:
        presets = [f"{sd}mocov3_{options.arch}" for sd in ("", "sd_")]
        peaks = [peak_memory(preset, options) for preset in presets]
        for preset, peak in zip(presets, peaks, strict=True):
            estimate = cost(resolve(preset)).memory(options.batch)
            print(
                f"{preset:22} batch {options.batch}: peak {peak / 2**30:.2f} GiB "
                f"({estimate / 2**30:.2f} estimated)"
            )
        print(f"memory    {more(*peaks)} (paper under +6 %)")
        return
    contenders = [
        Contender(f"{sd}mocov3_{options.arch}", options.device, options.precision)
        for sd in ("", "sd_")
    ]
    size = contenders[0].model.student.input_size
    views = torch.randn(2, options.batch, 3, size, size, device=options.device)
    for _ in range(options.steps + 1):
        for contender in contenders:
            if options.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            contender.step(views)
            if options.device == "cuda":
                contender.peak = max(contender.peak, torch.cuda.max_memory_allocated())
    rate = matmul_rate(options.device, options.precision)
    print(
        f"{options.arch} at {size} px, batch {options.batch}, {options.device}, {options.precision}"
    )
    rows = []
    for contender in contenders:
        counted, medians = cost(contender.config), contender.medians()
        floor = counted.flops * options.batch / rate
        rows.append((medians, counted))
        phases = ", ".join(f"{name} {medians[name]:.3f}" for name in PHASES)
        print(
            f"{contender.config.preset:22} step {medians['step']:.3f} s ({phases}); "
            f"{counted.trained / 1e6:.1f} M trained, {counted.flops / 1e9:.2f} GFLOP per image, "
            f"{medians['step'] / floor:.2f} x the matmul floor"
            + (f", peak {contender.peak / 2**30:.2f} GiB" if contender.peak else "")
        )
    (plain, plain_cost), (distilled, distilled_cost) = rows

    without = [m["forward"] + m["backward"] for m in (plain, distilled)]
    print(f"time      {more(plain['step'], distilled['step'])} (paper +8.6 % with parallel heads)")
    print(f"  forward and backward alone {more(*without)}; operations "
          f"{more(plain_cost.flops, distilled_cost.flops)}")  # fmt: skip
    memory = [c.memory(options.batch) for _, c in rows]
    print(f"memory    {more(*memory)} estimated at this batch (paper under +6 %)")
    for images in (128, 512):
        print(
            f"  {more(*(c.memory(images) for _, c in rows))} estimated at {images} images per device"
        )


if __name__ == "__main__":
    main()
