"""Straightforward forms of the DAVIS arithmetic, for tests and benchmarks: definitions, not speed."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor


def boundary_pixels(mask: NDArray[np.bool_]) -> set[tuple[int, int]]:
    """Pixels that differ from their right, lower or lower-right neighbour, one by one."""
    height, width = mask.shape
    pixels = set()
    for y in range(height):
        for x in range(width):
            others = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if y == height - 1:
                others = [(y, x + 1)]
            if x == width - 1:
                others = [(y + 1, x)]
            for v, u in others:
                if v < height and u < width and mask[v, u] != mask[y, x]:
                    pixels.add((y, x))
    return pixels


def boundary_f_of_sets(
    prediction: NDArray[np.bool_], annotation: NDArray[np.bool_], radius: int
) -> float:
    """F by the distance of every boundary pixel to every pixel of the other boundary."""
    found, truth = boundary_pixels(prediction), boundary_pixels(annotation)
    if not found or not truth:
        return 1.0 if not found and not truth else 0.0

    def near(pixels: set[tuple[int, int]], others: set[tuple[int, int]]) -> float:
        hits = sum(
            any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in pixels
        )
        return hits / len(pixels)

    precision, recall = near(found, truth), near(truth, found)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def dense_j_and_f(
    predictions: NDArray[np.uint8], annotations: NDArray[np.uint8], objects: int
) -> NDArray[np.float64]:
    """[2, K, T] by whole one-hot stacks and distance maps of whole frames."""
    ids = np.arange(1, objects + 1)[:, None, None, None]
    found, truth = predictions[None] == ids, annotations[None] == ids  # [K, T, H, W]
    union = (found | truth).sum((2, 3))
    j = np.where(union == 0, 1.0, (found & truth).sum((2, 3)) / np.maximum(union, 1))
    height, width = predictions.shape[1:]
    radius = math.ceil(0.008 * math.sqrt(height**2 + width**2))

    def edges(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        right = np.concatenate([mask[:, 1:], mask[:, -1:]], axis=1)
        below = np.concatenate([mask[1:], mask[-1:]], axis=0)
        corner = np.concatenate([right[1:], right[-1:]], axis=0)
        return (mask != right) | (mask != below) | (mask != corner)

    def near(edge: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.asarray(distance_transform_edt(~edge)) <= radius

    f = np.empty_like(j)
    for k in range(objects):
        for t in range(len(predictions)):
            a, b = edges(found[k, t]), edges(truth[k, t])
            if not a.any() or not b.any():
                f[k, t] = float(a.any() == b.any())
                continue
            precision = (a & near(b)).sum() / a.sum()
            recall = (b & near(a)).sum() / b.sum()
            total = precision + recall
            f[k, t] = 2 * precision * recall / total if total else 0.0
    return np.stack([j, f])


def window_mask(height: int, width: int, radius: int) -> Tensor:
    """[hw, hw] 1 where two patches are at most `radius` rows and columns apart: four loops."""
    mask = torch.zeros(height, width, height, width)
    for i in range(height):
        for j in range(width):
            for k in range(height):
                for m in range(width):
                    if abs(i - k) <= radius and abs(j - m) <= radius:
                        mask[i, j, k, m] = 1.0
    return mask.view(height * width, height * width)


def dense_propagation(
    target: Tensor,
    sources: Tensor,
    labels: Tensor,
    *,
    mask: Tensor | None,
    topk: int,
    temperature: float,
) -> Tensor:
    """Label propagation with all (hw)^2 affinities per source, as the equations read.

    Args:
        target: [h, w, D].
        sources: [S, h, w, D].
        labels: [S, h, w, C].
        mask: [hw, hw] of `window_mask`, rows are targets; None attends everywhere.
        topk: entries at least as large as this one, over all sources jointly, are kept.
        temperature: of the exponential.
    """
    h, w, width = target.shape
    query = F.normalize(target.reshape(-1, width), dim=-1)
    keys = F.normalize(sources.reshape(len(sources), -1, width), dim=-1)
    affinity = torch.exp(torch.einsum("id,sjd->isj", query, keys) / temperature)
    if mask is not None:
        affinity = affinity * mask[:, None]
    affinity = affinity.flatten(1)  # [hw, S * hw]
    kth = affinity.topk(topk, dim=1).values[:, -1:]
    affinity[affinity < kth] = 0
    affinity = affinity / affinity.sum(1, keepdim=True)
    return (affinity @ labels.reshape(-1, labels.shape[-1])).view(h, w, -1)
