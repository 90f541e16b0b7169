"""Views per second and core: everything by Pillow in the loader, or colour in batch on the device.

    python benchmarks/pretrain_views.py [--folder DIR] [--images 64]

Times decoding, cropping, and recolouring of both views by one core, as one loader worker does, and the
batched recolouring on the device. An image is counted once for its two views.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sdssl_bench.datasets.readers.images_on_disk import list_images
from sdssl_bench.features.views import TwoViews, view_pair
from sdssl_bench.pretrain.data.device_views import normalised


def make_jpegs(folder: Path, count: int) -> None:
    """Images of ImageNet's usual 500 x 375 pixels with some texture, so that JPEG has work to do."""
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = generator.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        noise = generator.normal(0, 8, (375, 500, 3))
        pixels = np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.jpg", quality=90)


def device_rate(paths: list[Path], size: int, device: str) -> float:
    """Images per second of the batched colour of both views, once warm; on a CPU by processor time."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    make = TwoViews(view_pair("mocov3", size=size, crop_min=0.08), on_device=True)
    made = [make(Image.open(path).convert("RGB"), i) for i, path in enumerate(paths)]
    pixels = torch.cat([p for p, _ in made]).to(device)
    drawn = torch.cat([d for _, d in made])
    mean = std = torch.ones(3, device=device)

    def run() -> None:
        normalised(pixels, drawn, mean=mean, std=std)
        if device == "cuda":
            torch.cuda.synchronize()

    run()
    start = clock()
    run()
    return len(paths) / (clock() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        if options.folder is None:
            make_jpegs(folder, options.images)
        paths = [folder / name for name in list_images(folder)[: options.images]]
        pair = view_pair("mocov3", size=options.size, crop_min=0.08)

        def rate(label: str, work: object, count: int = len(paths)) -> None:
            assert callable(work)
            start = time.process_time()
            work()
            seconds = time.process_time() - start
            print(f"{label:48} {count / seconds:8.1f} images/s per core")

        print(f"{len(paths)} images, {options.size} px, processor time of one thread")
        rate("decode", lambda: [Image.open(p).convert("RGB") for p in paths])
        images = [Image.open(p).convert("RGB") for p in paths]
        for label, on_device in (("both views by Pillow", False), ("both views, crops only", True)):
            make = TwoViews(pair, on_device=on_device)
            rate(
                f"{label}, without decoding", lambda m=make: [m(x, i) for i, x in enumerate(images)]
            )
            rate(
                f"{label}, with decoding",
                lambda m=make: [m(Image.open(p).convert("RGB"), i) for i, p in enumerate(paths)],
            )
        label = f"colour, blur, solarise in batch on {options.device}"
        unit = "images/s" if options.device == "cuda" else "images/s per core"
        print(f"{label:48} {device_rate(paths, options.size, options.device):8.1f} {unit}")


if __name__ == "__main__":
    main()
