"""A picture in memory, and what goes with it from file to file."""

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8 | np.uint16]
"""Pixels as files have them: 0 to 255, or 0 to 65535."""


@dataclass(frozen=True)
class Metadata:
    """What a file says about its picture: the bytes of its ICC profile, EXIF and XMP, and dots per inch (x, y).

    EXIF is a TIFF of tags alone, its orientation that of the pixels as they lie in memory."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True)
class ImageData:
    """A picture in memory: ``rgb`` (H, W, 3) uint8 or uint16, ``alpha`` (H, W) of the same type or None.

    ``grey`` tells that the file had one colour channel (the three of ``rgb`` are equal), ``notes`` what reading it
    changed. Colour is straight: not multiplied by alpha."""

    rgb: Pixels
    alpha: Pixels | None = None
    grey: bool = False
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.rgb.shape[0], self.rgb.shape[1]

    @property
    def depth(self) -> int:
        """Bits a channel: 8 or 16."""
        return 8 * self.rgb.itemsize

    @property
    def layout(self) -> "Layout":
        """What a file of this picture holds."""
        return Layout(*self.size, self.grey, self.alpha is not None, self.depth)

    def channels(self) -> Pixels:
        """(H, W, 1 to 4), as ``layout`` says: grey or RGB, then alpha. A view where that is possible."""
        colour = self.rgb[..., :1] if self.grey else self.rgb
        return colour if self.alpha is None else np.concatenate((colour, self.alpha[..., None]), axis=2)


@dataclass(frozen=True)
class Layout:
    """What a file is to hold: ``height`` rows of ``width`` pixels, grey or RGB, with alpha or without, ``depth``
    bits (8 or 16) a channel."""

    height: int
    width: int
    grey: bool = False
    alpha: bool = False
    depth: int = 8

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB, and one more for alpha."""
        return (1 if self.grey else 3) + self.alpha

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of pixels."""
        return self.width * self.channels * self.depth // 8


def to_8_bits(levels: Pixels) -> NDArray[np.uint8]:
    """16-bit levels rounded to the nearest of 256; 8-bit ones as they are."""
    if levels.dtype == np.uint8:
        return levels.astype(np.uint8, copy=False)
    # round(v / 257) in integers: v * 255 / 65535.
    return ((levels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


BAND_PIXELS = 2**18


def fill_transparent(rgb: Pixels, alpha: Pixels | None) -> Pixels:
    """``rgb`` (H, W, 3) with the colours of fully transparent pixels replaced by those of the visible ones around.

    Enlarging mixes neighbours: whatever a program has left under transparent pixels would shine through as a fringe.
    Visible pixels stay as they are, and a picture without transparent ones (``alpha`` (H, W), or None) is returned
    itself."""
    if alpha is None or alpha.all() or not alpha.any():
        return rgb
    coarse = fill_transparent(*_halved(rgb, alpha))
    filled = np.empty_like(rgb)
    for rows in _bands(rgb.shape[0], rgb.shape[1]):
        seen = alpha[rows, :, None] > 0
        filled[rows] = np.where(seen, rgb[rows], _doubled(coarse, rows)[:, : rgb.shape[1]])
    return filled


def _bands(height: int, width: int) -> list[slice]:
    """Rows at a time, an even number of them."""
    step = 2 * max(1, BAND_PIXELS // width // 2)
    return [slice(top, min(height, top + step)) for top in range(0, height, step)]


def _halved(rgb: Pixels, alpha: Pixels) -> tuple[Pixels, Pixels]:
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


def _blocks(pixels: Pixels) -> NDArray[np.float64]:
    """(H, W, C) as (H / 2, 2, W / 2, 2, C), filled up with zeros where a side is odd."""
    height, width, channels = pixels.shape
    even = np.zeros((height + height % 2, width + width % 2, channels))
    even[:height, :width] = pixels
    return even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, channels)


def _doubled(coarse: Pixels, rows: slice) -> Pixels:
    """Those rows of ``coarse`` at twice the size, linearly between its pixels; at least as many columns."""
    first, last = rows.start // 2, (rows.stop + 1) // 2
    near = np.arange(first - 1, last + 1).clip(0, len(coarse) - 1)
    tall = _between(coarse[near].astype(np.float32))[2:-2]
    wide = _between(np.pad(tall.swapaxes(0, 1), ((1, 1), (0, 0), (0, 0)), mode="edge"))[2:-2]
    doubled: Pixels = np.rint(wide.swapaxes(0, 1)).astype(coarse.dtype)
    return doubled[: rows.stop - rows.start]


def _between(lines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every line twice, each a quarter of the way towards the neighbour on its side; the outermost as they are."""
    doubled = lines.repeat(2, axis=0)
    doubled[2::2] += (lines[:-1] - lines[1:]) / 4
    doubled[1:-1:2] += (lines[1:] - lines[:-1]) / 4
    return doubled
