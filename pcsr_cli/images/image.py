"""An image in memory with its metadata."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8 | np.uint16]
"""Pixel values as files store them: 0 to 255 or 0 to 65535."""

BAND_PIXELS = 2**18
MAX_NAMES = 8


@dataclass(frozen=True)
class Metadata:
    """Metadata of an image file: ICC profile, EXIF and XMP as bytes, resolution in dots per inch (x, y).

    ``text`` has keywords and values. A comment has the keyword Comment. ``iptc`` is a sequence of Photoshop's
    resources, ``extended_xmp`` a sequence of JPEG segments. ``aspect`` is the resolution (x, y) of pixels that are not
    square, if its unit is unknown. ``cicp`` has the four bytes of the chunk cICP of an HDR image.

    EXIF is a TIFF directory without the ``Exif`` prefix. The orientation in EXIF describes the pixels in memory."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: tuple[tuple[str, str], ...] = ()
    iptc: bytes | None = None
    extended_xmp: bytes | None = None
    aspect: tuple[int, int] | None = None
    cicp: bytes | None = None

    def stripped(self) -> "Metadata":
        """Return the metadata without which the colours would shift."""
        return Metadata(icc=self.icc, cicp=self.cicp)


def list_names(names: Iterable[str]) -> str:
    """Join the first ``MAX_NAMES`` names for a note."""
    first = list(islice(names, MAX_NAMES + 1))
    return ", ".join([*first[:MAX_NAMES], *(["and others"] if len(first) > MAX_NAMES else [])])


@dataclass(frozen=True)
class Layout:
    """Size and channels of an image file: ``height`` rows of ``width`` pixels, grey or RGB, with or without alpha,
    ``depth`` bits (8 or 16) per channel."""

    height: int
    width: int
    grey: bool = False
    alpha: bool = False
    depth: int = 8

    @property
    def channels(self) -> int:
        """The number of channels: 1 for grey, 3 for RGB, plus 1 for alpha."""
        return (1 if self.grey else 3) + self.alpha

    @property
    def row_bytes(self) -> int:
        """Bytes per row of pixels."""
        return self.width * self.channels * self.depth // 8


@dataclass(frozen=True)
class ImageData:
    """An image in memory: ``rgb`` (H, W, 3) uint8 or uint16, ``alpha`` (H, W) of the same type or None.

    ``grey`` is true if the file has one colour channel (the channels of ``rgb`` are equal). ``notes`` lists
    changes made while reading. Colours are not premultiplied by alpha."""

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
        """Bits per channel: 8 or 16."""
        return 8 * self.rgb.itemsize

    @property
    def layout(self) -> Layout:
        """The layout of a file with this image."""
        return Layout(*self.size, self.grey, self.alpha is not None, self.depth)

    def channels(self) -> Pixels:
        """Return the channels that ``layout`` counts, (H, W, 1 to 4): grey or RGB, then alpha."""
        colour = self.rgb[..., :1] if self.grey else self.rgb
        return colour if self.alpha is None else np.concatenate((colour, self.alpha[..., None]), axis=2)


def from_channels(channels: Pixels, grey: bool, alpha: bool) -> ImageData:
    """Make an image from channels (H, W, C): grey or RGB, then alpha. Channels after alpha are dropped."""
    rgb = np.repeat(channels[..., :1], 3, axis=2) if grey else np.ascontiguousarray(channels[..., :3])
    return ImageData(rgb, np.ascontiguousarray(channels[..., 1 if grey else 3]) if alpha else None, grey)


def to_8_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """Round 16-bit values to 8 bits: 65535 becomes 255. Return 8-bit values unchanged."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def bands(height: int, width: int) -> list[slice]:
    """Split the rows of an image into slices of even length, to limit the memory for intermediate values."""
    step = 2 * max(1, BAND_PIXELS // width // 2)
    return [slice(top, min(height, top + step)) for top in range(0, height, step)]


def fill_transparent(rgb: Pixels, alpha: Pixels | None) -> Pixels:
    """Replace the colours of fully transparent pixels in ``rgb`` (H, W, 3) by the colours of visible pixels nearby.

    Upscaling mixes neighbours, so colours that a program left under transparent pixels would appear as a fringe.
    Visible pixels keep their values. Returns ``rgb`` itself if no pixel, or every pixel, is transparent.
    """
    if alpha is None or alpha.all() or not alpha.any():
        return rgb
    coarse = fill_transparent(*_halve(rgb, alpha))
    filled = np.empty_like(rgb)
    for rows in bands(*alpha.shape):
        visible = alpha[rows, :, None] > 0
        filled[rows] = np.where(visible, rgb[rows], _double(coarse, rows)[:, : rgb.shape[1]])
    return filled


def flatten(image: ImageData, colour: tuple[int, int, int]) -> ImageData:
    """Put an image over a background of an 8-bit RGB colour. The result has no alpha."""
    if image.alpha is None:
        return image
    peak = np.iinfo(image.rgb.dtype).max
    rgb = np.empty_like(image.rgb)
    for rows in bands(*image.size):
        share = image.alpha[rows, :, None] / peak
        rgb[rows] = np.rint(image.rgb[rows] * share + np.array(colour) / 255 * peak * (1 - share))
    grey = image.grey and len(set(colour)) == 1
    metadata = image.metadata if grey == image.grey else replace(image.metadata, icc=None)  # that of grey pixels
    return replace(image, rgb=rgb, alpha=None, grey=grey, metadata=metadata)


def _halve(rgb: Pixels, alpha: Pixels) -> tuple[Pixels, Pixels]:
    """Halve colours and alpha. A block of 2x2 becomes its mean colour, weighted by alpha, and its largest alpha."""
    height, width = ((side + 1) // 2 for side in alpha.shape)
    colours = np.empty((height, width, 3), rgb.dtype)
    largest = np.empty((height, width), alpha.dtype)
    for rows in bands(*alpha.shape):
        half = slice(rows.start // 2, (rows.stop + 1) // 2)
        weight = _blocks(alpha[rows, :, None])
        total = weight.sum(axis=(1, 3))
        mean = (_blocks(rgb[rows]) * weight).sum(axis=(1, 3)) / np.maximum(total, 1)
        colours[half] = np.rint(mean)
        largest[half] = weight.max(axis=(1, 3))[..., 0]
    return colours, largest


def _blocks(pixels: Pixels) -> NDArray[np.float64]:
    """Reshape (H, W, C) to (H / 2, 2, W / 2, 2, C). Odd sides are padded with zeros."""
    height, width, channels = pixels.shape
    even = np.zeros((height + height % 2, width + width % 2, channels))
    even[:height, :width] = pixels
    return even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, channels)


def _double(coarse: Pixels, rows: slice) -> Pixels:
    """Return ``rows`` of ``coarse`` at twice its size, interpolated linearly, possibly with extra columns."""
    first, last = rows.start // 2, (rows.stop + 1) // 2
    near = np.arange(first - 1, last + 1).clip(0, len(coarse) - 1)
    tall = _interpolate(coarse[near].astype(np.float32))[2:-2]
    wide = _interpolate(np.pad(tall.swapaxes(0, 1), ((1, 1), (0, 0), (0, 0)), mode="edge"))[2:-2]
    doubled: Pixels = np.rint(wide.swapaxes(0, 1)).astype(coarse.dtype)
    return doubled[: rows.stop - rows.start]


def _interpolate(lines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Double the lines. Each new line is 3/4 of its source line and 1/4 of the nearer neighbour. The outermost lines
    are unchanged."""
    doubled = lines.repeat(2, axis=0)
    doubled[2::2] += (lines[:-1] - lines[1:]) / 4
    doubled[1:-1:2] += (lines[1:] - lines[:-1]) / 4
    return doubled
