"""Labels of the bank's patches, the votes of the nearest, and the masks that come of them.

Soft votes (Hummingbird): a patch is labelled with the share of each class among its pixels, and a query
takes the mean of its neighbours' shares. Votes of pixels (capi): a patch is labelled with its pixels, and
each pixel of a query takes the class that is most frequent there among its neighbours.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdssl_bench.datasets import VOID
from sdssl_bench.dense.bank import Bank
from sdssl_bench.dense.patches import (
    chosen_patches,
    mask_of,
    mask_of_pixels,
    patch_pixels,
    patch_shares,
    pixel_votes,
)
from sdssl_bench.dense.settings import Candidate, Settings
from sdssl_bench.errors import TaskError
from sdssl_bench.metrics import class_counts
from sdssl_bench.neighbors import soft_votes

Mask = NDArray[np.uint8]


def labels_of(
    mask: Mask,
    grid: tuple[int, int],
    classes: int,
    *,
    vote: str,
    count: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.bool_]]:
    """Patches [n] of a training image, their labels [n, C] or [n, P], and which of them have one.

    Args:
        mask: [H, W] classes 0..C-1, or VOID.
        grid: (h, w) patches.
        classes: C.
        vote: "soft" or "pixels".
        count: n.
        rng: of the choice.

    Raises:
        TaskError: for pixels of patches that are not whole.
    """
    shares = patch_shares(mask, grid, classes, void=VOID)
    chosen = chosen_patches(shares, count, rng)
    if vote == "soft":
        return chosen, shares[chosen], np.asarray(shares[chosen].any(1))
    if mask.shape[0] % grid[0] or mask.shape[1] % grid[1]:
        raise TaskError(
            f"vote=pixels needs patches of whole pixels, found {grid[0]} x {grid[1]} in "
            f"{mask.shape[0]} x {mask.shape[1]}: other --layers or another --image-size."
        )
    # A pixel that nobody labelled is of the class behind the others.
    pixels = patch_pixels(np.where(mask == VOID, classes, mask).astype(np.uint8), grid)[chosen]
    return chosen, pixels, pixel_votes(pixels[..., None])[:, 0] != classes


def votes_of(
    banks: Mapping[str, Bank],
    candidates: Sequence[Candidate],
    maps: Sequence[NDArray[np.float32]],
    *,
    settings: Settings,
    spent: dict[str, float],
    backend: str,
    device: torch.device,
) -> Iterator[list[NDArray[Any]]]:
    """Votes of each image for each candidate: [h x w, C] soft ones or [h x w, P] pixels.

    Args:
        banks: {distance: bank}.
        candidates: any; one search a distance.
        maps: [h, w, D] of each image.
        settings: of the protocol.
        spent: takes the seconds.
        backend: of the search.
        device: of the search.
    """
    if not maps:
        yield from ([] for _ in candidates)
        return
    queries = np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps])
    ends = np.cumsum([one.shape[0] * one.shape[1] for one in maps])[:-1]
    found = {}
    for k, distance in candidates:
        started = time.perf_counter()
        bank = banks[distance]
        if distance not in found:
            most = max(one.k for one in candidates if one.distance == distance)
            found[distance] = bank.nearest(queries, most, backend=backend, device=device)
        searched = time.perf_counter()
        scores, ids = found[distance][0][:, :k], found[distance][1][:, :k]
        labels = np.load(bank.labels, mmap_mode="r")
        if settings.vote == "soft":
            votes = soft_votes(scores, labels, ids, temperature=settings.temperature)
            split: list[NDArray[Any]] = np.split(votes, ends)
        else:
            split = [pixel_votes(labels[rows]) for rows in np.split(ids, ends)]
        spent["search"] += searched - started
        spent["vote"] += time.perf_counter() - searched
        yield split


def counts_of(
    image: tuple[NDArray[Any], NDArray[np.float32], Mask], *, vote: str, num_classes: int
) -> NDArray[np.int64]:
    """Counts [3, C] of an image: its votes [h x w, ...], tokens [h, w, D] and mask [H, W]."""
    votes, maps, truth = image
    as_mask = mask_of if vote == "soft" else mask_of_pixels
    (rows, columns), (height, width) = maps.shape[:2], truth.shape
    called = as_mask(votes, (rows, columns), (height, width))
    return class_counts(called, truth, num_classes=num_classes, void=VOID)
