"""Colours under transparent pixels, which nobody has seen and nobody should see after enlarging."""

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.images.image import Levels

BAND_PIXELS = 2**18


def without_hidden_colours(rgb: Levels, alpha: Levels | None) -> Levels:
    """``rgb`` (H, W, 3) with the colours of fully transparent pixels replaced by those of the visible ones around.

    Enlarging mixes neighbours: whatever a program has left under transparent pixels would shine through as a fringe.
    Visible pixels stay as they are, and a picture without transparent ones (``alpha`` (H, W), or None) is returned
    itself."""
    if alpha is None or alpha.all() or not alpha.any():
        return rgb
    coarse = without_hidden_colours(*_halved(rgb, alpha))
    filled = np.empty_like(rgb)
    for rows in _bands(rgb.shape[0], rgb.shape[1]):
        seen = alpha[rows, :, None] > 0
        filled[rows] = np.where(seen, rgb[rows], _doubled(coarse, rows)[:, : rgb.shape[1]])
    return filled


def _bands(height: int, width: int) -> list[slice]:
    """Rows at a time, an even number of them."""
    step = 2 * max(1, BAND_PIXELS // width // 2)
    return [slice(top, min(height, top + step)) for top in range(0, height, step)]


def _halved(rgb: Levels, alpha: Levels) -> tuple[Levels, Levels]:
    """Both at half the size: of each 2x2 pixels the visible ones' mean, and the largest alpha."""
    height, width = ((side + 1) // 2 for side in alpha.shape)
    colours = np.empty((height, width, 3), rgb.dtype)
    largest = np.empty((height, width), alpha.dtype)
    for rows in _bands(*alpha.shape):
        place = slice(rows.start // 2, (rows.stop + 1) // 2)
        weight = _blocks(alpha[rows, :, None])
        total = weight.sum(axis=(1, 3))
        mean = (_blocks(rgb[rows]) * weight).sum(axis=(1, 3)) / np.maximum(total, 1)
        colours[place] = np.rint(mean)
        largest[place] = weight.max(axis=(1, 3))[..., 0]
    return colours, largest


def _blocks(pixels: Levels) -> NDArray[np.float64]:
    """(H, W, C) as (H / 2, 2, W / 2, 2, C), filled up with zeros where a side is odd."""
    height, width, channels = pixels.shape
    even = np.zeros((height + height % 2, width + width % 2, channels))
    even[:height, :width] = pixels
    return even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, channels)


def _doubled(coarse: Levels, rows: slice) -> Levels:
    """Those rows of ``coarse`` at twice the size, linearly between its pixels; at least as many columns."""
    first, last = rows.start // 2, (rows.stop + 1) // 2
    near = np.arange(first - 1, last + 1).clip(0, len(coarse) - 1)
    tall = _between(coarse[near].astype(np.float32))[2:-2]
    wide = _between(np.pad(tall.swapaxes(0, 1), ((1, 1), (0, 0), (0, 0)), mode="edge"))[2:-2]
    doubled: Levels = np.rint(wide.swapaxes(0, 1)).astype(coarse.dtype)
    return doubled[: rows.stop - rows.start]


def _between(lines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every line twice, each a quarter of the way towards the neighbour on its side; the outermost as they are."""
    doubled = lines.repeat(2, axis=0)
    doubled[2::2] += (lines[:-1] - lines[1:]) / 4
    doubled[1:-1:2] += (lines[1:] - lines[:-1]) / 4
    return doubled
