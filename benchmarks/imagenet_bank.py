"""An ImageNet-sized bank (1.28 million rows of 384 in float16) is written and searched in 4 GB of RAM.

    python benchmarks/imagenet_bank.py [--layers 2] [--queries 1000] [--rows 1281167]

Runs the suite's own extraction, with an encoder that is a random projection of the colour of synthetic
images, and then the k-NN search of each layer. The process may hold 4 GiB of private memory (a limit
the kernel enforces); the peak of resident memory, which includes mapped pages of the bank, is printed.
12 layers take 12 GB of disk.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sdssl_bench.datasets.base import ImageSet
from sdssl_bench.encoders.encoder import Encoder, LayerFeatures, ModelInfo, everything
from sdssl_bench.features.extraction import extract
from sdssl_bench.neighbors.exact import top_k
from sdssl_bench.system.progress import Progress
from sdssl_bench.task import RunContext

LIMIT_GIB = 4
CLASSES = 1000


class Colours(ImageSet):
    """Images of one colour each, made when asked for."""

    def load(self, index: int) -> Image.Image:
        """A 2 x 2 image; colours repeat every 16.7 million images."""
        mixed = index * 2_654_435_761 % 256**3
        return Image.new("RGB", (2, 2), (mixed >> 16, mixed >> 8 & 255, mixed & 255))


class Projection(Encoder):
    """Layer l: cosines of random projections of the image's colour."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.depth, self.dims, self.stride, self.input_size = depth, (width,) * depth, 1, 2
        self.norm = "none"
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(3 * torch.randn(depth, 3, width, generator=generator))
        self.info = ModelInfo("projection", "", "module", "model", "projection", weights_sha256="0")

    def forward_layers(
        self,
        images: Tensor,
        layers: Sequence[int],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[int, Any]:
        """As for every encoder; there are no patches worth the name."""
        colour = images.mean((2, 3))
        tokens = {layer: torch.cos(colour @ self.weight[layer - 1]) for layer in sorted(layers)}
        return {
            n: reduce(LayerFeatures(x, x[:, None, None], lambda t: t)) for n, x in tokens.items()
        }


class Tiny:
    """The pixels as they are."""

    def describe(self) -> dict[str, Any]:
        """Its identity."""
        return {"id": "as is"}

    def __call__(self, image: Image.Image) -> Tensor:
        """Uint8 [3, 2, 2]."""
        return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def synthetic(rows: int, split: str) -> ImageSet:
    return Colours(
        dataset="synthetic-imagenet",
        split=split,
        class_names=tuple(map(str, range(CLASSES))),
        targets=np.arange(rows, dtype=np.int64) % CLASSES,
        names=[f"{split}/n{i % CLASSES:08d}/{i:08d}.JPEG" for i in range(rows)],
        root=Path(),
        fingerprint=str(rows),
        freshness="",
    )


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_281_167)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--cache-dir", type=Path, help="where the temporary banks go")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_GIB * 2**30,) * 2)
    print(f"imports                          peak {peak_gib():5.2f} GiB")
    encoder = Projection(options.layers, options.width)
    layers = range(1, options.layers + 1)
    with tempfile.TemporaryDirectory(dir=options.cache_dir) as cache, Progress() as progress:
        ctx = RunContext(
            None, Path(cache), device="cpu", bank_dtype="float16", batch_size=512, progress=progress
        )
        train, test = (
            extract(encoder, synthetic(rows, split), layers, preprocess=Tiny(), ctx=ctx)
            for rows, split in ((options.rows, "train"), (options.queries, "test"))
        )
        gigabytes = options.rows * options.layers * options.width * 2 / 1e9
        spent = train.seconds
        print(
            f"extracted {options.rows:,} x {options.layers} layers, {gigabytes:.1f} GB, in "
            f"{spent['total']:.0f} s (write {spent['write']:.0f} s)   peak {peak_gib():5.2f} GiB"
        )
        for layer in layers:
            started = time.perf_counter()
            scores, ids = top_k(test.features(layer), train.features(layer), k=200)
            assert (ids[:, 0] == np.arange(options.queries)).all(), "each query is a bank row too"
            assert (scores[:, 0] > 0.9999).all()
            print(
                f"searched layer {layer}: {options.queries:,} queries, top-200, "
                f"{time.perf_counter() - started:.0f} s   peak {peak_gib():5.2f} GiB"
            )
    print(f"peak of resident memory: {peak_gib():.2f} GiB (target: below {LIMIT_GIB})")


if __name__ == "__main__":
    main()
