"""A target size: the scale at which an image reaches a requested size."""

import math
import re
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from pcsr_cli.errors import UsageError, in_full

LargerPolicy = Literal["skip", "copy", "shrink"]
"""What becomes of an image that already has the requested size or more."""

TYPICAL_SCALE = 2.5
"""The scale for which ``auto`` chooses a model for target sizes. Few sizes need an integer scale."""

INCHES = {"mm": Fraction(10, 254), "cm": Fraction(100, 254), "in": Fraction(1)}
"""Length of the units of a print in inches."""

A_SIZES = ("841x1189", "594x841", "420x594", "297x420", "210x297", "148x210", "105x148")
PAPERS = {f"a{number}": f"{size}mm" for number, size in enumerate(A_SIZES)} | {"letter": "8.5x11in"}


@dataclass(frozen=True)
class Target:
    """The largest size at which a result is within ``width`` and ``height`` and has at most ``pixels`` pixels.

    ``label`` describes the target in file names. A box that ``turns`` is as upright as the image: the first side is for
    the image's longer side."""

    label: str
    width: float = math.inf
    height: float = math.inf
    turns: bool = False
    pixels: float = math.inf

    def scale(self, size: tuple[int, int]) -> float:
        """Return the scale for an image of ``size`` (height, width), for both sides. It may be below 1."""
        height, width = size
        if self.pixels < math.inf:
            long, short = max(size), min(size)
            lengths = range(1, int(self.pixels) + 1)
            return (
                max(1, bisect_right(lengths, self.pixels, key=lambda n: n * max(1, round(short * (n / long))))) / long
            )
        across, down = (self.height, self.width) if self.turns and height > width else (self.width, self.height)
        return min(across / width, down / height)


def make_target(kind: str, value: float | str) -> Target:
    """Return the target of a ``kind``: width, height, long_edge, short_edge, megapixels, or the text of fit or print.

    Raises UsageError."""
    if not isinstance(value, str) and not 1e-6 <= value < math.inf:
        raise UsageError(f"Invalid size {value:g}.", "Use a positive number.", setting=kind)
    label = f"{kind.replace('_', '-')}{value}"
    match value:
        case str():
            return _box(value) if kind == "fit" else _paper(value)
        case _ if kind == "megapixels":
            return Target(f"{in_full(value)}MP", pixels=value * 1e6)
    width = math.inf if kind in {"height", "short_edge"} else value
    return Target(label, width, math.inf if kind == "width" else value, turns=kind == "short_edge")


def _box(text: str) -> Target:
    """Return the target of a box such as 3840x2160. Raises UsageError."""
    match = re.fullmatch(r"([1-9]\d{0,8})x([1-9]\d{0,8})", text.lower())
    if match is None:
        raise UsageError(f"Invalid size {text[:20]!r}.", "Use WIDTHxHEIGHT in pixels, such as 3840x2160.")
    return Target(match[0], int(match[1]), int(match[2]))


def _paper(text: str) -> Target:
    """Return the target of a print such as 60x40cm@300dpi or A4, of paper that may be turned. Raises UsageError."""
    number = r"(\d{1,6}(?:\.\d{1,3})?)"
    paper, at, density = text.lower().replace(" ", "").partition("@")
    size = f"{PAPERS.get(paper, paper)}@{density if at else '300dpi'}"
    match = re.fullmatch(rf"{number}x{number}(mm|cm|in)@([1-9]\d{{0,4}})dpi", size)
    sides = [] if match is None else [int(Fraction(n) * INCHES[match[3]] * int(match[4])) for n in match.groups()[:2]]
    if match is None or 0 in sides:
        raise UsageError(
            f"Invalid print {text[:30]!r}.",
            "Use A0 to A6, letter, or a size such as 60x40cm. @150dpi sets another resolution than 300 dpi.",
        )
    return Target(match[0], max(sides), min(sides), turns=True)
