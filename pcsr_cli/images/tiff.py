"""TIFF files written row by row, and BigTIFF where the pixels may take more than four gigabytes.

Libraries that write TIFF in parts ask for the rows; here they are handed over as they are finished. Strips of rows
are deflated one by one; the directory, which Pillow encodes, comes last."""

import struct
import zlib
from typing import BinaryIO

import numpy as np
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from pcsr_cli.images.image import Layout, Metadata, Pixels
from pcsr_cli.images.metadata import directories

STRIP_BYTES = 2**20
CLASSIC_BYTES = 2**32 - 2**26
"""Bytes of pixels that a file with 32-bit offsets has room for, whatever else is in it."""

LONG, LONG8, UNDEFINED, BYTE = 4, 16, 7, 1
STRIP_OFFSETS = 273


class TiffStream:
    """A TIFF that grows: ``write`` rows from top to bottom, then ``finish``. OSError where the disk is full.

    The file has to be seekable. ``compression`` is 0 (none) to 9; None is 1."""

    def __init__(self, file: BinaryIO, layout: Layout, metadata: Metadata, compression: int | None = None) -> None:
        self._file, self._layout, self._metadata = file, layout, metadata
        self._level = 1 if compression is None else compression
        self._big = layout.height * layout.row_bytes > CLASSIC_BYTES
        self._strip_rows = max(1, min(layout.height, STRIP_BYTES // layout.row_bytes))
        self._waiting: list[Pixels] = []
        self._strips: list[tuple[int, int]] = []
        self._file.write(self._head(0))

    def write(self, rows: Pixels) -> None:
        """The next rows, (n, W, C) of the layout's type."""
        for row in range(0, len(rows), self._strip_rows):
            self._waiting.append(rows[row : row + self._strip_rows].copy())
            held = sum(map(len, self._waiting))
            if held >= self._strip_rows:
                band = np.concatenate(self._waiting)
                self._write_strip(band[: self._strip_rows])
                self._waiting = [band[self._strip_rows :]] if held > self._strip_rows else []

    def finish(self) -> None:
        """The end of the file; all rows have been written."""
        if self._waiting:
            self._write_strip(np.concatenate(self._waiting))
            self._waiting = []
        at = self._file.tell() + self._file.tell() % 2
        self._file.seek(at)
        self._file.write(self._directory(at))
        self._file.seek(0)
        self._file.write(self._head(at))

    def _write_strip(self, rows: Pixels) -> None:
        content = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
        packed: bytes | memoryview = content.data
        if self._level:
            differences = content.copy()  # TIFF's predictor: each pixel less the one to its left
            differences[:, 1:] -= content[:, :-1]
            packed = zlib.compress(differences.data, self._level)
        at = self._file.tell()
        self._strips.append((at, self._file.write(packed)))

    def _head(self, directory: int) -> bytes:
        if self._big:
            return b"II" + struct.pack("<HHHQ", 43, 8, 0, directory)
        return b"II" + struct.pack("<HI", 42, directory)

    def _directory(self, at: int) -> bytes:
        """The directory as it lies at ``at``."""
        tags = ImageFileDirectory_v2(self._head(0))
        for tag, value in directories(self._metadata.exif).items():
            tags[tag] = value
        for tag, value in self._tags().items():
            tags[tag] = value
        size_type = LONG8 if self._big else LONG
        tags.tagtype[STRIP_OFFSETS] = tags.tagtype[279] = size_type
        tags[STRIP_OFFSETS] = (0,) * len(self._strips)
        tags[279] = tuple(size for _, size in self._strips)
        encoded = bytearray(tags.tobytes(at))
        self._place_strips(encoded, at)
        return bytes(encoded)

    def _tags(self) -> dict[int, object]:
        layout = self._layout
        tags: dict[int, object] = {
            256: layout.width,
            257: layout.height,
            258: (layout.depth,) * layout.channels,
            259: 8 if self._level else 1,
            262: 1 if layout.grey else 2,
            277: layout.channels,
            278: self._strip_rows,
            284: 1,
        }
        if self._level:
            tags[317] = 2
        if layout.alpha:
            tags[338] = (2,)
        if self._metadata.dpi is not None:
            tags[282], tags[283] = (IFDRational(round(side * 1000), 1000) for side in self._metadata.dpi)
            tags[296] = 2
        if self._metadata.icc is not None:
            tags[34675] = self._metadata.icc
        if self._metadata.xmp is not None:
            tags[700] = self._metadata.xmp
        return tags

    def _place_strips(self, encoded: bytearray, at: int) -> None:
        """Where the strips lie. Pillow takes them to follow the directory, so the numbers are put in afterwards."""
        entry, number = ("<HHQ", "Q") if self._big else ("<HHI", "I")
        first, length = (8, 20) if self._big else (2, 12)
        while struct.unpack_from("<H", encoded, first)[0] != STRIP_OFFSETS:
            first += length
        value = first + struct.calcsize(entry)
        places = struct.pack(f"<{len(self._strips)}{number}", *(place for place, _ in self._strips))
        if len(places) > struct.calcsize(number):
            value = struct.unpack_from("<" + number, encoded, value)[0] - at
        encoded[value : value + len(places)] = places
