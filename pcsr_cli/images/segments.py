"""Decode the TIFFs that libvips cannot decode: packed numbers such as 12 bits, tiles of separate planes, LZMA."""

import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
from PIL.ExifTags import Base

from pcsr_cli.images.image import Layout, Pixels

PREMULTIPLIED = 1
LZMA = 34925
DECOMPRESSORS: Mapping[int, Callable[[bytes], bytes]] = {
    1: bytes, 8: zlib.decompress, 32946: zlib.decompress, LZMA: lzma.decompress
}  # fmt: skip
"""The functions that decompress strips and tiles, by TIFF's number of the compression."""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
NONE, HORIZONTAL = 1, 2
"""Numbers of predictors."""


def segment_layout(tags: Mapping[int, Any], has_alpha: bool) -> Layout | None:
    """Return the layout of a TIFF that this module decodes, and None for TIFFs that libvips decodes."""
    bits, samples, colours = _bits(tags), tags.get(Base.SamplesPerPixel, 1), tags.get(Base.PhotometricInterpretation)
    needed = (
        tags.get(Base.Compression, 1) == LZMA
        or (bits not in {8, 16} and (samples > 1 or bits > 8))
        or (_is_planar(tags) and Base.TileWidth in tags)
    )
    possible = (
        tags.get(Base.Compression, 1) in DECOMPRESSORS
        and bits in range(1, 17)
        and set(as_numbers(tags.get(Base.SampleFormat, 1))) == {1}
        and tags.get(Base.Predictor, NONE) in ({NONE, HORIZONTAL} if bits in {8, 16} else {NONE})
        and colours in {WHITE_IS_ZERO, BLACK_IS_ZERO, RGB}
        and PREMULTIPLIED not in as_numbers(tags.get(Base.ExtraSamples, 0))
        and samples >= (3 if colours == RGB else 1)
    )
    if not needed or not possible:
        return None
    grey = colours != RGB
    alpha = has_alpha and samples > (1 if grey else 3)
    return Layout(tags[Base.ImageLength], tags[Base.ImageWidth], grey, alpha, 8 if bits <= 8 else 16)


def decode_segments(file: BinaryIO, tags: Mapping[int, Any], endian: str) -> Pixels:
    """Decode the pixels of a TIFF with a ``segment_layout``, (H, W, C), scaled to 8 or 16 bits.

    ``endian`` is the byte order of ``struct``. Raises ValueError, ``zlib.error`` and ``lzma.LZMAError`` for damage."""
    height, width, samples = tags[Base.ImageLength], tags[Base.ImageWidth], tags.get(Base.SamplesPerPixel, 1)
    across = tags.get(Base.TileWidth, width)
    down = tags.get(Base.TileLength, min(height, tags.get(Base.RowsPerStrip, height)))
    bits, channels = _bits(tags), 1 if _is_planar(tags) else samples
    if across < 1 or down < 1:
        raise ValueError("the strips or tiles have no size")
    columns, rows = -(-width // across), -(-height // down)
    offsets = as_numbers(tags.get(Base.TileOffsets, tags.get(Base.StripOffsets, ())))
    sizes = as_numbers(tags.get(Base.TileByteCounts, tags.get(Base.StripByteCounts, ())))
    if len(offsets) != len(sizes) or len(offsets) < columns * rows * (samples // channels):
        raise ValueError("strips or tiles are missing")
    decompress = DECOMPRESSORS[tags.get(Base.Compression, 1)]
    pixels: Pixels = np.zeros((height, width, samples), np.uint8 if bits <= 8 else np.uint16)
    for index in range(columns * rows * (samples // channels)):
        plane, place = divmod(index, columns * rows)
        top, left = place // columns * down, place % columns * across
        target = pixels[top : top + down, left : left + across, plane : plane + channels]
        file.seek(offsets[index])
        content = decompress(file.read(sizes[index]))
        values = _unpack(content, down if Base.TileWidth in tags else len(target), across, channels, bits, endian)
        if tags.get(Base.Predictor, NONE) == HORIZONTAL:
            values = np.cumsum(values, axis=1, dtype=values.dtype)
        target[:] = values[: target.shape[0], : target.shape[1]]
    full, white = 2**bits - 1, 2 ** (8 * pixels.itemsize) - 1
    if full != white:
        pixels[:] = (pixels.astype(np.uint32) * white + full // 2) // full
    if tags[Base.PhotometricInterpretation] == WHITE_IS_ZERO:
        pixels[..., 0] = white - pixels[..., 0]
    return pixels


def _unpack(content: bytes, rows: int, width: int, channels: int, bits: int, endian: str) -> Pixels:
    """Return the numbers of a strip or tile, (rows, width, channels). Rows start at whole bytes."""
    row_bytes = (width * channels * bits + 7) // 8
    if len(content) < rows * row_bytes:
        raise ValueError("the pixels end too early")
    lines: Pixels = np.frombuffer(content, np.uint8, rows * row_bytes).reshape(rows, row_bytes)
    if bits == 16:
        lines = lines.view(f"{endian}u2").astype(np.uint16)
    elif bits != 8:
        each = np.unpackbits(lines.view(np.uint8), axis=1)[:, : width * channels * bits].reshape(rows, -1, bits)
        weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
        numbers: Pixels = (each * weights).sum(axis=2, dtype=np.uint16)
        lines = numbers.astype(np.uint8 if bits < 8 else np.uint16)
    return lines.reshape(rows, width, channels)


def _bits(tags: Mapping[int, Any]) -> int:
    """Return the bits of a channel, or 0 if the channels differ."""
    bits = set(as_numbers(tags.get(Base.BitsPerSample, 1)))
    return bits.pop() if len(bits) == 1 else 0


def _is_planar(tags: Mapping[int, Any]) -> bool:
    return bool(tags.get(Base.PlanarConfiguration, 1) == 2)


def as_numbers(value: object) -> tuple[int, ...]:
    """Return the integers of a tag as a tuple. The value of the tag is a number or several."""
    values = value if isinstance(value, tuple) else (value,)
    return tuple(number for number in values if isinstance(number, int))
