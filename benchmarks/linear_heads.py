"""Training heads on 12 layers x 10 learning rates, against one layer at one rate; ViT-S/16 at 224 px.

    python benchmarks/linear_heads.py --threads 2
    python benchmarks/linear_heads.py --images 64 --repeats 2      short

Target: at most 1.3 x the time. Both train on the same augmented images through the probe's own code:
crop, encoder pass, features of the layers asked, one SGD step of all heads per batch. The two take turns,
the ratio is that of the medians.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from sdssl_bench import encoders
from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.features.forward import placed
from sdssl_bench.probes.augment import RandomCropFlip
from sdssl_bench.probes.linear.sgd_probe import SgdRecipe, Trainer
from sdssl_bench.task import RunContext

LAYERS, RATES = 12, 10


def images(count: int, classes: int) -> ImageSet:
    """Noise of 256 x 256 pixels in memory."""
    rng = np.random.default_rng(0)
    return ImageSet(
        dataset="noise",
        split="train",
        class_names=tuple(str(i) for i in range(classes)),
        targets=np.arange(count, dtype=np.int64) % classes,
        names=[str(i) for i in range(count)],
        root=Path(),
        fingerprint="",
        freshness="",
        pixels=rng.integers(0, 256, (count, 256, 256, 3), dtype=np.uint8),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    encoder = encoders.build("vit_small_p16").eval()
    data = images(args.images, args.classes)
    recipe = SgdRecipe(
        epochs=100, batch=args.batch, iterations=0, per_epoch=True, init="normal",
        batch_norm=False, augmentation=RandomCropFlip(encoder.input_size),
    )  # fmt: skip
    ctx = RunContext(data_root=None, cache_dir=Path(), device="cpu", num_workers=0)
    rates = np.geomspace(1e-3, 1.0, RATES).tolist()
    make = {
        "1 layer x 1 rate": ([(LAYERS, "cls")], rates[:1]),
        "12 layers x 10 rates": ([(layer, "cls") for layer in range(1, LAYERS + 1)], rates),
    }
    trainers = {
        name: Trainer(encoder, data, np.arange(args.images), inputs, lrs, recipe, ctx)
        for name, (inputs, lrs) in make.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    with placed(encoder, torch.device("cpu")):
        for turn in range(args.repeats + 1):
            for name, trainer in trainers.items():
                started = time.perf_counter()
                trainer.epoch(turn)
                if turn:
                    seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        print(f"{name:22} {median:7.2f} s for {args.images} images, {args.images / median:.1f}/s")
    one, many = medians.values()
    print(f"ratio {many / one:.3f} (target at most 1.3)")


if __name__ == "__main__":
    main()
