"""Scale an image with integers, so that every language gives the same pixels: ``declared.py``, step 1.

``bilinear`` is OpenCV's INTER_LINEAR without its second rounding. ``antialiased`` equals each of the two
passes of Pillow's resize (libImaging/Resample.c) exactly.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
_ONE = 2048  # bilinear weights have 11 bits
_BITS = 22  # antialiased ones have 22
_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}


def resize(image: Pixels, width: int, height: int, interpolation: str, antialias: bool) -> Pixels:
    """Scale uint8[H, W, C] to uint8[height, width, C]; an image of that size is returned unchanged."""
    if (height, width) == image.shape[:2]:
        return image
    if interpolation == "nearest":
        rows, columns = _nearest(image.shape[0], height), _nearest(image.shape[1], width)
        return image[rows[:, None], columns[None, :]]
    if antialias:
        return antialiased(image, width, height, interpolation)
    return bilinear(image, width, height)


def bilinear(image: Pixels, width: int, height: int) -> Pixels:
    """Scale with half-pixel centres, without antialiasing."""
    top, bottom, down = _neighbours(image.shape[0], height)
    left, right, across = _neighbours(image.shape[1], width)
    across, down = across[None, :, None], down[:, None, None]

    def along(row: Pixels) -> npt.NDArray[np.int32]:
        blended: npt.NDArray[np.int32] = row[:, left] * (_ONE - across) + row[:, right] * across
        return blended

    total = along(image[top]) * (_ONE - down) + along(image[bottom]) * down
    pixels: Pixels = ((total + (1 << 21)) >> 22).astype(np.uint8)
    return pixels


def antialiased(image: Pixels, width: int, height: int, interpolation: str) -> Pixels:
    """Scale with a filter that widens with the scale, so that every source pixel is used."""
    if width != image.shape[1]:
        image = _filtered(image, *weights(image.shape[1], width, interpolation), axis=1)
    if height != image.shape[0]:
        image = _filtered(image, *weights(image.shape[0], height, interpolation), axis=0)
    return image


def weights(source: int, target: int, interpolation: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return, for each of ``target`` pixels, its first ``source`` pixel, and the weights from there on.

    Returns:
        int64[target] and int32[target, taps], 22 bits; taps beyond the end have weight 0.
    """
    scale = source / target
    stretch = max(scale, 1.0)
    support = _SUPPORT[interpolation] * stretch
    centre = (np.arange(target) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), source)
    taps = np.arange(math.ceil(support) * 2 + 1)
    distance = np.abs((taps + first[:, None] - centre[:, None] + 0.5) * (1.0 / stretch))
    factors = np.where(taps < (last - first)[:, None], _FILTERS[interpolation](distance), 0.0)
    total = np.zeros(target)
    for column in factors.T:  # sequentially: numpy's own sum may add in another order
        total += column
    factors /= total[:, None]
    fixed = factors * (1 << _BITS)
    return first, np.trunc(fixed + np.where(fixed < 0, -0.5, 0.5)).astype(np.int32)


def _triangle(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.where(x < 1.0, 1.0 - x, 0.0)


def _cubic(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return Keys' cubic convolution with a = -0.5."""
    a = -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


_FILTERS: dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "bilinear": _triangle,
    "bicubic": _cubic,
}


def _filtered(image: Pixels, first: npt.NDArray[Any], factors: npt.NDArray[Any], axis: int) -> Pixels:
    shape = [1, 1, 1]
    shape[axis] = len(first)
    total: npt.NDArray[np.int32] = np.full((), 1 << (_BITS - 1), np.int32)
    for tap, column in enumerate(factors.T):
        index = np.minimum(first + tap, image.shape[axis] - 1)
        total = total + np.take(image, index, axis) * column.reshape(shape)
    pixels: Pixels = np.clip(total >> _BITS, 0, 255).astype(np.uint8)
    return pixels


def _nearest(source: int, target: int) -> npt.NDArray[np.int64]:
    return ((2 * np.arange(target, dtype=np.int64) + 1) * source) // (2 * target)


def _neighbours(
    source: int, target: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    position = np.maximum((2 * np.arange(target, dtype=np.int64) + 1) * source - target, 0)
    low = position // (2 * target)
    share = ((position - low * 2 * target) * _ONE + target) // (2 * target)
    outside = low >= source - 1
    low = np.where(outside, source - 1, low)
    share = np.where(outside, 0, share)
    return low, np.minimum(low + 1, source - 1), share.astype(np.int32)
