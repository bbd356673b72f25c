"""Read 16-bit PNGs with Pillow, and write PNGs row by row.

Pillow writes no 16-bit colour and needs the whole image and the whole file in memory. ``PngEncoder`` holds a block of
rows. ``PngEncoder`` filters rows by the average of the pixels to the left and above, and compresses run lengths. On
upscaled photographs this is the fastest setting, and its files are close to the smallest."""

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from pcsr_cli.images.image import ImageData, Layout, Metadata, Pixels, from_channels
from pcsr_cli.images.modes import bands

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG's numbers for grey, grey with alpha, RGB and RGBA, by the number of channels."""

DESCRIBING = {b"iCCP", b"eXIf", b"iTXt", b"zTXt", b"tEXt", b"pHYs"}
"""Chunks of metadata."""

BAND_BYTES = 2**22
AVERAGE = 3
"""PNG's number for the average filter."""

INCH = 0.0254


def read_16_bits(file: BinaryIO, raw_mode: str, clear: object) -> ImageData:
    """Read the pixels of a 16-bit PNG in colour or with alpha, without metadata.

    ``raw_mode`` is Pillow's raw mode ("RGB;16B", "RGBA;16B", "LA;16B"), ``clear`` the transparent RGB colour or None.
    Pillow decodes 16 bits but keeps 8: the first byte of each number with the big-endian raw mode, the second with the
    little-endian one. Grey with alpha is decoded as 8-bit RGBA, which has the same number of bytes."""
    kind = raw_mode.partition(";")[0]
    if kind == "LA":
        passes = (("RGBA", slice(0, None, 2)), ("RGBA", slice(1, None, 2)))
    else:
        passes = ((f"{kind};16B", slice(None)), (f"{kind};16L", slice(None)))
    pixels: Pixels | None = None
    for mode, parts in passes:
        file.seek(0)
        image = PngImagePlugin.PngImageFile(file, "")
        if pixels is None:
            pixels = np.zeros((image.height, image.width, len(kind)), np.uint16)
        image.tile = [image.tile[0]._replace(args=mode)]
        image.load()
        for rows, band in bands(image):
            pixels[rows] = (pixels[rows] << 8) | np.asarray(band)[..., parts]
    assert pixels is not None
    read = from_channels(pixels, grey=kind == "LA", alpha=kind.endswith("A"))
    if isinstance(clear, tuple):
        read = replace(read, alpha=np.where((pixels == clear).all(axis=2), 0, 65535).astype(np.uint16))
    return read


def read_description(file: BinaryIO) -> Image.Image:
    """Load the metadata of a PNG file into a one-pixel image. Pixels are skipped, because metadata may follow the
    pixels.

    Raises exceptions of many types for damaged files."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixel = _chunk(b"IDAT", zlib.compress(b"\0\0"))
    parts = (SIGNATURE, header, *_describing_chunks(file), pixel, _chunk(b"IEND", b""))
    image = Image.open(io.BytesIO(b"".join(parts)))
    image.load()
    return image


def _describing_chunks(file: BinaryIO) -> Iterator[bytes]:
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in DESCRIBING:
            yield head + file.read(length + 4)
        else:
            file.seek(length + 4, io.SEEK_CUR)


class PngEncoder:
    """Writes a PNG row by row: call ``write`` for each block from the top, then ``finish``. ``write`` and ``finish``
    raise OSError.

    ``text`` becomes iTXt chunks. ``compression`` is a zlib level, 0 to 9, or None for run lengths."""

    def __init__(
        self,
        file: BinaryIO,
        layout: Layout,
        metadata: Metadata,
        text: Mapping[str, str],
        compression: int | None = None,
    ) -> None:
        self._file, self._layout = file, layout
        self._above = np.zeros(layout.row_bytes, dtype=np.uint8)
        level, strategy = (1, zlib.Z_RLE) if compression is None else (compression, zlib.Z_DEFAULT_STRATEGY)
        self._packer = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
        colour = COLOUR_TYPES[layout.channels]
        header = struct.pack(">IIBBBBB", layout.width, layout.height, layout.depth, colour, 0, 0, 0)
        file.write(SIGNATURE + _chunk(b"IHDR", header))
        for kind, content in _description(metadata, text):
            file.write(_chunk(kind, content))

    def write(self, rows: Pixels) -> None:
        """Write the next rows, (n, W, C), in the depth of the layout."""
        as_bytes = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder(">")).view(np.uint8)
        for filtered in self._filter(as_bytes.reshape(len(rows), self._layout.row_bytes)):
            if packed := self._packer.compress(filtered.data):
                self._file.write(_chunk(b"IDAT", packed))

    def finish(self) -> None:
        """Write the end of the file."""
        self._file.write(_chunk(b"IDAT", self._packer.flush()) + _chunk(b"IEND", b""))

    def _filter(self, rows: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """Yield bands of rows. A row is the number of the filter, then each byte minus the mean of the bytes to the
        left and above."""
        pixel = self._layout.channels * self._layout.depth // 8
        step = max(1, BAND_BYTES // self._layout.row_bytes)
        for top in range(0, len(rows), step):
            band = rows[top : top + step]
            out = np.empty((band.shape[0], band.shape[1] + 1), dtype=np.uint8)
            above = np.concatenate((self._above[None], band[:-1]))
            self._above = band[-1].copy()
            left = np.zeros_like(band)
            left[:, pixel:] = band[:, :-pixel]
            out[:, 0] = AVERAGE
            # floor((left + above) / 2) within 8 bits; the difference wraps around, as PNG requires.
            np.subtract(band, (left & above) + ((left ^ above) >> 1), out=out[:, 1:])
            yield out


def _description(metadata: Metadata, text: Mapping[str, str]) -> Iterator[tuple[bytes, bytes]]:
    if metadata.icc is not None:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dpi is not None:
        yield b"pHYs", struct.pack(">IIB", *(round(side / INCH) for side in metadata.dpi), 1)
    if metadata.exif is not None:
        yield b"eXIf", metadata.exif
    if metadata.xmp is not None:
        yield b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp
    for key, value in text.items():
        yield b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + value.encode("utf-8")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
