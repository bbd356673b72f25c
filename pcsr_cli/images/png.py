"""PNG files written row by row, so that no second copy of the picture is ever made.

Pillow holds three channels in four and the encoded file in memory as well, which for a picture of 8K is as much
again as all the rest, and it has no 16-bit colour. Rows are filtered by the average of their neighbours to the left
and above, and packed by run lengths: on enlarged photographs close to the smallest that any setting reaches, in the
shortest time."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.images.image import Layout, Metadata, Pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG's number for grey, grey with alpha, RGB, RGBA."""

BAND_BYTES = 2**22
AVERAGE = 3
"""PNG's number for the filter."""

INCH = 0.0254


class PngStream:
    """A PNG that grows: ``write`` rows from top to bottom, then ``finish``. OSError where the disk is full.

    ``text`` goes into iTXt chunks; ``compression`` is 0 to 9, or None for the quick way that is nearly as small."""

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
        run_lengths = compression is None
        self._packer = zlib.compressobj(
            1 if compression is None else compression,
            zlib.DEFLATED,
            zlib.MAX_WBITS,
            9,
            zlib.Z_RLE if run_lengths else zlib.Z_DEFAULT_STRATEGY,
        )
        file.write(SIGNATURE)
        colour = COLOUR_TYPES[layout.channels]
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", layout.width, layout.height, layout.depth, colour, 0, 0, 0))
        self._describe(metadata, text)

    def _describe(self, metadata: Metadata, text: Mapping[str, str]) -> None:
        if metadata.icc is not None:
            self._chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
        if metadata.dpi is not None:
            self._chunk(b"pHYs", struct.pack(">IIB", *(round(side / INCH) for side in metadata.dpi), 1))
        if metadata.exif is not None:
            self._chunk(b"eXIf", metadata.exif)
        if metadata.xmp is not None:
            self._chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
        for key, value in text.items():
            self._chunk(b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + value.encode("utf-8"))

    def write(self, rows: Pixels) -> None:
        """The next rows, (n, W, C) of the layout's type."""
        as_bytes = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder(">")).view(np.uint8)
        for filtered in self._filtered_bands(as_bytes.reshape(len(rows), self._layout.row_bytes)):
            if packed := self._packer.compress(filtered.data):
                self._chunk(b"IDAT", packed)

    def finish(self) -> None:
        """The end of the file; all rows have been written."""
        self._chunk(b"IDAT", self._packer.flush())
        self._chunk(b"IEND", b"")

    def _filtered_bands(self, rows: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """Bands of rows, each row with the filter's number before it and the average of left and above taken off."""
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
            # floor((left + above) / 2) without leaving 8 bits; the difference wraps around, as PNG wants it.
            np.subtract(band, (left & above) + ((left ^ above) >> 1), out=out[:, 1:])
            yield out

    def _chunk(self, kind: bytes, content: bytes) -> None:
        self._file.write(struct.pack(">I", len(content)) + kind)
        self._file.write(content)
        self._file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))
