"""Frames and masks of label propagation: sizes, pixels in, first labels, soft labels back to masks.

The facts follow DINO's DAVIS evaluation: OpenCV's bilinear resize without antialiasing, short side
480, long side a multiple of 64, first mask by nearest neighbour, per-channel min-max before argmax.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.datasets import Size, read_frame
from sdssl_bench.encoders import normalised
from sdssl_bench.system import ahead


def working_size(size: Size, *, short_side: int, long_multiple: int, stride: int) -> Size:
    """The size that frames are resized to.

    The short side becomes `short_side`, floored to the stride; the long side follows, floored to
    `long_multiple`, or to the stride where that does not divide it. Squares stay square.

    Args:
        size: of the frame.
        short_side: in pixels; 0 keeps the frame's size, each side floored to the stride.
        long_multiple: in pixels.
        stride: patch size, or total stride of a ResNet.

    >>> working_size((480, 854), short_side=480, long_multiple=64, stride=16)
    (480, 832)
    >>> working_size((854, 480), short_side=480, long_multiple=64, stride=14)
    (840, 476)
    """
    if not short_side:
        height, width = (max(side // stride, 1) * stride for side in size)
        return height, width
    short = max(short_side // stride, 1) * stride
    multiple = long_multiple if long_multiple % stride == 0 else stride
    long = short * max(size) // min(size) // multiple * multiple
    if size[0] == size[1]:
        return short, short
    long = max(long, short // multiple * multiple, multiple)
    return (long, short) if size[0] > size[1] else (short, long)


def frames_ahead(
    paths: Sequence[Path], expected: Size, working: Size, *, num_workers: int
) -> Iterator[NDArray[np.uint8]]:
    """The frames in order, decoded by `num_workers` threads a few frames ahead; 0 decodes in place.

    Raises:
        DataError: naming the first bad file.
    """
    read = partial(read_frame, expected=expected, working=working)
    yield from ahead(read, paths, num_threads=num_workers, most=2 * num_workers)


def to_input(
    frames: Sequence[NDArray[np.uint8]],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: str,
) -> Tensor:
    """[B, C, H, W] float32, normalised."""
    pixels = torch.from_numpy(np.stack(frames)).to(device).permute(0, 3, 1, 2)
    return normalised(pixels, mean, std)


def first_labels(
    mask: NDArray[np.uint8], grid: Size, num_objects: int, *, resize: str, vanished: str
) -> Tensor:
    """Labels [h, w, C] of the annotated frame at patch resolution.

    Args:
        mask: [H, W] ids 0..K.
        grid: (h, w) patches.
        num_objects: K.
        resize: "nearest" (one-hot labels) or "bilinear" (of the one-hot masks, without antialias).
        vanished: "keep" makes 1 + K channels; "drop" 1 + the largest id that is left at patch
            resolution, as the reference does, so later objects are never predicted.
    """
    from PIL import Image

    small = np.asarray(Image.fromarray(mask).resize(grid[::-1], Image.Resampling.NEAREST))
    channels = 1 + (int(small.max()) if vanished == "drop" else num_objects)
    if resize == "nearest":
        return F.one_hot(torch.from_numpy(small.astype(np.int64)), channels).float()
    whole = torch.stack([torch.from_numpy(mask == k) for k in range(channels)]).float()
    return F.interpolate(whole[None], grid, mode="bilinear", align_corners=False)[0].movedim(0, 2)


def vanished_objects(mask: NDArray[np.uint8], grid: Size, num_objects: int) -> tuple[int, ...]:
    """Ids of the first annotation that no patch of the grid is labelled with."""
    small = first_labels(mask, grid, num_objects, resize="nearest", vanished="keep").amax((0, 1))
    return tuple(k for k in range(1, num_objects + 1) if not small[k])


def to_mask(labels: Tensor, working: Size, original: Size, *, minmax: bool) -> NDArray[np.uint8]:
    """Object ids [H, W] of soft labels [h, w, C].

    Bilinear to the working size; each channel with anything in it is stretched to 0..1 if `minmax`
    (a constant one becomes 0); argmax, the lower id on a tie; nearest to the original size.
    """
    from PIL import Image

    soft = F.interpolate(labels.movedim(2, 0)[None], working, mode="bilinear", align_corners=False)[
        0
    ]
    if minmax:
        # The extremes of one channel at a time: a reduction within all of them is 15 x slower on a CPU.
        low, high = (torch.stack(x)[:, None, None] for x in zip(*(one.aminmax() for one in soft)))
        low = torch.where(high > 0, low, 0.0)
        soft.sub_(low).div_(torch.where((high > 0) & (high > low), high - low, 1.0))
    # Channel by channel: torch's argmax over the first axis takes 20 x as long on a CPU.
    best, ids = soft[0].clone(), torch.zeros(working, dtype=torch.uint8, device=soft.device)
    for k, channel in enumerate(soft[1:], start=1):
        # The largest id that won so far is the last: without a branch, 10 x faster than a masked fill.
        torch.maximum(ids, (channel > best).to(torch.uint8) * k, out=ids)
        torch.maximum(best, channel, out=best)
    found = ids.cpu().numpy()
    if working == original:
        return np.asarray(found)
    resized = Image.fromarray(found).resize(original[::-1], Image.Resampling.NEAREST)
    return np.asarray(resized)
