"""Read the headers of JPEG XL files (ISO/IEC 18181-1), because the plug-in decodes all pixels when it opens a file."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from pcsr_cli.errors import InputError
from pcsr_cli.images.containers import boxes
from pcsr_cli.images.formats import HEADS
from pcsr_cli.images.image import ImageData, Layout
from pcsr_cli.images.modes import ROUNDED, unsupported_numbers

CODESTREAM = HEADS["JPEG XL"][0]
HEADER_BYTES = 2**14
RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Ratios of width and height. A header may state one of these ratios instead of the width."""

ALPHA, SPOT_COLOUR, COLOUR_FILTER = 0, 2, 5
"""Types of extra channels in a JPEG XL."""

GREY = 1


@dataclass(frozen=True)
class JxlHeader:
    """The header of a JPEG XL file.

    ``layout`` describes the image that the plug-in returns. ``bits`` are the bits of a channel in the file.
    ``extra_channels`` counts the channels that are neither colour nor alpha. ``is_xyb`` is whether the colours are
    stored as XYB, which only lossy encoders do."""

    layout: Layout
    bits: int
    is_animated: bool
    extra_channels: int
    is_xyb: bool


def read_jxl_header(file: BinaryIO) -> JxlHeader:
    """Read the header of a JPEG XL file. Raises ValueError for damage, InputError for floating-point numbers."""
    bits = _Bits(_codestream(file))
    bits.take(8 * len(CODESTREAM))
    height, width = bits.size()
    if bits.flag():  # everything else is the default
        return JxlHeader(Layout(height, width), 8, False, 0, True)
    orientation, is_animated = 1, False
    if bits.flag():
        orientation = 1 + bits.take(3)
        if bits.flag():
            bits.size()
        if bits.flag():
            bits.preview()
        if is_animated := bits.flag():
            bits.animation()
    is_float, depth = bits.depth()
    if is_float:
        raise unsupported_numbers(is_float=True)
    bits.take(1)
    extra = [bits.extra_channel() for _ in range(bits.choose((0, 0), (1, 0), (2, 4), (1, 12)))]
    is_xyb = bits.flag()
    is_grey = not bits.flag() and bits.take(1) in {0, 1} and bits.enum() == GREY
    if orientation > 4:
        height, width = width, height
    alpha = ALPHA in extra
    layout = Layout(height, width, is_grey, alpha, 16 if depth > 8 and is_grey and not alpha else 8)
    return JxlHeader(layout, depth, is_animated, len(extra) - alpha, is_xyb)


def adjust_jxl(image: ImageData, header: JxlHeader) -> ImageData:
    """Scale the pixels from the plug-in to 8 or 16 bits, and add notes on the loss.

    Raises InputError for 9 to 15 bits in colour or with alpha, because the plug-in drops most bits of such numbers."""
    notes = [*image.notes]
    if header.bits not in {8, 16}:
        if header.bits > 8 and image.depth == 8:
            problem = f"JPEG XL with {header.bits} bits a channel is supported in grey only."
            raise InputError(problem, "Convert the image to PNG with djxl, the program of libjxl.")
        table = np.minimum(np.arange(2**image.depth), 2**header.bits - 1) * (2**image.depth - 1) / (2**header.bits - 1)
        image = replace(image, rgb=np.rint(table).astype(image.rgb.dtype)[image.rgb])
    elif header.bits > image.depth:
        notes.append(ROUNDED)
    if header.is_animated:
        notes.append("only the first frame of the animation was used")
    if header.extra_channels:
        notes.append(f"{header.extra_channels} channels beside colour and alpha were dropped")
    return replace(image, notes=tuple(notes))


def _codestream(file: BinaryIO) -> bytes:
    file.seek(0)
    head = file.read(HEADER_BYTES)
    if head.startswith(CODESTREAM):
        return head
    for kind, start, _ in boxes(file):
        if kind in {b"jxlc", b"jxlp"}:
            file.seek(start + (4 if kind == b"jxlp" else 0))
            return file.read(HEADER_BYTES)
    raise ValueError("the codestream is missing")


class _Bits:
    """Reads numbers from a codestream, least significant bit first."""

    def __init__(self, content: bytes) -> None:
        self._bits, self._left = int.from_bytes(content, "little"), 8 * len(content)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("the header ends too early")
        value = self._bits & (1 << count) - 1
        self._bits >>= count
        self._left -= count
        return value

    def flag(self) -> bool:
        return bool(self.take(1))

    def choose(self, *choices: tuple[int, int]) -> int:
        """Read a number that is stored as one of four choices, each an offset and a number of bits to add."""
        offset, count = choices[self.take(2)]
        return offset + self.take(count)

    def enum(self) -> int:
        return self.choose((0, 0), (1, 0), (2, 4), (18, 6))

    def size(self) -> tuple[int, int]:
        """Read the height and the width."""
        if self.flag():
            return self._sides(lambda: 8 * (1 + self.take(5)))
        return self._sides(lambda: self.choose((1, 9), (1, 13), (1, 18), (1, 30)))

    def _sides(self, side: Callable[[], int]) -> tuple[int, int]:
        height, ratio = side(), self.take(3)
        across, down = RATIOS[ratio - 1]
        return height, height * across // down if ratio else side()

    def preview(self) -> None:
        if self.flag():
            self._sides(lambda: self.choose((16, 0), (32, 0), (1, 5), (33, 9)))
        else:
            self._sides(lambda: self.choose((1, 6), (65, 8), (321, 10), (1345, 12)))

    def animation(self) -> None:
        self.choose((100, 0), (1000, 0), (1, 10), (1, 30))
        self.choose((1, 0), (1001, 0), (1, 8), (1, 10))
        self.choose((0, 0), (0, 3), (0, 16), (0, 32))
        self.take(1)

    def depth(self) -> tuple[bool, int]:
        """Read whether the numbers of a channel are floating-point, and how many bits they have."""
        if self.flag():
            bits = self.choose((32, 0), (16, 0), (24, 0), (1, 6))
            self.take(4)
            return True, bits
        return False, self.choose((8, 0), (10, 0), (12, 0), (1, 6))

    def extra_channel(self) -> int:
        """Read the type of an extra channel and skip its description."""
        if self.flag():
            return ALPHA
        kind = self.enum()
        self.depth()
        self.choose((0, 0), (3, 0), (4, 0), (1, 3))
        self.take(8 * self.choose((0, 0), (0, 4), (16, 5), (48, 10)))
        if kind == ALPHA:
            self.take(1)
        elif kind == SPOT_COLOUR:
            self.take(4 * 16)
        elif kind == COLOUR_FILTER:
            self.choose((1, 0), (0, 2), (3, 4), (19, 8))
        return kind
