"""Cost of all layers against the bare model: time and peak memory, as ratios in one run.

    python benchmarks/layers.py

Targets: 12 layers' [CLS] of ViT-S/16 at 224 within 1.10 x the time and 1.3 x the memory of `model(images)`;
at three points of each block within 1.15 x of one point.
Memory is what the forward pass adds to the process, measured in a process of its own for each form.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sdssl_bench.encoders.building import wrap
from sdssl_bench.encoders.encoder import cls, everything
from sdssl_bench.encoders.points import POINTS


def forms(
    batch: int, *, name: str = "vit_small_patch16_224", device: str = "cpu"
) -> dict[str, Callable[[], object]]:
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0).to(device).eval()
    encoder = wrap(model).eval()
    images = torch.randn(batch, 3, 224, 224, device=device)
    layers = range(1, encoder.depth + 1)
    return {
        "bare": lambda: model(images),
        "layers": lambda: encoder.forward_layers(images, layers, cls),
        "points": lambda: encoder.forward_points(images, layers, POINTS, cls),
        "stored": lambda: encoder.forward_layers(images, layers, everything),
    }


def peak_megabytes(form: str, batch: int) -> float:
    """Memory that `form` adds, in a fresh process: its peak less what was there before the pass."""
    done = subprocess.run(
        [sys.executable, __file__, "--only", form, "--batch", str(batch)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def added_peak(run: Callable[[], object]) -> float:
    """Megabytes; the kernel's peak is reset first, since imports peak too (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    run()
    return (resident("VmHWM") - before) / 1024


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", help="print the memory one form adds")
    arguments = parser.parse_args()
    if arguments.only:
        print(added_peak(forms(arguments.batch)[arguments.only]))
        return
    runs = forms(arguments.batch)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(arguments.repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    memory = {name: peak_megabytes(name, arguments.batch) for name in runs}
    for name in runs:
        # Rounds are interleaved, so a ratio compares neighbours in time on a busy machine too.
        ratio = statistics.median(
            a / b for a, b in zip(seconds[name], seconds["bare"], strict=True)
        )
        print(
            f"{name:<8} {1000 * min(seconds[name]):8.1f} ms  time x{ratio:.3f}"
            f"  {memory[name]:7.1f} MB  memory x{memory[name] / memory['bare']:.2f}"
        )
    ratio = statistics.median(
        a / b for a, b in zip(seconds["points"], seconds["layers"], strict=True)
    )
    memory_ratio = memory["points"] / memory["layers"]
    print(f"three points / one point: time x{ratio:.3f} (target 1.15)  memory x{memory_ratio:.2f}")


if __name__ == "__main__":
    main()
