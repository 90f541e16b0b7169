"""What a segmentation will cost: a batch through the encoder, an image's votes, a slice of a search."""

import time
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.datasets import MaskedImages
from sdssl_bench.dense.patches import mask_of, mask_of_pixels, pixel_votes, resized
from sdssl_bench.dense.scoring import BLOCK_IMAGES, DenseScorer
from sdssl_bench.dense.settings import Candidate
from sdssl_bench.features import placed
from sdssl_bench.neighbors import top_k_bytes, top_k_cost
from sdssl_bench.system import Work, num_processes


def dense_work(scorer: DenseScorer) -> Iterator[Work]:
    """What `DenseScorer.score` would do."""
    encoder, layers, settings = scorer.encoder, scorer.layers, scorer.settings
    todo = {
        split: np.concatenate(
            [rows[:0], *(rows[s : s + BLOCK_IMAGES] for s in scorer.lacking(split))]
        )
        for split, rows in scorer.rows.items()
    }
    bank = scorer.per_image * len(scorer.rows["train"])
    patches = (scorer.steps.size // encoder.stride) ** 2
    widths = [encoder.dims[layer - 1] for layer in layers]
    size, most = np.dtype(scorer.ctx.bank_dtype).itemsize, max(settings.k)
    # A bank for distances is in float64; images that are not held out have one of their own.
    copies = 1 + sum(8 / size if one == "euclidean" else 1 for one in settings.distance) * (
        2 if "val" in todo else 1
    )

    def fill() -> float:
        seconds, _ = _pass(scorer, scorer.data.train, todo["train"])
        return seconds / num_processes()

    def search(split: str, masked: MaskedImages, candidates: Sequence[Candidate]) -> float:
        images = len(todo[split])
        seconds, maps = _pass(scorer, masked, todo[split])
        per_block = min(BLOCK_IMAGES, images)
        truth = resized(masked.mask(int(todo[split][0])), settings.mask_size)
        distances = {one.distance for one in candidates}
        for one in maps.values():
            rows, columns, width = one.shape
            block = top_k_cost(
                per_block * rows * columns, bank, width, k=most,
                backend=scorer.ctx.backend, device=scorer.tokens.device,
            )  # fmt: skip
            spent = len(candidates) * _vote_cost((rows, columns), truth, scorer)
            seconds += len(distances) * block * images / per_block + spent * images
        return seconds / num_processes()

    yield Work(
        what="bank of labelled patches",
        items=len(todo["train"]),
        unit="images",
        stored=len(scorer.rows["train"]) - len(todo["train"]),
        measure=fill,
        # Blocks, and all of them in one file; removed at the end.
        writes={
            f"{scorer.blocks.folder}/bank{layer}": int(copies * bank * width * size)
            for layer, width in zip(layers, widths, strict=True)
            if len(todo["train"])
        },
    )
    passes = {
        "val": ("choice of k and distance", scorer.data.train, settings.candidates),
        "test": ("segmentation of test images", scorer.data.test, settings.candidates[:1]),
    }
    for split, (what, masked, candidates) in passes.items():
        if split in todo:
            yield Work(
                what=what,
                items=len(todo[split]),
                unit="images",
                stored=len(scorer.rows[split]) - len(todo[split]),
                measure=partial(search, split, masked, candidates),
                memory=4 * BLOCK_IMAGES * patches * sum(widths)
                + top_k_bytes(BLOCK_IMAGES * patches, bank, max(widths), k=most),
                rough="stages with finer grids cost more" if len(set(encoder.dims)) > 1 else "",
            )


def _vote_cost(grid: tuple[int, int], truth: NDArray[np.uint8], scorer: DenseScorer) -> float:
    """Seconds of the votes of an image's patches."""
    rng, patches = np.random.default_rng(0), grid[0] * grid[1]
    classes = min(scorer.data.test.num_classes, 8)  # few have votes in an image
    size = (truth.shape[0], truth.shape[1])
    if scorer.settings.vote == "soft":
        votes = rng.random((patches, classes), np.float32)
        started = time.perf_counter()
        mask_of(votes, grid, size)
    else:
        shape = (patches, max(scorer.settings.k), size[0] * size[1] // patches)
        pixels = rng.integers(0, classes, shape, np.uint8)
        started = time.perf_counter()
        mask_of_pixels(pixel_votes(pixels), grid, size)
    return time.perf_counter() - started


def _pass(
    scorer: DenseScorer, masked: MaskedImages, rows: NDArray[np.int64]
) -> tuple[float, dict[int, Tensor]]:
    """Seconds of a pass over images by their second batch, and the tokens of one image."""
    batch: Sequence[int] = rows[: scorer.tokens.batch_size].tolist()
    maps: dict[int, Tensor] = {}
    spent = 0.0
    with placed(scorer.encoder, scorer.tokens.device):
        for _ in range(2):  # the first warms up
            started = time.perf_counter()
            for row, tokens in scorer.tokens.of(masked.images, np.array(batch), scorer.layers, []):
                masked.mask(row)
                maps = {layer: one.cpu() for layer, one in tokens.items()}
            spent = time.perf_counter() - started
    return spent * len(rows) / len(batch), maps
