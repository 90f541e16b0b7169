"""Cost of all layers against one layer for the whole retrieval task, from images to scores.

    python benchmarks/retrieval_layers.py --images 24

Target: 12 layers of ViT-S within 1.15 x the time of the last layer alone. The images are the miniature
Oxford's, enlarged to photographs, so that decoding and resizing cost what they cost.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import timm
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sdssl_bench import tasks
from sdssl_bench.api import as_encoder
from sdssl_bench.datasets.mini.make import make_mini
from sdssl_bench.task import RunContext


def enlarge(folder: Path, longest: int) -> None:
    for path in folder.glob("*.jpg"):
        with Image.open(path) as image:
            scale = longest / max(image.size)
            size = (round(image.width * scale), round(image.height * scale))
            image.resize(size, Image.Resampling.BICUBIC).save(path, quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=72, help="database images, at most 72")
    parser.add_argument("--imsize", default="224")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch16_224", num_classes=0, dynamic_img_size=True)
    encoder = as_encoder(model.eval())
    task = tasks.load("retrieval", None, {"imsize_oxford": options.imsize})
    spent: dict[int, list[float]] = {1: [], encoder.depth: []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_mini(root / "data", names=["roxford5k"])
        enlarge(root / "data" / "roxford5k" / "jpg", 1024)
        for repeat in range(-1, options.repeats):
            for count in spent:
                cache = root / f"cache-{repeat}-{count}"
                ctx = RunContext(root / "data", cache, device="cpu", limit=options.images)
                data = task.load_data("roxford5k", ctx)
                layers = range(encoder.depth - count + 1, encoder.depth + 1)
                started = time.perf_counter()
                list(task.run(encoder, data, layers, ctx))
                if repeat >= 0:  # the first round warms up
                    spent[count].append(time.perf_counter() - started)
    one, all_layers = (statistics.median(times) for times in spent.values())
    ratios = [b / a for a, b in zip(*spent.values(), strict=True)]
    print(f"one layer {one:.2f} s, {encoder.depth} layers {all_layers:.2f} s")
    print(f"ratio {statistics.median(ratios):.3f} (target 1.15)")


if __name__ == "__main__":
    main()
