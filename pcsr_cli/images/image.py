"""A picture in memory, and what goes with it from file to file."""

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Levels: TypeAlias = NDArray[np.uint8 | np.uint16]
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
class Picture:
    """A picture in memory: ``rgb`` (H, W, 3) uint8 or uint16, ``alpha`` (H, W) of the same type or None.

    ``grey`` tells that the file had one colour channel (the three of ``rgb`` are equal), ``notes`` what reading it
    changed. Colour is straight: not multiplied by alpha."""

    rgb: Levels
    alpha: Levels | None = None
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

    def channels(self) -> Levels:
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


def to_8_bits(levels: Levels) -> NDArray[np.uint8]:
    """16-bit levels rounded to the nearest of 256; 8-bit ones as they are."""
    if levels.dtype == np.uint8:
        return levels.astype(np.uint8, copy=False)
    # round(v / 257) in integers: v * 255 / 65535.
    return ((levels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
