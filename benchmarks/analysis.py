"""What the analysis of representations costs beyond the forward pass, as ratios in one run.

    python benchmarks/analysis.py [--images 5000] [--layers 12] [--width 384] [--forward-images 32]

Features are random, of the sizes of a ViT-S/16 on 5,000 images; t-SNE maps have 500 of them. Prints
seconds of each part for all layers; their sum relative to the forward passes it follows (three of every
image, timed on few and scaled up); pairs relative to bare `scipy` distances and exponentials of both views;
the CKA matrix relative to the same estimator pair by pair, each time with its own Gram matrices; and the
peak memory above the features, relative to one n x n matrix in float64.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sdssl_bench.analysis import cka, embedding, rank, uniformity

Layers = list[NDArray[np.float32]]


def clustered(images: int, width: int, layers: int) -> Layers:
    """Ten classes off the origin; layer by layer a little more noise, so that layers are related."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, width)).astype(np.float32) + 2
    features = centres[rng.integers(0, 10, images)]
    found = []
    for _ in range(layers):
        features = features + 0.3 * rng.standard_normal((images, width), np.float32)
        found.append(features)
    return found


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def forward_seconds(images: int) -> float:
    """Per image, of a ViT-S/16 at 224 px."""
    model = timm.create_model("vit_small_patch16_224", pretrained=False).eval()
    pixels = torch.randn(images, 3, 224, 224)
    with torch.inference_mode():
        model(pixels[:2])
        return seconds_of(lambda: model(pixels)) / images


def bare_pairs(views: list[NDArray[np.float64]]) -> list[float]:
    """Uniformity of each view with all its distances in memory."""
    return [float(np.log(np.exp(-2 * pdist(view, "sqeuclidean")).mean())) for view in views]


def pair_by_pair(layers: Layers, batches: list[NDArray[np.int64]]) -> None:
    for i, first in enumerate(layers):
        for second in layers[i:]:
            cka.minibatch_cka([first], [second], batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--forward-images", type=int, default=32)
    arguments = parser.parse_args()
    n = arguments.images
    layers = clustered(n, arguments.width, arguments.layers)
    views = [uniformity.unit(layers[0]), uniformity.unit(layers[-1])]
    batches = cka.random_batches(n, 256, seed=0)
    shown = layers[-1][:500]
    start_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    parts = {
        "pairs": arguments.layers * seconds_of(lambda: uniformity.pair_scores(*views)),
        "rank": arguments.layers
        * seconds_of(lambda: [rank.singular_values(layers[-1], centred=c) for c in (False, True)]),
        "cka": seconds_of(lambda: cka.minibatch_cka(layers, None, batches)),
    }
    above = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start_kib) * 2**10
    embedding.tsne_map(shown[:100], perplexity=10, iterations=250)  # imports and compiles
    parts["tsne"] = arguments.layers * seconds_of(lambda: embedding.tsne_map(shown))
    bare = arguments.layers * seconds_of(lambda: bare_pairs(views))
    single = seconds_of(lambda: pair_by_pair(layers, batches))
    forward = 3 * n * forward_seconds(arguments.forward_images)

    for name, spent in parts.items():
        print(f"{name:<28} {spent:8.2f} s, all layers")
    print(f"forward passes, scaled up    {forward:8.2f} s")
    print(f"analysis / forward passes    {sum(parts.values()) / forward:8.3f}")
    print(f"pairs / bare distances       {parts['pairs'] / bare:8.2f}")
    print(f"cka matrix / pair by pair    {parts['cka'] / single:8.3f}")
    print(f"memory / one n x n matrix    {above / (8 * n * n):8.2f}")


if __name__ == "__main__":
    main()
