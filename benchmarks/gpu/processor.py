"""What the CPU still owes, on two cores whatever the machine has, beside the figures of its card."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import Row, in_turn, ratio, row

CORES = 2


def cpu(device: str, size: str) -> Iterator[Row]:
    """k-NN, DAVIS and extraction against what they are built on; the device is always the CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(min(CORES, threads))
    try:
        yield from _knn(size)
        yield from _davis(size)
        yield from _extraction(size)
    finally:
        torch.set_num_threads(threads)


def _knn(size: str) -> Iterator[Row]:
    import faiss
    from knn import contenders

    train, test, width = (50_000, 10_000, 384) if size == "full" else (2000, 200, 16)
    works = contenders(train, test, width)
    faiss.omp_set_num_threads(torch.get_num_threads())
    found = in_turn({name: works[name] for name in ("suite", "faiss")}, 3, "cpu")
    yield row(f"k-NN, {train:,} x {test:,} x {width}, four k and votes / bare faiss search",
              ratio(found["suite"], found["faiss"]), "x", "aim: at most 1.1")  # fmt: skip


def _davis(size: str) -> Iterator[Row]:
    from davis_propagation import matmul_rate, products, sequence_seconds, step_seconds

    rate = matmul_rate()
    for patch, aim in ((16, "aim: at least 6; "), (8, "")) if size == "full" else ((16, ""),):
        dense, ours, _ = step_seconds(patch, 5 if size == "full" else 1)
        yield row(f"DAVIS propagation, patch {patch}: dense / ours", dense / ours, "x",
                  aim + products(patch).text(rate))  # fmt: skip
    frames, model = (10, "vit_small_patch16_224") if size == "full" else (3, "vit_tiny_patch16_224")
    found = [
        seconds for seconds, _ in sequence_seconds(frames, 2 if size == "full" else 1, model=model)
    ]
    yield row(f"DAVIS sequence of {frames} frames, 12 layers / 1 layer",
              ratio([one[12] for one in found], [one[1] for one in found]), "x",
              "aim: at most 1.5")  # fmt: skip


def _extraction(size: str) -> Iterator[Row]:
    """JPEGs to features against the slower of decoding alone and the forward pass alone."""
    import numpy as np
    import timm
    from pretrain_views import make_jpegs

    from sdssl_bench import api, datasets
    from sdssl_bench.datasets.transforms import preprocess
    from sdssl_bench.features.extraction import extract
    from sdssl_bench.features.forward import Forward
    from sdssl_bench.features.loading import batches
    from sdssl_bench.features.store import BankKey
    from sdssl_bench.task import RunContext

    count, name = (64, "vit_small_patch16_224") if size == "full" else (4, "vit_tiny_patch16_224")
    encoder = api.as_encoder(timm.create_model(name, num_classes=0).eval())
    place, steps = torch.device("cpu"), preprocess("A", encoder.input_size)
    wanted = range(1, encoder.depth + 1)
    forward = Forward(encoder, [BankKey(layer, "cls") for layer in wanted], device=place,
                      dtype="float32", batch_size=None)  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for part in ("train/a", "train/b"):
            (root / "set" / part).mkdir(parents=True)
            make_jpegs(root / "set" / part, count // 2)
        shutil.copytree(root / "set" / "train", root / "set" / "test")
        data: Any = datasets.load(f"folder:{root / 'set'}", data_root=None)
        groups = np.array_split(np.arange(count), max(1, count // forward.piece))
        load = partial(batches, data.train, steps, groups, device=place, num_workers=None)
        loaded = [one.pixels for one in load() if one.pixels is not None]

        def whole() -> None:
            cache = root / f"cache-{time.monotonic_ns()}"
            ctx = RunContext(data_root=None, cache_dir=cache, device="cpu")
            extract(encoder, data.train, wanted, preprocess=steps, ctx=ctx)

        found = in_turn(
            {
                "decoding": lambda: list(load()),
                "forward": lambda: [forward(pixels) for pixels in loaded],
                "whole": whole,
            },
            2 if size == "full" else 1,
            "cpu",
        )
    slower = max(("decoding", "forward"), key=lambda one: sum(found[one]))
    share = ratio(found["decoding"], found["forward"])
    yield row(f"extraction from JPEGs / {slower} alone, images/s, {name}",
              ratio(found[slower], found["whole"]), "x",
              f"aim: at least 0.9; decoding takes {share:.3f} of the forward pass' time")  # fmt: skip
