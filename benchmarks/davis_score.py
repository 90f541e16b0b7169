"""Speed and memory of `score davis` on masks of the size of DAVIS-2017 val, against a dense form.

    python benchmarks/davis_score.py [--folder MASKS] [--sequences 30] [--dense-sequences 2]

Writes 30 sequences (1,999 frames, 61 objects, 480p) of moving blobs and a disturbed copy as palette
PNGs, runs the command in a process of its own, and compares every object with whole-frame one-hot
stacks and distance maps. Prints seconds, peak memory of all processes, and the largest difference.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from davis_twins import dense_j_and_f  # noqa: E402
from sdssl_bench.datasets import spec  # noqa: E402
from sdssl_bench.datasets.readers.palette import read_mask, write_mask  # noqa: E402

VAL_FRAMES = spec("davis").sizes


def blobs(rng: np.random.Generator, frames: int, objects: int, size: tuple[int, int]) -> np.ndarray:
    """[T, H, W] ids of objects with wavy outlines that wander over the image."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    stack = np.zeros((frames, height, width), np.uint8)
    for k in range(1, objects + 1):
        cy, cx = rng.uniform(0.25, 0.75, 2) * size
        vy, vx = rng.normal(0, 1.5, 2)
        radius, waves, phase = rng.uniform(40, 90), rng.integers(3, 9), rng.uniform(0, 6)
        for t in range(frames):
            dy, dx = y - cy - vy * t, x - cx - vx * t
            outline = radius * (1 + 0.25 * np.sin(waves * np.arctan2(dy, dx) + phase + t / 9))
            stack[t][dy * dy + dx * dx < outline * outline] = k
    return stack


def write_folders(folder: Path, sequences: int) -> None:
    names = list(VAL_FRAMES)[:sequences]
    rng = np.random.default_rng(0)
    for number, name in enumerate(names):
        size = {"shooting": (480, 1152), "cows": (480, 910)}.get(name, (480, 854))
        stack = blobs(rng, VAL_FRAMES[name], 3 if number == 0 else 2, size)
        for part in ("annotations", "predictions"):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
        for t, mask in enumerate(stack):
            write_mask(folder / "annotations" / name / f"{t:05d}.png", mask)
            shift = tuple(rng.integers(-8, 9, 2))
            moved = np.roll(mask, shift, (0, 1))
            write_mask(folder / "predictions" / name / f"{t:05d}.png", moved)
    (folder / "val.txt").write_text("\n".join(names) + "\n")


def tree_memory(pid: int) -> int:
    """Resident bytes of a process and its descendants (shared pages count in each)."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                total += int(line.split()[1]) * 1024
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += tree_memory(int(child))
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the masks here and use them again")
    parser.add_argument("--sequences", type=int, default=len(VAL_FRAMES))
    parser.add_argument("--dense-sequences", type=int, default=2)
    parser.add_argument("--num-workers", type=int, default=2)
    options = parser.parse_args()
    temporary = None if options.folder else tempfile.TemporaryDirectory()
    folder = options.folder or Path(temporary.name)
    if not (folder / "val.txt").exists():
        write_folders(folder, options.sequences)
    command = [
        sys.executable, "-m", "sdssl_bench", "score", "davis", "--json",
        "--predictions", folder / "predictions", "--annotations", folder / "annotations",
        "--sequences", folder / "val.txt", "--num-workers", str(options.num_workers),
    ]  # fmt: skip
    for attempt in range(3):
        started, peak = time.perf_counter(), 0
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            while process.poll() is None:
                peak = max(peak, tree_memory(process.pid))
                time.sleep(0.02)
            output = process.stdout.read()
        seconds = time.perf_counter() - started
        print(f"run {attempt + 1}: {seconds:.2f} s, peak {peak / 1e6:.0f} MB in all processes")
    scores = json.loads(output)
    print(f"objects {len(scores['per_object'])}, J&F-Mean {scores['J&F-Mean']:.6f}")

    difference, frames, started = 0.0, 0, time.perf_counter()
    written = (folder / "val.txt").read_text().split()
    for name in sorted(written, key=VAL_FRAMES.get)[: options.dense_sequences]:
        files = sorted((folder / "annotations" / name).glob("*.png"))
        truth = np.stack([read_mask(file) for file in files])
        found = np.stack([read_mask(folder / "predictions" / name / file.name) for file in files])
        dense = dense_j_and_f(found[1:-1], truth[1:-1], truth[0].max()).mean(-1)
        frames += len(files)
        for k, (j, f) in enumerate(dense.T, 1):
            ours = scores["per_object"][f"{name}_{k}"]
            difference = max(difference, abs(ours["J"] - j), abs(ours["F"] - f))
    per_frame = (time.perf_counter() - started) / max(frames, 1)
    print(
        f"dense form: {per_frame * 1e3:.1f} ms a frame, {per_frame * 1999:.0f} s for 1,999 frames: "
        f"{per_frame * 1999 / seconds:.1f} x ours; largest difference {difference:.1e}"
    )
    if temporary:
        temporary.cleanup()


if __name__ == "__main__":
    main()
