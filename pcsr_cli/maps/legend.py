"""The strip below a map that says what its colours mean; the map itself is left as it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pcsr_cli.maps.colours import STEPS, TINT, difficulty_colours
from pcsr_cli.maps.drawing import STRENGTH

PAPER, INK = (255, 255, 255), (27, 27, 31)
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class _Type:
    """The type of a legend: its font, the height of its letters and the space between things, in pixels."""

    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    size: int

    @property
    def space(self) -> int:
        return max(2, self.size // 2)

    def width(self, text: str) -> int:
        return round(self.font.getlength(text))


def shares_legend(
    width: int, branch_pixels: Sequence[int], forced: tuple[int, int] = (0, 0), height: int = 0
) -> NDArray[np.uint8]:
    """What an overlay shows: a swatch a branch with its share of the pixels; (n, ``width``, 3) uint8.

    ``forced`` are the pixels forced light and heavy, told where there are any; ``height`` is the least there is to be.
    """
    total = sum(branch_pixels)
    shares = [count / total for count in branch_pixels]
    light, heavy = (count / total for count in forced)
    return _draw_entries(width, _entries(shares, light, heavy), height)


def shares_height(width: int, branches: int, forced: bool) -> int:
    """Rows that a legend of shares needs at most, whatever they will be."""
    whole = 1.0 if forced else 0.0
    return len(_draw_entries(width, _entries([1.0] * branches, whole, whole), 0))


def difficulty_legend(width: int, cuts: Sequence[float]) -> NDArray[np.uint8]:
    """The scale of difficulty from 0 to 1 with ticks, and the cuts that were made marked below it."""
    kind = _type_for(width)
    space, bar = kind.space, max(4, kind.size)
    height = space + bar + kind.size * 3 + space
    image = Image.new("RGB", (width, height), PAPER)
    left, right = min(space, width // 8), width - min(space, width // 8)
    long = max(1, right - left)
    index = (np.arange(long) * STEPS // long).clip(0, STEPS - 1)
    scale = np.broadcast_to(difficulty_colours()[index], (bar, long, 3))
    image.paste(Image.fromarray(np.ascontiguousarray(scale)), (left, space))
    pen = ImageDraw.Draw(image)
    shown = [tick for tick in TICKS if long > 10 * kind.size or tick in {0.0, 1.0}]
    for tick in shown:
        _label(pen, kind, f"{tick:g}", left + tick * (long - 1), space + bar + kind.size // 4, (left, right))
    for cut in cuts:
        at = left + min(1.0, max(0.0, cut)) * (long - 1)
        thick = max(1, kind.size // 8)
        pen.rectangle((round(at) - thick, space - thick, round(at) + thick, space + bar + thick), fill=PAPER)
        pen.rectangle((round(at) - thick // 2, space - thick, round(at) + thick // 2, space + bar + thick), fill=INK)
        _label(pen, kind, f"cut {cut:.4f}", at, space + bar + kind.size * 3 // 2, (left, right))
    return np.asarray(image)


def _entries(shares: Sequence[float], light: float, heavy: float) -> list[tuple[tuple[int, int, int], str]]:
    """Each branch's colour and what is said of it; ``light`` and ``heavy`` are shares that were forced."""
    heaviest = len(shares) - 1
    entries = []
    for branch, share in enumerate(shares):
        name = "light" if not branch else "heavy" if branch == heaviest else f"branch {branch + 1}"
        forced = light if not branch else heavy if branch == heaviest else 0.0
        told = f" ({forced:.1%} forced)" if forced else ""
        entries.append((_swatch(branch / heaviest), f"{name} {share:.1%}{told}"))
    return entries


def _swatch(weight: float) -> tuple[int, int, int]:
    strength = STRENGTH * weight
    red, green, blue = (round(200 * (1 - strength) + tone * strength) for tone in TINT)
    return red, green, blue


def _type_for(width: int) -> _Type:
    size = min(40, max(10, width // 55))
    return _Type(ImageFont.load_default(size), size)


def _label(
    pen: ImageDraw.ImageDraw, kind: _Type, text: str, centre: float, top: float, inside: tuple[int, int]
) -> None:
    """Text about a place, moved inward at the ends."""
    width = kind.width(text)
    left = min(max(centre - width / 2, inside[0]), max(inside[0], inside[1] - width))
    pen.text((round(left), round(top)), text, fill=INK, font=kind.font)


def _draw_entries(width: int, entries: Sequence[tuple[tuple[int, int, int], str]], height: int) -> NDArray[np.uint8]:
    """Swatches with text beside them, in as many lines as they need."""
    kind = _type_for(width)
    space, size = kind.space, kind.size
    line = size + space * 2
    places: list[tuple[int, int]] = []
    left, top = space, 0
    for _, text in entries:
        wanted = size + space + kind.width(text) + 2 * space
        if left > space and left + wanted > width:
            left, top = space, top + line
        places.append((left, top))
        left += wanted
    image = Image.new("RGB", (width, max(height, top + line)), PAPER)
    pen = ImageDraw.Draw(image)
    for (colour, text), (left, top) in zip(entries, places, strict=True):
        pen.rectangle((left, top + space, left + size - 1, top + space + size - 1), fill=colour, outline=INK)
        pen.text((left + size + space, top + space - size // 8), text, fill=INK, font=kind.font)
    return np.asarray(image)
