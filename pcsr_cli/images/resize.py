"""Bicubic resizing with the numbers of MATLAB's ``imresize``, the field's tool for making LR images.

The kernel has a = -0.5 (Keys 1981) and is widened when reducing (antialiasing). Borders are clamped. The height is
resized before the width.
"""

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pcsr_cli.errors import InputError

_Float = TypeVar("_Float", np.float32, np.float64)


def resize_bicubic(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize (H, W, C) float32 of any range to (height, width, C), without rounding or clamping."""
    vertical = _resize_side(image, height)
    return _resize_side(vertical.swapaxes(0, 1), width).swapaxes(0, 1)


def resize_bicubic_rows(
    image: NDArray[np.generic], height: int, width: int, start: int, stop: int
) -> NDArray[np.float32]:
    """Resize (H, W, C) of any type and range to (height, width, C), and return rows ``start``..``stop`` in float32."""
    if image.shape[0] == height:
        vertical = image[start:stop].astype(np.float32)
    else:
        index, weight = _taps(image.shape[0], height)
        index, weight = index[start:stop], weight[start:stop]
        first, last = int(index.min()), int(index.max())
        vertical = _weighted(image[first : last + 1].astype(np.float32), index - first, weight)
    return _resize_side(vertical.swapaxes(0, 1), width).swapaxes(0, 1)


class RowResizer:
    """Resizes an image in blocks of rows, with the numbers of ``resize_bicubic``. Sizes are (height, width)."""

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
        """Add the next rows, (n, W, 3). Returns the rows of the result that are complete, possibly none."""
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


def resize_bicubic_8bit(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize (H, W, C) uint8, rounded to 8 bits between the two passes and after them, like MATLAB.

    Reducing an HR image whose sides are multiples of the scale gives the field's LR images bit for bit."""
    vertical = _round_8bit(_resize_side(image.astype(np.float64), height))
    horizontal = _round_8bit(_resize_side(vertical.swapaxes(0, 1), width))
    return np.ascontiguousarray(horizontal.swapaxes(0, 1)).astype(np.uint8)


def resize_lanczos_8bit(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3) uint8 with Pillow's Lanczos filter."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def crop_to_multiple(image: NDArray[np.uint8], multiple: int) -> NDArray[np.uint8]:
    """Crop (H, W, C) at the bottom and right so that both sides are multiples. Raises InputError if nothing is left."""
    height, width = (side - side % multiple for side in image.shape[:2])
    if not height or not width:
        raise InputError(
            f"An image of {image.shape[1]}x{image.shape[0]} is smaller than one LR pixel at x{multiple}.",
            "Use larger images.",
        )
    return image[:height, :width]


def make_lr(hr: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Return the LR image of an HR image, (H, W, 3) uint8, whose sides must be multiples of ``scale``."""
    height, width = hr.shape[:2]
    assert height % scale == 0 and width % scale == 0, "call crop_to_multiple() first"
    return resize_bicubic_8bit(hr, height // scale, width // scale)


def make_lr_float(hr: NDArray[np.uint8], scale: int) -> NDArray[np.float32]:
    """Return the LR image of an HR image in float32, neither rounded nor clipped. 1 is white.

    Borders are mirrored, as they are for the published figures of PCSR."""
    height, width = (side // scale for side in hr.shape[:2])
    mirrored = np.pad(hr, [(4 * scale, 4 * scale)] * 2 + [(0, 0)], mode="symmetric").astype(np.float32)
    lr = resize_bicubic(mirrored, height + 8, width + 8)
    return np.ascontiguousarray(lr[4:-4, 4:-4]) / np.float32(255)


def _resize_side(image: NDArray[_Float], length: int) -> NDArray[_Float]:
    """Resize the first axis, in the precision of ``image``."""
    if image.shape[0] == length:
        return image
    return _weighted(image, *_taps(image.shape[0], length))


def _weighted(image: NDArray[_Float], index: NDArray[np.int64], weight: NDArray[np.float64]) -> NDArray[_Float]:
    """Return weighted sums of rows, one for each row of ``index`` and ``weight``, both (n, taps)."""
    out = np.zeros((len(index), *image.shape[1:]), image.dtype)
    for tap in range(index.shape[1]):
        out += weight[:, tap, None, None].astype(image.dtype) * image[index[:, tap]]
    return out


def _taps(length_in: int, length_out: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the input indices and weights, each (length_out, taps), of the output pixels along one side."""
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


def _round_8bit(image: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.floor(image + 0.5).clip(0, 255)
