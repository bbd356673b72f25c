"""Read from a file whether its compression was lossy, and the quality of a JPEG."""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pcsr_cli.errors import UsageError
from pcsr_cli.images.blocks import has_jpeg_blocks
from pcsr_cli.images.image import Pixels, to_8_bits
from pcsr_cli.images.read import open_source, open_with_pillow, reading_errors, source_name
from pcsr_cli.images.tiff import read_tags

HEAD_BYTES = 2**16
"""The part of a file in which its compression is stated."""

LUMA_TABLE = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
])  # fmt: skip
"""The quantisation table of luma that libjpeg scales by the quality."""

TIFF_COMPRESSION = 259
LOSSY_IN_TIFF = {6: "JPEG in TIFF", 7: "JPEG in TIFF", 34712: "JPEG 2000 in TIFF", 50001: "WebP in TIFF"}


@dataclass(frozen=True)
class SourceKind:
    """The compression of the file of an image. ``name`` is the lossy format, or empty.

    ``quality`` is libjpeg's (1 to 100) with the nearest quantisation table, None for formats other than JPEG."""

    lossy: bool = False
    name: str = ""
    quality: int | None = None

    def __str__(self) -> str:
        if not self.lossy:
            return "lossless"
        return f"{self.name} of quality about {self.quality}" if self.quality else self.name


CLEAN = SourceKind()


def parse_source(text: str) -> SourceKind | None:
    """Parse ``clean``, ``jpeg``, ``jpeg=75`` or ``auto`` (None). Raises UsageError."""
    name, given, quality = text.partition("=")
    if text in {"auto", "clean"}:
        return CLEAN if text == "clean" else None
    if name != "jpeg" or (given and not (quality.isdecimal() and 1 <= int(quality) <= 100)):
        raise UsageError(
            f"Invalid source {text!r}.",
            "Use auto, clean, jpeg, or jpeg=75 with a quality from 1 to 100.",
            setting="source",
        )
    return SourceKind(True, "JPEG", int(quality) if given else None)


def find_kind(source: Path | BinaryIO, rgb: Pixels) -> SourceKind:
    """Read the kind of a file. If the compression was not lossy, look for the blocks of a JPEG in the pixels, (H, W,
    3).

    Raises InputError."""
    kind = read_kind(source)
    if not kind.lossy and rgb.dtype == np.uint8 and has_jpeg_blocks(to_8_bits(rgb)):
        return SourceKind(True, "image with the blocks of a JPEG")
    return kind


def read_kind(source: Path | BinaryIO) -> SourceKind:
    """Read the kind of an image file from its header. Raises InputError.

    AVIF, HEIC, JPEG 2000 and JPEG XL count as lossy unless the header shows that they are not."""
    with open_source(source) as file, reading_errors(source):
        file.seek(0)
        head = file.read(HEAD_BYTES)
        if head.startswith(b"\xff\xd8\xff"):
            return SourceKind(True, "JPEG", _jpeg_quality(file, source_name(source)))
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return SourceKind(True, "WebP") if _webp_is_lossy(file) else CLEAN
        tags = read_tags(file)
    if tags is not None:
        name = LOSSY_IN_TIFF.get(tags.get(TIFF_COMPRESSION, 1), "")
    elif head[4:8] == b"ftyp":
        at = head.find(b"colrnclx")  # then primaries, transfer, matrix; lossless files store RGB: matrix 0
        name = "" if head[at + 12 : at + 14] == b"\0\0" and at >= 0 else "AVIF" if b"avi" in head[8:32] else "HEIC"
    elif head.startswith(b"\xff\x4f\xff\x51") or head[4:8] == b"jP  ":
        style = head.partition(b"\xff\x4f\xff\x51")[2].partition(b"\xff\x52")[2]  # of the codestream
        name = "" if style[11:12] == b"\1" else "JPEG 2000"  # 1 is the reversible transform
    elif head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        name = "JPEG XL" if b"jbrd" in head or _jpeg_xl_is_lossy(head) else ""  # jbrd: packed from a JPEG
    else:
        name = ""
    return SourceKind(bool(name), name)


def _jpeg_quality(file: BinaryIO, name: str) -> int | None:
    """The quality, 1 to 100, whose table in libjpeg has the most similar ratios of steps; None if it is unknown.

    Low frequencies have the most weight: some editors use the same small steps at high frequencies for all qualities.
    """
    try:
        tables: dict[int, list[int]] = getattr(open_with_pillow(file, name), "quantization", {})
    except Exception:  # Pillow raises errors of many types for damaged files
        return None
    if not tables:
        return None
    qualities = np.arange(1, 101)
    percent = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    scaled = ((LUMA_TABLE * percent[:, None] + 50) // 100).clip(1, 255)
    ratios = np.array(tables[min(tables)]).clip(1) / scaled
    return int(qualities[np.abs(np.log(ratios) / LUMA_TABLE**2).sum(axis=1).argmin()])


def _webp_is_lossy(file: BinaryIO) -> bool:
    """Whether the first frame has a lossy bitstream (VP8) and not a lossless one (VP8L)."""
    file.seek(12)
    while len(chunk := file.read(8)) == 8:
        kind, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if kind in {b"VP8 ", b"VP8L"}:
            return kind == b"VP8 "
        file.seek(16 if kind == b"ANMF" else size + size % 2, io.SEEK_CUR)  # a frame of an animation has chunks in it
    return True


def _jpeg_xl_is_lossy(head: bytes) -> bool:
    """Whether the colours are stored as XYB, as lossy encoders do (ISO/IEC 18181-1, annexes C and D).

    The result is true if the header has parts that this function does not parse: animations, previews and unusual
    channels."""
    if not head.startswith(b"\xff\x0a"):  # a container, whose box jxlp begins with a counter
        found = re.search(rb"jxlc(?=\xff\x0a)|jxlp....(?=\xff\x0a)", head, re.DOTALL)
        if found is None:
            return True
        head = head[found.end() :]
    bits = _Bits(int.from_bytes(head[2:66], "little"))
    small = bits.take(1)
    bits.side(small)
    if not bits.take(3):  # no fixed ratio: the width follows
        bits.side(small)
    if bits.take(1):  # all defaults
        return True
    if bits.take(1):  # extra fields: the orientation, then an intrinsic size, a preview, an animation
        bits.take(3)
        if bits.take(3):
            return True
    if bits.take(1):  # floating point
        bits.choose(0, 0, 0, 6)
        bits.take(4)
    else:
        bits.choose(0, 0, 0, 6)
    bits.take(1)
    channels = bits.choose(0, 0, 4, 12)
    if channels > 1 or (channels and not bits.take(1)):  # more than a usual alpha
        return True
    return bool(bits.take(1))


class _Bits:
    """Takes bits from an integer, the lowest first."""

    def __init__(self, value: int) -> None:
        self._value = value

    def take(self, count: int) -> int:
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        return taken

    def choose(self, *widths: int) -> int:
        """Take a selector of 2 bits and a number of the selected width. Return the selector if the width is 0."""
        selector = self.take(2)
        return selector if not widths[selector] else selector + self.take(widths[selector])

    def side(self, small: int) -> None:
        """Skip the bits that state a side of the image."""
        if small:
            self.take(5)
        else:
            self.choose(9, 13, 18, 30)
