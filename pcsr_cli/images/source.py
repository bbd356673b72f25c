"""Find out whether the compression of an image was lossy: from its file, or from its pixels.

A PNG that was made from a JPEG has the 8x8 blocks of the JPEG. ``has_jpeg_blocks`` measures two properties of the luma.
Blocks on the grid of the JPEG have more DCT coefficients of zero than blocks at other positions (Nikoukhah et al.,
"ZERO: a local JPEG grid origin detector", IPOL 2021). The coefficients that are not zero are multiples of the steps of
a quantisation table.
"""

import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL.ExifTags import Base

from pcsr_cli.errors import InputError, UsageError
from pcsr_cli.images.degrade import parse_quality
from pcsr_cli.images.formats import starts_like
from pcsr_cli.images.image import Pixels, to_8_bits
from pcsr_cli.images.jxl import read_jxl_header
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

WINDOW = 256
"""Side in pixels of the measured part of an image, the most detailed of nine parts."""

MIN_SIDE = 32
MIN_VALUES = 48
"""Minimum number of values of luma. Images with fewer values are drawings, whose repeated patterns can resemble
blocks."""

MIN_BLOCKS = 10
MIN_SHARE = 0.2
MIN_SCORE = 0.3
"""Limits of the two measures. The measures of clean photographs are at most 0.14 and 0.13. The measures of JPEGs of
quality 40 to 95 are at least 0.44 and 0.39 in 99% of the cases."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)

STEPS = np.array(sorted(set(np.geomspace(2, 120, 60).round())))
"""Possible steps of a quantisation table."""

_FREQUENCY = np.arange(8)[:, None]
_DCT = (np.cos((2 * np.arange(8) + 1) * _FREQUENCY * np.pi / 16) * np.where(_FREQUENCY, 0.5, np.sqrt(0.125))).astype(
    np.float32
)

LOSSY_IN_TIFF = {6: "JPEG in TIFF", 7: "JPEG in TIFF", 34712: "JPEG 2000 in TIFF", 50001: "WebP in TIFF"}


@dataclass(frozen=True)
class SourceKind:
    """The compression of the file of an image. ``name`` is the lossy format, or empty.

    ``quality`` is the quality, 1 to 100, of the nearest quantisation table of libjpeg, or None for formats other than
    JPEG."""

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
        if starts_like(file, "JPEG"):
            return SourceKind(True, "JPEG", _jpeg_quality(file, source_name(source)))
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return SourceKind(True, "WebP") if _webp_is_lossy(file) else CLEAN
        if starts_like(file, "JPEG XL"):
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
    """Return the quality, 1 to 100, at which libjpeg's quantisation table has the most similar ratios of steps. Return
    None if the quality is unknown.

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
    """Return whether the first frame has a lossy bitstream (VP8) and not a lossless one (VP8L)."""
    file.seek(12)
    while len(chunk := file.read(8)) == 8:
        kind, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if kind in {b"VP8 ", b"VP8L"}:
            return kind == b"VP8 "
        file.seek(16 if kind == b"ANMF" else size + size % 2, io.SEEK_CUR)  # a frame of an animation has chunks in it
    return True


def _jxl_is_lossy(file: BinaryIO) -> bool:
    """Return whether the colours are stored as XYB. A damaged header counts as lossy."""
    try:
        return read_jxl_header(file).is_xyb
    except (InputError, ValueError):
        return True


def has_jpeg_blocks(rgb: NDArray[np.uint8]) -> bool:
    """Return whether an image (H, W, 3) has the blocks of a JPEG. Images that are too small or too plain have none."""
    if min(rgb.shape[:2]) < MIN_SIDE:
        return False
    windows = (
        rgb[top : top + WINDOW, left : left + WINDOW].astype(np.float32) @ LUMA
        for top in _starts(rgb.shape[0])
        for left in _starts(rgb.shape[1])
    )
    luma: NDArray[np.float32] = max(windows, key=lambda window: float(np.var(window)))
    if np.count_nonzero(np.diff(np.sort(luma, axis=None))) + 1 < MIN_VALUES:  # np.unique loads masked arrays
        return False
    votes = _votes(_zeros(luma))
    best = int(votes.argmax())
    if votes.sum() < MIN_BLOCKS * 64 or votes[best] < MIN_SHARE * votes.sum():
        return False
    return _quantised(luma[best // 8 :, best % 8 :]) > MIN_SCORE


def _starts(side: int) -> list[int]:
    """Return the starts of three windows along a side."""
    return sorted({(side - WINDOW) * part // 2 if side > WINDOW else 0 for part in range(3)})


def _zeros(luma: NDArray[np.float32]) -> NDArray[np.int8]:
    """Count the zero DCT coefficients of the 8x8 block at every position, (h - 7, w - 7).

    A block that is constant along one axis counts as -1: drawings also have such blocks, at positions that their layout
    determines, not the grid of a JPEG."""
    height, width = luma.shape[0] - 7, luma.shape[1] - 7
    count = np.zeros((height, width), np.int8)
    across, down, both = (np.zeros((height, width), bool) for _ in range(3))
    for u, column in enumerate(_DCT):
        rows = sum(weight * luma[:, at : at + width] for at, weight in enumerate(column))
        for v, row in enumerate(_DCT):
            zero = np.abs(sum(weight * rows[at : at + height] for at, weight in enumerate(row))) < 0.5
            count += zero
            if u or v:
                varies = both if u and v else across if u else down
                varies |= ~zero
    return np.where(both | (across & down), count, np.int8(-1))


def _votes(zeros: NDArray[np.int8]) -> NDArray[np.int64]:
    """For each of the 64 positions of the grid (8 * y + x), count the pixels for which the block at that position has
    the most zeros."""
    height, width = (zeros.shape[0] - 7) // 8 * 8, (zeros.shape[1] - 7) // 8 * 8
    most = np.full((height, width), -1, np.int8)
    choice = np.zeros((height, width), np.int64)
    tied = np.ones((height, width), bool)
    for phase in range(64):
        y, x = divmod(phase, 8)
        blocks = zeros[y::8, x::8].repeat(8, axis=0).repeat(8, axis=1)
        here = blocks[7 - y : 7 - y + height, 7 - x : 7 - x + width]
        more = here > most
        tied = np.where(more, False, tied | (here == most))
        choice[more] = phase
        most = np.maximum(most, here)
    return np.bincount(choice[~tied], minlength=64)


def _quantised(luma: NDArray[np.float32]) -> float:
    """Measure how near the coefficients of the blocks of this grid are to multiples of a step, 0 to 1.

    Each frequency has its own step, which fits its coefficients best. Coefficients below half a step are ignored."""
    height, width = luma.shape[0] // 8, luma.shape[1] // 8
    blocks = luma[: height * 8, : width * 8].reshape(height, 8, width, 8).swapaxes(1, 2)
    values = np.abs(_DCT @ blocks @ _DCT.T).reshape(-1, 64)[:, 1:]
    best = np.zeros((3, 63))  # significance, number of coefficients, their mean
    for step in STEPS:
        used = values > step / 2
        number = used.sum(axis=0)
        mean = np.where(used, np.cos(2 * np.pi / step * values), 0).sum(axis=0) / np.maximum(number, 1)
        found = np.where(number < MIN_BLOCKS, 0, mean * np.sqrt(number)), number, mean
        best = np.where(found[0] > best[0], found, best)
    _, number, mean = best
    return float((mean * number).sum() / max(1, number.sum()))
