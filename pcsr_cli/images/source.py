"""Read from a file whether its compression was lossy, and the quality of a JPEG."""

import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL.ExifTags import Base

from pcsr_cli.errors import InputError, UsageError
from pcsr_cli.images.blocks import has_jpeg_blocks
from pcsr_cli.images.degrade import parse_quality
from pcsr_cli.images.image import Pixels, to_8_bits
from pcsr_cli.images.jxl import is_jxl, read_jxl_header
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
    if text in {"auto", "clean"}:
        return CLEAN if text == "clean" else None
    name, given, quality = text.partition("=")
    with suppress(ValueError):
        if name == "jpeg":
            return SourceKind(True, "JPEG", parse_quality(quality) if given else None)
    raise UsageError(
        f"Invalid source {text!r}.", "Use auto, clean, jpeg, or jpeg=75 with a quality from 1 to 100.", setting="source"
    )


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
        if is_jxl(file):
            is_lossy = b"jbrd" in head or _jxl_is_lossy(file)  # jbrd: packed from a JPEG
            return SourceKind(True, "JPEG XL") if is_lossy else CLEAN
        tags = read_tags(file)
    if tags is not None:
        name = LOSSY_IN_TIFF.get(tags.get(Base.Compression, 1), "")
    elif head[4:8] == b"ftyp":
        at = head.find(b"colrnclx")  # then primaries, transfer, matrix; lossless files store RGB: matrix 0
        name = "" if head[at + 12 : at + 14] == b"\0\0" and at >= 0 else "AVIF" if b"avi" in head[8:32] else "HEIC"
    elif head.startswith(b"\xff\x4f\xff\x51") or head[4:8] == b"jP  ":
        style = head.partition(b"\xff\x4f\xff\x51")[2].partition(b"\xff\x52")[2]  # of the codestream
        name = "" if style[11:12] == b"\1" else "JPEG 2000"  # 1 is the reversible transform
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


def _jxl_is_lossy(file: BinaryIO) -> bool:
    """Whether the colours are stored as XYB. Also true if the header is damaged."""
    try:
        return read_jxl_header(file).is_xyb
    except (InputError, ValueError):
        return True
