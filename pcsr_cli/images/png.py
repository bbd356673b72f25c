"""Read 16-bit PNGs with Pillow, and write PNGs row by row.

Pillow writes no 16-bit colour and needs the whole image and the whole file in memory. ``PngEncoder`` holds a block of
rows. ``PngEncoder`` filters rows by the average of the pixels to the left and above, and compresses run lengths. On
upscaled photographs, this filter with run lengths is the fastest setting, and the files are close to the smallest."""

import io
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from pcsr_cli.images.containers import raw_profile
from pcsr_cli.images.formats import HEADS
from pcsr_cli.images.image import ImageData, Layout, Metadata, Pixels, from_channels
from pcsr_cli.images.modes import crops

(SIGNATURE,) = HEADS["PNG"]
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG's numbers for grey, grey with alpha, RGB and RGBA, by the number of channels."""

DESCRIBING = {
    b"iCCP": 0, b"eXIf": 0, b"iTXt": 0, b"zTXt": 0, b"tEXt": 0, b"pHYs": 9, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1,
    b"cICP": 4,
}  # fmt: skip
"""Chunks of metadata, each with its minimum number of bytes."""

PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}
"""Chunks that determine the pixels of an image or an animation."""

MINOR = {b"tIME", b"bKGD", b"sBIT", b"hIST", b"sPLT", b"oFFs", b"mDCV", b"cLLI", b"iDOT", b"vpAg", b"caNv", b"gIFg"}
"""Chunks that a result does not need: the time of the last change, hints for display, and how the file was made."""

GREY_BITS = {"L;2": 2, "L;4": 4, "L": 8}
"""The bits of a grey pixel, by Pillow's name of the layout."""

ANCILLARY = 0x20
"""The bit in the first letter of the kind of a chunk. The bit marks chunks that decoders do not need."""

MAX_TEXT = 2**24
"""Maximum bytes of a profile or text after decompression. A profile or text above this limit may be a decompression
bomb."""

MAX_TEXTS = 3 * MAX_TEXT
"""Maximum bytes of all texts. Pillow refuses texts of more than 64 MiB."""

INTERLACED = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
)  # fmt: skip
"""The passes of an interlaced file, each with its first column, its first row, and the steps to the next ones."""

BAND_BYTES = 2**22
BLOCK_BYTES = 2**20
AVERAGE = 3
"""PNG's number for the average filter."""

INCH = 0.0254


def read_png_size(file: BinaryIO) -> tuple[int, int]:
    """Return the width and the height in the header of a PNG. Raises ``struct.error`` if the file ends inside the
    header."""
    file.seek(len(SIGNATURE) + 8)
    width, height = struct.unpack(">II", file.read(8))
    return width, height


def read_16_bits(file: BinaryIO, raw_mode: str, clear: object) -> ImageData:
    """Read the pixels of a 16-bit PNG in colour or with alpha, without metadata.

    ``raw_mode`` is Pillow's raw mode ("RGB;16B", "RGBA;16B", "LA;16B"), ``clear`` the transparent RGB colour or None.
    Pillow decodes 16 bits but keeps one byte of each number: the first byte with the big-endian raw mode, the second
    byte with the little-endian raw mode. Grey with alpha is decoded as 8-bit RGBA, which has the same number of
    bytes."""
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
        for rows, band in crops(image):
            pixels[rows] = (pixels[rows] << 8) | np.asarray(band)[..., parts]
    assert pixels is not None
    read = from_channels(pixels, grey=kind == "LA", alpha=kind.endswith("A"))
    if isinstance(clear, tuple):
        read = replace(read, alpha=np.where((pixels == clear).all(axis=2), 0, 65535).astype(np.uint16))
    return read


@dataclass(frozen=True)
class PngParts:
    """The chunks of a PNG. ``pixels`` is a file with the chunks that Pillow decodes. ``notes`` names dropped chunks.

    ``description`` is a one-pixel image whose ``info`` and text are the file's metadata."""

    pixels: BinaryIO
    description: Image.Image
    notes: tuple[str, ...]


def split_png(file: BinaryIO, is_checked: bool = True) -> PngParts:
    """Separate the chunks with metadata from the chunks with pixels. Damaged chunks that do not carry pixels are
    dropped.

    Pillow refuses files with large or damaged metadata. If ``is_checked``, every checksum is tested. Without
    ``is_checked``, pixels are skipped, and the file may end early. Raises ValueError for a damaged file, and other
    exceptions for damaged EXIF."""
    parts: list[tuple[int, int] | bytes] = [SIGNATURE]
    described: list[bytes] = []
    dropped: list[str] = []
    info: dict[str, bytes] = {}
    for kind, start, length, content in _chunks(file, is_checked):
        if content is None:
            dropped.append(f"the {kind.decode('latin-1')} chunk is damaged and was dropped")
        elif kind in DESCRIBING:
            plain = _plain_chunk(kind, content, info)
            if plain and sum(map(len, described)) + len(plain) <= MAX_TEXTS:
                described.append(plain)
            elif kind.decode() not in info:
                dropped.append(f"the {kind.decode()} chunk is damaged or too large and was dropped")
        elif kind in PIXELS:
            parts.append((start - 8, length + 12))
        elif kind not in MINOR:
            info[kind.decode("latin-1")] = b""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixel = _chunk(b"IDAT", zlib.compress(b"\0\0"))
    image = Image.open(io.BytesIO(b"".join((SIGNATURE, header, *described, pixel, _chunk(b"IEND", b"")))))
    image.load()
    image.info["chunks"] = info  # what Pillow does not read
    if "iCCP" in info:
        image.info["icc_profile"] = info["iCCP"]
    return PngParts(io.BufferedReader(_Parts(file, parts)), image, tuple(dropped))


class _Parts(io.RawIOBase):
    """Presents parts of a file, each (start, length), and bytes to a decoder as one file."""

    def __init__(self, file: BinaryIO, parts: Sequence[tuple[int, int] | bytes]) -> None:
        self._file, self._parts, self._at = file, parts, 0
        lengths = (len(part) if isinstance(part, bytes) else part[1] for part in parts)
        self._ends = list(accumulate(lengths))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1]}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        index = bisect_right(self._ends, self._at)
        if index == len(self._ends):
            return 0
        view, part, left = memoryview(buffer), self._parts[index], self._ends[index] - self._at
        wanted = min(len(view), left)
        if isinstance(part, bytes):
            content = part[len(part) - left :][:wanted]
        else:
            self._file.seek(part[0] + part[1] - left)
            content = self._file.read(wanted)
        view[: len(content)] = content
        self._at += len(content)
        return len(content)


def _chunks(file: BinaryIO, is_checked: bool) -> Iterator[tuple[bytes, int, int, bytes | None]]:
    """Yield each chunk: its kind, start, length and, if it has metadata, content. The content is None if the chunk is
    damaged."""
    start = len(SIGNATURE) + 8
    unpacker, unpacked, expected = zlib.decompressobj(), 0, 0
    while True:
        file.seek(start - 8)
        head = file.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        if not kind.isalpha() and is_checked:
            raise ValueError("the name of a chunk is invalid")
        content: bytes | None = b""
        if is_checked or kind in DESCRIBING:
            checksum = zlib.crc32(kind)
            kept, left = [], length
            while left and (block := file.read(min(left, BLOCK_BYTES))):
                checksum, left = zlib.crc32(block, checksum), left - len(block)
                kept.append(block if kind in DESCRIBING or kind == b"IHDR" else b"")
                if kind == b"IDAT":
                    unpacked += _unpack(unpacker, block, expected - unpacked)
            if left or len(end := file.read(4)) < 4:
                break
            content = b"".join(kept)
            if end != checksum.to_bytes(4, "big"):
                if not kind[0] & ANCILLARY and is_checked:
                    raise ValueError(f"the checksum of the {kind.decode('latin-1')} chunk is wrong")
                content = None
        if kind == b"IHDR" and content:
            expected = _raw_bytes(content)
        yield kind, start, length, content
        if kind == b"IEND":
            if is_checked and (not unpacker.eof or unpacked < expected):
                break
            return
        start += length + 12
    if is_checked:
        raise ValueError("the file ends too early")


def _unpack(unpacker: "zlib._Decompress", block: bytes, limit: int) -> int:
    """Decompress a block of pixels, because Pillow ignores the checksum of the pixels. Returns the number of bytes,
    which are discarded. Raises ValueError for more than ``limit``, ``zlib.error`` for damage."""
    size = 0
    while block:
        size += len(unpacker.decompress(block, BLOCK_BYTES))
        block = unpacker.unconsumed_tail
        if size > limit:
            raise ValueError("there are more pixels than the header states")
    return size


def _raw_bytes(header: bytes) -> int:
    """Return the bytes of all pixels before compression, with a byte per row for the number of the filter.

    Raises ValueError for an invalid header."""
    width, height, depth, colour, compression, filtering, is_interlaced = struct.unpack(">IIBBBBB", header)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 0)
    if not channels or compression or filtering or is_interlaced > 1:  # Pillow ignores the last three numbers
        raise ValueError("the header is invalid")
    bits = depth * channels
    sizes = (
        (-((left - width) // right), -((top - height) // down))
        for left, top, right, down in (INTERLACED if is_interlaced else ((0, 0, 1, 1),))
    )
    return sum(down * (1 + (across * bits + 7) // 8) for across, down in sizes if across > 0)


def _plain_chunk(kind: bytes, content: bytes, info: dict[str, bytes]) -> bytes:
    """Return a chunk of metadata without compression, and put a profile into ``info``.

    Returns no bytes for a profile, and for content that is damaged, too short, or larger than ``MAX_TEXT``."""
    try:
        if kind == b"iCCP":
            info["iCCP"] = _decompressed(content.split(b"\0", 1)[1])
            return b""
        if kind == b"cICP":
            info["cICP"] = content
        if kind == b"zTXt":
            key, packed = content.split(b"\0", 1)
            kind, content = b"tEXt", key + b"\0" + _decompressed(packed)
        elif kind == b"iTXt":
            key, rest = content.split(b"\0", 1)
            language, translated, text = rest[2:].split(b"\0", 2)
            if rest[0]:
                text = _decompressed(rest[1:2] + text)
            content = key + b"\0\0\0" + language + b"\0" + translated + b"\0" + text
    except (ValueError, IndexError, zlib.error):
        return b""
    return _chunk(kind, content) if DESCRIBING[kind] <= len(content) <= MAX_TEXT else b""


def _decompressed(content: bytes) -> bytes:
    """Decompress data after the number of the method, which must be 0. Raises ValueError, IndexError,
    zlib.error."""
    unpacker = zlib.decompressobj()
    plain = unpacker.decompress(content[1:], MAX_TEXT)
    if content[0] or not unpacker.eof:
        raise ValueError("an unknown method, too much data, or data that end too early")
    return plain


def open_png(parts: PngParts) -> Image.Image:
    """Open the pixels of a PNG with Pillow. The transparent colour is adjusted to the 8 bits of its pixels."""
    parts.pixels.seek(0)
    image = PngImagePlugin.PngImageFile(parts.pixels, "")
    clear, layout = image.info.get("transparency"), image.tile[0].args if image.tile else None
    if isinstance(clear, tuple) and layout == "RGB":
        image.info["transparency"] = tuple(level & 255 for level in clear)
    elif isinstance(clear, int) and layout in GREY_BITS:
        white = 2 ** GREY_BITS[layout] - 1
        image.info["transparency"] = (clear & white) * 255 // white
    return image


class PngEncoder:
    """Writes a PNG row by row: call ``write`` for each block from the top, then ``finish``. ``write`` and ``finish``
    raise OSError.

    ``compression`` is a zlib level, 0 to 9. None compresses run lengths only, which is faster."""

    def __init__(
        self,
        file: BinaryIO,
        layout: Layout,
        metadata: Metadata,
        compression: int | None = None,
    ) -> None:
        self._file, self._layout = file, layout
        self._above = np.zeros(layout.row_bytes, dtype=np.uint8)
        level, strategy = (1, zlib.Z_RLE) if compression is None else (compression, zlib.Z_DEFAULT_STRATEGY)
        self._packer = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
        colour = COLOUR_TYPES[layout.channels]
        header = struct.pack(">IIBBBBB", layout.width, layout.height, layout.depth, colour, 0, 0, 0)
        file.write(SIGNATURE + _chunk(b"IHDR", header))
        for kind, content in _description(metadata):
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


def _description(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    if metadata.cicp is not None:
        yield b"cICP", metadata.cicp
    if metadata.icc is not None:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dpi is not None:
        yield b"pHYs", struct.pack(">IIB", *(round(side / INCH) for side in metadata.dpi), 1)
    elif metadata.aspect is not None:
        yield b"pHYs", struct.pack(">IIB", *metadata.aspect, 0)
    if metadata.exif is not None:
        yield b"eXIf", metadata.exif
    yield from text_chunks(metadata)


def text_chunks(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    """Yield kinds and contents of chunks with the XMP, the text and, as ImageMagick writes it, the IPTC."""
    if metadata.xmp is not None:
        yield b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp
    for key, value in metadata.text:
        yield (
            b"iTXt",
            key.encode("latin-1", "replace") + b"\0\0\0\0\0" + value.replace("\0", "").encode("utf-8", "replace"),
        )
    if metadata.iptc is not None:
        key, value = raw_profile("iptc", metadata.iptc)
        yield b"zTXt", key.encode() + b"\0\0" + zlib.compress(value.encode())


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
