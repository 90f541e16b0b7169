"""Label propagation against its dense form, twelve layers against one, and peak memory.

    python benchmarks/davis_propagation.py frame      one frame, patch 8 and 16, ratio to the dense form
    python benchmarks/davis_propagation.py layers     a whole sequence, 12 layers against 1, ViT-S/16
    python benchmarks/davis_propagation.py memory     12 layers, ViT-S/8 or B/8, 480 x 1152, 8 context frames

Targets: at patch 8 at least 10 x faster than the dense form, at patch 16 at least 6 x; 12 layers at most
1.5 x the time of one; under 6 GB. Products are counted, so that what is out of reach shows.
`--threads 1` reports processor time, which other programs on the machine disturb least.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from davis_twins import dense_propagation  # noqa: E402
from sdssl_bench import checkpoints, tasks  # noqa: E402
from sdssl_bench.datasets.readers.palette import write_mask  # noqa: E402
from sdssl_bench.system.threads import ThreadTeam  # noqa: E402
from sdssl_bench.task import RunContext  # noqa: E402
from sdssl_bench.video.affinities import Rule  # noqa: E402
from sdssl_bench.video.propagation import Context, unit  # noqa: E402
from sdssl_bench.video.segmentation import Segmenter  # noqa: E402

RULE = Rule()
CONTEXT, WIDTH, CHANNELS = 8, 384, 3
GRIDS = {16: (30, 52), 8: (60, 104)}
"""Patches of a frame of 480 x 832."""


def window(height: int, width: int) -> torch.Tensor:
    """The window of the dense form, made once per video and not counted."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    apart = [(part.flatten()[:, None] - part.flatten()).abs() for part in (y, x)]
    return (torch.maximum(*apart) <= RULE.radius).float()


def step_seconds(
    patch: int, repeats: int, *, device: str = "cpu", threads: int = 0
) -> tuple[float, float, float]:
    """Median seconds of a frame by the dense form and by ours, and the largest difference of labels."""
    clock = time.process_time if threads == 1 else time.perf_counter
    height, width = GRIDS[patch]

    def timed(work: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
        settle(device)
        started = clock()
        found = work()
        settle(device)
        return clock() - started, found

    base = torch.randn(height, width, WIDTH, device=device)
    maps = [base + 0.7 * torch.randn_like(base) for _ in range(CONTEXT + repeats)]
    labels = torch.rand(height, width, CHANNELS, device=device).softmax(-1)
    context = Context(maps[0], labels, rule=RULE, length=CONTEXT - 1)
    known = [labels, *(context.step(maps[t]) for t in range(1, CONTEXT))]
    mask = window(height, width).to(device)
    ours, dense, difference = [], [], 0.0
    keys = torch.stack(maps[:CONTEXT])
    for features in maps[CONTEXT:]:
        seconds, expected = timed(
            lambda now=features: dense_propagation(  # type: ignore[misc]
                now, keys, torch.stack(known), mask=mask, topk=RULE.topk, temperature=0.1
            )
        )
        dense.append(seconds)
        with ThreadTeam(device) as crew:
            seconds, found = timed(lambda now=features: context.step(now, crew))  # type: ignore[misc]
        ours.append(seconds)
        difference = max(difference, float((found - expected).abs().max()))
        context.recent.clear()
        for t in range(1, CONTEXT):
            context.recent.append(context._frame(unit(maps[t]), known[t]))
    return statistics.median(dense), statistics.median(ours), difference


class Products(NamedTuple):
    """Multiplications and additions of a frame's similarities, and bytes of the similarities."""

    dense: int
    ours: int
    window: int
    dense_bytes: int
    our_bytes: int

    def text(self, rate: float) -> str:
        """What they say of the time, at `rate` operations per second and core."""
        return (
            f"{self.dense / 1e9:.1f} GFLOP dense, {self.ours / 1e9:.1f} in tiles, {self.window / 1e9:.1f} "
            f"in the windows alone; similarities {self.dense_bytes / 1e6:.0f} MB dense, "
            f"{self.our_bytes / 1e6:.0f} in tiles; one core at {rate / 1e9:.0f} GFLOP/s takes "
            f"{1e3 * self.window / rate:.0f} ms for the windows' products, {1e3 * self.ours / rate:.0f} ms "
            f"for the tiles', {1e3 * self.dense / rate:.0f} ms for the dense ones"
        )


def products(patch: int) -> Products:
    """Counted while our form runs; the dense form and the windows by their definition."""
    height, width = GRIDS[patch]
    maps = torch.zeros(height, width, WIDTH)
    context = Context(maps, torch.ones(height, width, 1), rule=RULE, length=CONTEXT - 1)
    for _ in range(1, CONTEXT):
        context.recent.append(context.first)
    with FlopCounterMode(display=False) as counter:
        context.step(maps)
    ours = counter.get_flop_counts()["Global"][torch.ops.aten.mm]
    dense = 2 * CONTEXT * (height * width) ** 2 * WIDTH
    inside = int(window(height, width).sum())
    bytes_each = 4 / (2 * WIDTH)
    return Products(
        dense, ours, 2 * CONTEXT * inside * WIDTH, int(dense * bytes_each), int(ours * bytes_each)
    )


def matmul_rate() -> float:
    """Operations per second and core of products of a tile's shape, by processor time."""
    query, keys = torch.randn(96, WIDTH), torch.randn(700, WIDTH)
    threads, spent = torch.get_num_threads(), []
    torch.set_num_threads(1)
    for _ in range(5):
        started = time.thread_time()
        for _ in range(50):
            torch.mm(query, keys.T)
        spent.append(time.thread_time() - started)
    torch.set_num_threads(threads)
    return 50 * 2 * len(query) * len(keys) * WIDTH / min(spent)


def settle(device: str) -> None:
    """Waits for what the device was given to do."""
    if device != "cpu":
        torch.cuda.synchronize()


def frame(args: argparse.Namespace) -> None:
    for patch, repeats in ((16, 9), (8, 3)):
        if patch not in args.patches:
            continue
        a, b, difference = step_seconds(patch, repeats, threads=args.threads)
        print(
            f"patch {patch}, {CONTEXT} context frames: dense {1e3 * a:.0f} ms, "
            f"ours {1e3 * b:.0f} ms, {a / b:.1f} x; largest difference {difference:.1e}"
        )
        print(products(patch).text(matmul_rate()))


def sequence_seconds(
    frames: int, repeats: int, *, device: str = "cpu", model: str = "vit_small_patch16_224"
) -> Iterator[tuple[dict[int, float], dict[str, float]]]:
    """Per repeat: seconds of a whole sequence of 480 x 854 by layers, and the phases of all layers."""
    encoder = checkpoints.load(f"timm:{model}?pretrained=false&seed=0")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for part in ("JPEGImages", "Annotations"):
            (root / part / "480p" / "clip").mkdir(parents=True)
        photo = Image.fromarray(rng.integers(0, 255, (30, 54, 3), np.uint8)).resize((960, 540))
        for t in range(frames):
            x, y = 2 * t % 106, t % 60
            picture = photo.crop((x, y, x + 854, y + 480))
            picture.save(root / "JPEGImages" / "480p" / "clip" / f"{t:05d}.jpg")
            ids = np.zeros((480, 854), np.uint8)
            ids[100:300, 200 + t : 400 + t], ids[300:400, 500:700] = 1, 2
            write_mask(root / "Annotations" / "480p" / "clip" / f"{t:05d}.png", ids)
        task = tasks.load("davis")
        for repeat in range(repeats):
            seconds: dict[int, float] = {}
            for count in (1, 12):
                ctx = RunContext(
                    data_root=None, cache_dir=root / f"cache{count}-{repeat}", device=device
                )
                data = task.load_data(f"folder:{root}", ctx)
                started = time.perf_counter()
                wanted = range(13 - count, 13)
                parts = next(iter(task.run(encoder, data, wanted, ctx))).seconds
                seconds[count] = time.perf_counter() - started
            yield seconds, dict(parts)


def layers(args: argparse.Namespace) -> None:
    found = []
    for seconds, parts in sequence_seconds(args.frames, args.repeats):
        found.append(seconds)
        shown = ", ".join(f"{name} {value:.1f}" for name, value in parts.items())
        print(f"12 layers: {seconds[12]:.1f} s ({shown}), 1 layer: {seconds[1]:.1f} s")
    ratio = min(one[12] for one in found) / min(one[1] for one in found)
    print(f"{args.frames} frames of 480 x 854: 12 layers take {ratio:.2f} x the time of one")


def memory(args: argparse.Namespace) -> None:
    encoder = checkpoints.load(f"timm:{args.model}?pretrained=false&seed=0")
    task = tasks.load("davis")
    segmenter = Segmenter(encoder, range(1, 13), settings=task.settings, device="cpu")
    wanted, size = list(range(1, 13)), (480, 1152)
    grid = (60, 144)
    contexts = {}
    with torch.inference_mode():
        for layer in wanted:
            noise = torch.randn(*grid, encoder.dims[0])
            first = torch.nn.functional.one_hot(torch.randint(0, 4, grid), 4).float()
            contexts[layer] = Context(noise, first, rule=RULE, length=CONTEXT - 1)
            for _ in range(CONTEXT - 1):
                contexts[layer].recent.append(contexts[layer]._frame(unit(noise + 1), first))
        filled = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        features = segmenter._forward([np.zeros((*size, 3), np.uint8)], "clip")
        features = {layer: maps[0] for layer, maps in features.items()}
        with ThreadTeam("cpu") as crew:
            segmenter._masks(contexts, features, size, size, crew=crew)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{args.model}, 12 layers, {size[0]} x {size[1]}: {filled / 1e6:.2f} GB with full contexts, "
        f"{peak / 1e6:.2f} GB at the peak of a frame"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("frame", "layers", "memory"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--patches", type=int, nargs="+", default=(16, 8), help="of `frame`")
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--model", default="vit_small_patch8_224")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    {"frame": frame, "layers": layers, "memory": memory}[args.part](args)


if __name__ == "__main__":
    main()
