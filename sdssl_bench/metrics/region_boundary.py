"""Region similarity J and boundary accuracy F of segmentation masks (Perazzi et al. 2016; DAVIS-2017).

J = |A and B| / |A or B|. F matches the two boundaries within a tolerance: a boundary pixel counts as
found if the other boundary passes through the disk around it. Masks are cut to the box that holds
both, and the disk is applied to whole boundary maps packed into one integer, 64 shifts in all: this
is the definition itself, with no distance transform and no rounding.

Everything here takes numpy arrays or torch tensors (of any device) and needs no other module of the
suite, so that it can score masks during anybody's training.
"""

from math import ceil, isqrt, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

BOUNDARY_SHARE = 0.008
"""Tolerance of F as a share of the image diagonal; DAVIS-2016 and 2017."""


def as_array(mask: Any) -> NDArray[Any]:
    """A numpy array, or a torch tensor of any device, as a numpy array."""
    return np.asarray(mask.detach().cpu() if hasattr(mask, "detach") else mask)


def tolerance(height: int, width: int) -> int:
    """Tolerance of F in pixels for an image of this size.

    >>> tolerance(480, 854), tolerance(480, 910), tolerance(480, 1152)
    (8, 9, 10)
    """
    return ceil(BOUNDARY_SHARE * sqrt(height * height + width * width))


def boundary(mask: Any) -> Mask:
    """[H, W] pixels that differ from their right, lower or lower-right neighbour.

    The last row looks only right, the last column only down, so the last corner is never on.
    """
    inside = as_array(mask).astype(bool, copy=False)
    edge = np.zeros_like(inside)
    edge[:, :-1] = inside[:, :-1] ^ inside[:, 1:]
    edge[:-1] |= inside[:-1] ^ inside[1:]
    edge[:-1, :-1] |= inside[:-1, :-1] ^ inside[1:, 1:]
    return edge


def jaccard(prediction: Any, annotation: Any) -> float:
    """J of two binary masks [H, W]; 1 if both are empty.

    Raises:
        ValueError: if the shapes differ.
    """
    return region_and_boundary(prediction, annotation)[0]


def boundary_f(prediction: Any, annotation: Any, *, radius: int | None = None) -> float:
    """F of two binary masks [H, W]; 1 if neither has a boundary.

    Args:
        prediction: [H, W], true inside the object.
        annotation: [H, W].
        radius: tolerance in pixels; None takes the benchmark's for this size.

    Raises:
        ValueError: if the shapes differ.
    """
    return region_and_boundary(prediction, annotation, radius=radius)[1]


def region_and_boundary(
    prediction: Any, annotation: Any, *, radius: int | None = None
) -> tuple[float, float]:
    """(J, F) of two binary masks [H, W] of one object in one frame.

    Args:
        prediction: [H, W], true inside the object.
        annotation: [H, W].
        radius: tolerance of F in pixels; None takes the benchmark's for this size.

    Raises:
        ValueError: if the shapes differ or are not two-dimensional.
    """
    found = as_array(prediction).astype(bool, copy=False)
    truth = as_array(annotation).astype(bool, copy=False)
    if found.shape != truth.shape or found.ndim != 2:
        raise ValueError(f"expected two masks [H, W], found {found.shape} and {truth.shape}")
    if radius is None:
        radius = tolerance(*found.shape)
    either = found | truth
    rows = np.flatnonzero(either.any(axis=1))
    if not len(rows):
        return 1.0, 1.0
    columns = np.flatnonzero(either[rows[0] : rows[-1] + 1].any(axis=0))
    # One pixel more on every side: the boundary lies on the last pixel before the object too, and the
    # box's own last row and column are then empty unless the image ends there.
    box = np.s_[
        max(rows[0] - 1, 0) : rows[-1] + 2,
        max(columns[0] - 1, 0) : columns[-1] + 2,
    ]
    found, truth = found[box], truth[box]
    j = int(np.count_nonzero(found & truth)) / int(np.count_nonzero(found | truth))
    return j, _boundary_f(boundary(found), boundary(truth), radius)


def score_frame(prediction: Any, annotation: Any, num_objects: int) -> NDArray[np.float64]:
    """J and F of every object in one frame of object ids.

    Args:
        prediction: [H, W] ids, 0 is background.
        annotation: [H, W] ids; ids above `num_objects` (255 is void) count as background.
        num_objects: K.

    Returns:
        [2, K]: J, then F, of the objects 1..K.

    Raises:
        ValueError: if the shapes differ, or the prediction holds an id above K.
    """
    found, truth = as_array(prediction), as_array(annotation)
    if found.shape != truth.shape:
        raise ValueError(f"expected a mask of shape {truth.shape}, found {found.shape}")
    if found.size and found.max() > num_objects:
        raise ValueError(f"expected ids 0..{num_objects}, found {found.max()}")
    pairs = [region_and_boundary(found == k, truth == k) for k in range(1, num_objects + 1)]
    return np.array(pairs, dtype=np.float64).reshape(num_objects, 2).T


def _boundary_f(found: Mask, truth: Mask, radius: int) -> float:
    """F of two boundary maps of one size."""
    in_found, in_truth = int(np.count_nonzero(found)), int(np.count_nonzero(truth))
    if not in_found or not in_truth:
        return float(in_found == in_truth)
    # Room of one radius at the right of each row: what a shift moves out of a row lands there.
    stride = found.shape[1] + radius
    found_bits, truth_bits = _pack(found, stride), _pack(truth, stride)
    precision = (found_bits & _dilate(truth_bits, stride, radius)).bit_count() / in_found
    recall = (truth_bits & _dilate(found_bits, stride, radius)).bit_count() / in_truth
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _pack(edge: Mask, stride: int) -> int:
    """A map as one integer: bit y * stride + x is pixel (y, x)."""
    wide = np.zeros((edge.shape[0], stride), dtype=bool)
    wide[:, : edge.shape[1]] = edge
    return int.from_bytes(np.packbits(wide, bitorder="little").tobytes(), "little")


def _dilate(bits: int, stride: int, radius: int) -> int:
    """A packed map with every pixel grown to the disk dx^2 + dy^2 <= radius^2.

    Bits in the room at the right of a row mean nothing; the caller masks them.
    """
    widened = [bits]
    for shift in range(1, radius + 1):
        widened.append(widened[-1] | bits << shift | bits >> shift)
    grown = widened[radius]
    for dy in range(1, radius + 1):
        row = widened[isqrt(radius * radius - dy * dy)]
        grown |= row << dy * stride | row >> dy * stride
    return grown
