"""What a segmentation will cost: a batch through the encoder, an image's votes, a slice of a search."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.datasets import MaskedImages
from sdssl_bench.dense.patches import mask_of, resized
from sdssl_bench.dense.scoring import BLOCK_IMAGES, DenseScorer
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
    size = np.dtype(scorer.ctx.bank_dtype).itemsize

    def fill() -> float:
        seconds, _ = _pass(scorer, scorer.data.train, todo["train"])
        return seconds / num_processes()

    def search() -> float:
        seconds, maps = _pass(scorer, scorer.data.test, todo["test"])
        per_block = min(BLOCK_IMAGES, len(todo["test"]))
        truth = resized(scorer.data.test.mask(int(todo["test"][0])), settings.mask_size)
        rng = np.random.default_rng(0)
        for one in maps.values():
            rows, columns, width = one.shape
            block = top_k_cost(
                per_block * rows * columns, bank, width, k=settings.k,
                backend=scorer.ctx.backend, device=scorer.tokens.device,
            )  # fmt: skip
            # Few classes have votes in an image.
            votes = rng.random((rows * columns, min(scorer.data.test.num_classes, 8)), np.float32)
            started = time.perf_counter()
            mask_of(votes, (rows, columns), (truth.shape[0], truth.shape[1]))
            spent = time.perf_counter() - started
            seconds += block * len(todo["test"]) / per_block + spent * len(todo["test"])
        return seconds / num_processes()

    yield Work(
        what="bank of labelled patches",
        items=len(todo["train"]),
        unit="images",
        stored=len(scorer.rows["train"]) - len(todo["train"]),
        measure=fill,
        # Blocks, and all of them in one file; removed at the end.
        writes={
            f"{scorer.blocks.folder}/bank{layer}": 2 * bank * width * size
            for layer, width in zip(layers, widths, strict=True)
            if len(todo["train"])
        },
    )
    yield Work(
        what="segmentation of test images",
        items=len(todo["test"]),
        unit="images",
        stored=len(scorer.rows["test"]) - len(todo["test"]),
        measure=search,
        memory=4 * BLOCK_IMAGES * patches * sum(widths)
        + top_k_bytes(BLOCK_IMAGES * patches, bank, max(widths), k=settings.k),
        rough="stages with finer grids cost more" if len(set(encoder.dims)) > 1 else "",
    )


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
