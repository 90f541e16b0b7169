"""OpenCV's bilinear resize without antialiasing, and its numpy twin where OpenCV cannot be loaded.

The wheels of opencv-python need X and GL libraries, which slim images and containers lack. Both ways
give the same pixels to the bit (OpenCV 4.10 to 5.0 on x86-64), so neither is part of a protocol.

Source: OpenCV, modules/imgproc/src/resize.cpp (INTER_LINEAR of 8-bit images).
"""

import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

TWIN = "numpy twin"
"""What records name in place of OpenCV's version."""


@cache
def _opencv() -> tuple[Any, str]:
    """The module `cv2` and "", or None and why it cannot be loaded."""
    path = list(sys.path)
    try:
        import cv2
    except ImportError as error:
        # Its loader leaves its own folder there, and spawned processes would import its `typing`.
        sys.path[:] = path
        return None, str(error)
    return cv2, ""


def opencv_version() -> str:
    """Version of the OpenCV that resizes frames, or `TWIN`."""
    cv2, _ = _opencv()
    return TWIN if cv2 is None else str(cv2.__version__)


def missing_opencv() -> str | None:
    """What a user should know where OpenCV cannot be loaded; None where it can."""
    cv2, reason = _opencv()
    if cv2 is not None:
        return None
    return (
        f"OpenCV cannot be loaded ({reason}); numpy resizes the frames to the same "
        "pixels, in 50 ms a frame instead of 2. To load it: apt-get install libgl1 libglib2.0-0, or "
        "pip install opencv-python-headless."
    )


def resize(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """`pixels` [H, W, C] as [*size, C], bilinear between the centres of pixels."""
    cv2, _ = _opencv()
    if cv2 is None:
        return resize_by_numpy(pixels, size)
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR))


def resize_by_numpy(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """As `resize`, by OpenCV's fixed-point arithmetic: weights of 11 bits, rows rounded down twice."""
    height, width, channels = pixels.shape
    if (height, width) == (2 * size[0], 2 * size[1]):
        # OpenCV halves by the mean of 2 x 2 pixels.
        quads = pixels.reshape(size[0], 2, size[1], 2, channels).sum((1, 3), dtype=np.int32)
        return np.asarray((quads + 2) >> 2, np.uint8)
    # Beyond the last centres the border's column counts alone; of rows, OpenCV adds it to itself.
    x, along = _positions(width, size[1])
    along[(x < 0) | (x >= width - 1)] = 0
    left, right = _weights(along)[..., None]
    x, wide = x.clip(0, width - 1), pixels.astype(np.int32)
    rows = (wide[:, x] * left + wide[:, np.minimum(x + 1, width - 1)] * right) >> 4
    y, down = _positions(height, size[0])
    upper, lower = _weights(down)[..., None, None]
    above, below = rows[y.clip(0, height - 1)], rows[(y + 1).clip(0, height - 1)]
    return np.asarray(((above * upper >> 16) + (below * lower >> 16) + 2) >> 2, np.uint8)


def _positions(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """[target] index of the source pixel before each centre, and the distance to it (float32)."""
    centres = (np.arange(target) + 0.5) * (1 / (target / source)) - 0.5
    position = centres.astype(np.float32)
    before = np.floor(position)
    return before.astype(np.int64), position - before


def _weights(distance: NDArray[np.float32]) -> NDArray[np.int32]:
    """[2, n] weights of the pixels before and after, in 1/2048."""
    return np.asarray(np.rint(np.stack([1 - distance, distance]) * 2048), np.int32)
