"""PNG files written in bands of rows, so that no second copy of the picture is ever made.

Pillow holds three channels in four and the encoded file in memory as well, which for a picture of 8K is as much
again as all the rest. Rows are filtered by the average of their neighbours to the left and above, and packed by run
lengths: on enlarged photographs close to the smallest that any setting reaches, in the shortest time."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG's number for grey, grey with alpha, RGB, RGBA."""

BAND_BYTES = 2**22
AVERAGE = 3
"""PNG's number for the filter."""


def write_png(file: BinaryIO, pixels: NDArray[np.uint8], text: Mapping[str, str], icc: bytes | None = None) -> None:
    """Write (H, W, C) uint8 pixels of 1 to 4 channels; ``text`` goes into iTXt chunks. OSError where the disk is
    full."""
    height, width, channels = pixels.shape
    file.write(SIGNATURE)
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels], 0, 0, 0))
    if icc is not None:
        _chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    for key, value in text.items():
        _chunk(file, b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + value.encode("utf-8"))
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    for filtered in _filtered_bands(np.ascontiguousarray(pixels).reshape(height, width * channels), channels):
        if packed := packer.compress(filtered.data):
            _chunk(file, b"IDAT", packed)
    _chunk(file, b"IDAT", packer.flush())
    _chunk(file, b"IEND", b"")


def _filtered_bands(rows: NDArray[np.uint8], channels: int) -> Iterator[NDArray[np.uint8]]:
    """Bands of rows, each row with the filter's number before it and the average of left and above taken off."""
    height, length = rows.shape
    step = max(1, BAND_BYTES // length)
    for top in range(0, height, step):
        band = rows[top : top + step]
        out = np.empty((band.shape[0], length + 1), dtype=np.uint8)
        above = np.zeros_like(band)
        above[1:] = band[:-1]
        if top:
            above[0] = rows[top - 1]
        left = np.zeros_like(band)
        left[:, channels:] = band[:, :-channels]
        out[:, 0] = AVERAGE
        # floor((left + above) / 2) without leaving 8 bits; the difference wraps around, as PNG wants it.
        np.subtract(band, (left & above) + ((left ^ above) >> 1), out=out[:, 1:])
        yield out


def _chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind)
    file.write(content)
    file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))
