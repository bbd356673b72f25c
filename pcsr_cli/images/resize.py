"""Bicubic resizing as MATLAB's ``imresize`` does it, which is how the field makes its LR images.

Kernel with a = -0.5 (Keys 1981), widened by the reduction (antialiasing), borders clamped, rows first.
"""

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.errors import InputError

_Float = TypeVar("_Float", np.float32, np.float64)


def resize_bicubic(picture: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize (H, W, C) float32 of any range to (height, width, C), without rounding or clamping."""
    vertical = _resize_side(picture, height)
    return _resize_side(vertical.swapaxes(0, 1), width).swapaxes(0, 1)


def resize_bicubic_rows(
    picture: NDArray[np.generic], height: int, width: int, start: int, stop: int
) -> NDArray[np.float32]:
    """Rows ``start``..``stop`` of (H, W, C) of any type and range resized to (height, width, C) in float32."""
    if picture.shape[0] == height:
        vertical = picture[start:stop].astype(np.float32)
    else:
        index, weight = _taps(picture.shape[0], height)
        index, weight = index[start:stop], weight[start:stop]
        first, last = int(index.min()), int(index.max())
        vertical = _weighted(picture[first : last + 1].astype(np.float32), index - first, weight)
    return _resize_side(vertical.swapaxes(0, 1), width).swapaxes(0, 1)


class RowResizer:
    """Resizes a picture that comes in rows; the same numbers as ``resize_bicubic``. Sizes are (height, width)."""

    def __init__(self, size: tuple[int, int], wanted: tuple[int, int]) -> None:
        self.width = wanted[1]
        self.same_height = size[0] == wanted[0]
        self.index, self.weight = _taps(size[0], wanted[0])
        self.last = self.index.max(axis=1)
        self.first = np.minimum.accumulate(self.index.min(axis=1)[::-1])[::-1]
        self.held = np.empty((0, size[1], 3), dtype=np.float32)
        self.held_from = 0
        self.done = 0

    def push(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next rows, (n, W, 3); returns those of the result that have become possible, which may be none."""
        if self.same_height:
            return self._widened(rows)
        self.held = np.concatenate((self.held, rows))
        ready = int(np.searchsorted(self.last, self.held_from + len(self.held)))
        wanted = slice(self.done, ready)
        vertical = _weighted(self.held, self.index[wanted] - self.held_from, self.weight[wanted])
        self.done = ready
        still_needed = int(self.first[ready]) if ready < len(self.first) else self.held_from + len(self.held)
        self.held = self.held[still_needed - self.held_from :].copy()
        self.held_from = still_needed
        return self._widened(vertical)

    def _widened(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return _resize_side(rows.swapaxes(0, 1), self.width).swapaxes(0, 1)


def resize_bicubic_8bit(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize (H, W, C) uint8, rounded to 8 bits between the two passes and after, as MATLAB does.

    With an HR side of s * n and ``height``/``width`` of n it makes the field's LR images bit for bit.
    """
    vertical = _round_8bit(_resize_side(picture.astype(np.float64), height))
    horizontal = _round_8bit(_resize_side(vertical.swapaxes(0, 1), width))
    return np.ascontiguousarray(horizontal.swapaxes(0, 1)).astype(np.uint8)


def crop_to_multiple(picture: NDArray[np.uint8], multiple: int) -> NDArray[np.uint8]:
    """Cut (H, W, C) at the bottom and right so that both sides are multiples. InputError if nothing is left."""
    height, width = (side - side % multiple for side in picture.shape[:2])
    if not height or not width:
        raise InputError(
            f"A picture of {picture.shape[1]}x{picture.shape[0]} is smaller than one x{multiple} LR pixel.",
            "Measure larger pictures.",
        )
    return picture[:height, :width]


def make_lr(hr: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """The LR picture of an HR one, (H, W, 3) uint8, both sides of which have to be multiples of ``scale``."""
    height, width = hr.shape[:2]
    assert height % scale == 0 and width % scale == 0, "cut with crop_to_multiple first"
    return resize_bicubic_8bit(hr, height // scale, width // scale)


def _resize_side(picture: NDArray[_Float], length: int) -> NDArray[_Float]:
    """Resize the first axis; a sum over taps, in the precision of ``picture``."""
    if picture.shape[0] == length:
        return picture
    return _weighted(picture, *_taps(picture.shape[0], length))


def _weighted(picture: NDArray[_Float], index: NDArray[np.int64], weight: NDArray[np.float64]) -> NDArray[_Float]:
    """Sums of rows, each with its weight: one for each row of ``index`` and ``weight``, both (n, taps)."""
    out = np.zeros((len(index), *picture.shape[1:]), picture.dtype)
    for tap in range(index.shape[1]):
        out += weight[:, tap, None, None].astype(picture.dtype) * picture[index[:, tap]]
    return out


def _taps(length_in: int, length_out: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Input indices and weights, each (length_out, taps), of every output pixel along one side."""
    scale = length_out / length_in
    stretch = max(1.0, 1 / scale)
    centre = (np.arange(length_out) + 0.5) / scale - 0.5
    first = np.floor(centre - 2 * stretch).astype(np.int64)
    index = first[:, None] + np.arange(math.ceil(4 * stretch) + 2)
    weight = _cubic((centre[:, None] - index) / stretch)
    weight /= weight.sum(axis=1, keepdims=True)
    return np.clip(index, 0, length_in - 1), weight


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(distance)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _round_8bit(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.floor(picture + 0.5).clip(0, 255)
