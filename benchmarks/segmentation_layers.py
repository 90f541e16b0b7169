"""Cost of all layers against one for k-NN segmentation, where it goes, and against the bare model.

    python benchmarks/segmentation_layers.py --images 20

Every layer is searched, so only the passes of the encoder are shared: what 12 layers cost depends on how the
search compares with the encoder, and that on the bank.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import timm
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sdssl_bench import tasks
from sdssl_bench.api import as_encoder
from sdssl_bench.datasets.mini.make import make_mini
from sdssl_bench.task import RunContext


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20, help="per split, at most 20")
    parser.add_argument("--size", default="224", help="of images and masks, in pixels")
    parser.add_argument("--bank", default="102400", help="patches, as far as there are so many")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch16_224", num_classes=0, dynamic_img_size=True)
    encoder = as_encoder(model.eval())
    settings = {
        "image_size": options.size,
        "mask_size": options.size,
        "bank": options.bank,
        "k": "10",
    }
    task = tasks.load("segmentation", None, settings)
    spent: dict[int, list[dict[str, float]]] = {1: [], encoder.depth: []}
    bare: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_mini(root / "data", names=["voc2012"])
        for repeat in range(-1, options.repeats):
            for count in spent:
                ctx = RunContext(root / "data", root / "cache", device="cpu", limit=options.images)
                data = task.load_data("voc2012", ctx)
                layers = range(encoder.depth - count + 1, encoder.depth + 1)
                started = time.perf_counter()
                first, *_ = list(task.run(encoder, data, layers, ctx))
                whole = time.perf_counter() - started
                if repeat >= 0:  # the first round warms up
                    spent[count].append({**first.seconds, "total": whole})
            batch = torch.zeros(options.images, 3, int(options.size), int(options.size))
            started = time.perf_counter()
            with torch.inference_mode():
                for _ in ("train", "test"):
                    model(batch)
            if repeat >= 0:
                bare.append(time.perf_counter() - started)
    for phase in ("forward", "search", "vote", "total"):
        one, all_layers = (
            statistics.median(times[phase] for times in rounds) for rounds in spent.values()
        )
        print(
            f"{phase:8}one layer {one:6.2f} s, {encoder.depth} layers {all_layers:6.2f} s, "
            f"ratio {all_layers / max(one, 1e-9):5.2f}"
        )
    least = {count: min(times["total"] for times in rounds) for count, rounds in spent.items()}
    for count, seconds in least.items():
        print(f"bare model {min(bare):6.2f} s, {count:2} of its layers x{seconds / min(bare):5.2f}")


if __name__ == "__main__":
    main()
