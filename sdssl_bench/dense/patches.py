"""Masks at patch resolution and back: what a patch shows, which patches are kept, votes as a mask.

The rules follow Balazevic et al. 2023 as open-hummingbird states them: a patch's label is the share of each
class among its pixels; of an image those patches are kept that show rare classes of it.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

Mask = NDArray[np.uint8]
Shares = NDArray[np.float32]


def resized(mask: Mask, side: int) -> Mask:
    """[side, side] of a mask [H, W] by nearest neighbour; 0 keeps its size."""
    if side == 0 or mask.shape == (side, side):
        return mask
    return np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST))


def patch_shares(mask: Mask, grid: tuple[int, int], num_classes: int, *, void: int) -> Shares:
    """[h x w, C] share of each class among the labelled pixels of each patch; zeros where none is.

    Args:
        mask: [H, W] classes 0..C-1, or `void`.
        grid: (h, w) patches.
        num_classes: C.
        void: what stands for pixels that nobody labelled.

    >>> patch_shares(np.array([[0, 1, 9, 9]], np.uint8), (1, 2), 2, void=9).tolist()
    [[0.5, 0.5], [0.0, 0.0]]
    """
    (height, width), (rows, columns) = mask.shape, grid
    patch = (np.arange(height) * rows // height)[:, None] * columns
    patch = patch + np.arange(width) * columns // width
    known = mask != void
    cells = rows * columns
    counts = np.bincount(patch[known] * num_classes + mask[known], minlength=cells * num_classes)
    counts = counts.reshape(cells, num_classes)
    return np.asarray(counts / np.maximum(counts.sum(1, keepdims=True), 1), np.float32)


def patch_pixels(mask: Mask, grid: tuple[int, int]) -> Mask:
    """[h x w, P] the pixels of each patch, row by row.

    Args:
        mask: [H, W].
        grid: (h, w) patches, which divide H and W.

    >>> patch_pixels(np.array([[0, 1, 2, 3], [4, 5, 6, 7]], np.uint8), (1, 2)).tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    (height, width), (rows, columns) = mask.shape, grid
    cells = mask.reshape(rows, height // rows, columns, width // columns)
    return np.ascontiguousarray(cells.transpose(0, 2, 1, 3)).reshape(rows * columns, -1)


def mask_of_pixels(patches: Mask, grid: tuple[int, int], size: tuple[int, int]) -> Mask:
    """[H, W] of [h x w, P]; the inverse of `patch_pixels`."""
    (rows, columns), (height, width) = grid, size
    cells = patches.reshape(rows, columns, height // rows, width // columns)
    return np.ascontiguousarray(cells.transpose(0, 2, 1, 3)).reshape(size)


def pixel_votes(neighbours: Mask) -> Mask:
    """[Q, P] the most frequent class at each pixel of a patch; ties to the lower id (capi).

    Args:
        neighbours: [Q, K, P] pixels of the nearest patches.

    >>> pixel_votes(np.array([[[3, 1], [3, 0], [2, 0]]], np.uint8)).tolist()
    [[3, 0]]
    """
    best = np.zeros((neighbours.shape[0], neighbours.shape[2]), np.uint16)
    called = np.zeros(best.shape, np.uint8)
    for class_id in np.flatnonzero(np.bincount(neighbours.ravel(), minlength=1)).tolist():
        votes = (neighbours == class_id).sum(1, dtype=np.uint16)
        called[votes > best] = class_id
        np.maximum(best, votes, out=best)
    return called


def chosen_patches(shares: Shares, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """[count] patches of an image, ascending: those of the lowest (weight x random number).

    The weight of a patch is the number of patches of the image that show a class it shows, summed over its
    classes, so that rare classes are kept; patches without any label come last.

    Args:
        shares: [N, C] of `patch_shares`.
        count: 1..N.
        rng: of the draw.
    """
    shown = shares > 0
    weights = shown @ shown.sum(0) * rng.random(len(shares))
    weights[~shown.any(1)] = np.inf
    return np.sort(np.argsort(weights, kind="stable")[:count])


def mask_of(votes: Shares, grid: tuple[int, int], size: tuple[int, int]) -> Mask:
    """[H, W] class of the most votes, the votes bilinear from patches to pixels; ties to the lower id.

    Args:
        votes: [h x w, C].
        grid: (h, w) patches.
        size: (H, W) in pixels.
    """
    there = np.flatnonzero(votes.any(0))  # a class without a vote wins nowhere
    maps = torch.from_numpy(np.ascontiguousarray(votes[:, there].T)).reshape(1, len(there), *grid)
    soft = F.interpolate(maps, size, mode="bilinear", align_corners=False)[0]
    # Channel by channel: torch's argmax over the first axis is far slower, and leaves ties open.
    best, ids = soft[0].clone(), torch.full(size, int(there[0]), dtype=torch.uint8)
    for channel, class_id in zip(soft[1:], there[1:].tolist(), strict=True):
        ids.masked_fill_(channel > best, class_id)
        torch.maximum(best, channel, out=best)
    return np.asarray(ids.numpy())
