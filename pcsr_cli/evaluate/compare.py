"""The work of ``pcsr compare``: pictures of one subject at one size, for the page or on a contact sheet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pcsr_cli.errors import InputError
from pcsr_cli.evaluate.html.previews import largest_sum
from pcsr_cli.images.image import ImageData, flatten, to_8_bits
from pcsr_cli.images.modes import to_pil, to_srgb
from pcsr_cli.images.resize import resize_lanczos_8bit

BACKGROUND = (128, 128, 128)
"""The colour behind transparent pixels. Black and white lettering are both visible on it."""

CELL, GAP, STRIP, COLUMNS = 640, 12, 28, 4
"""The largest side of a picture on a sheet, the space between pictures, the height of a label, and the largest number
of pictures in a row."""

MIN_CELL = 200
"""The smallest width of a label."""

PAPER, INK = (255, 255, 255), (27, 27, 31)


@dataclass(frozen=True)
class Picture:
    """A picture to compare: ``rgb`` (H, W, 3) uint8 in sRGB. ``fact`` states its own size and its origin."""

    label: str
    rgb: NDArray[np.uint8]
    fact: str


def common_size(sizes: Sequence[tuple[str, tuple[int, int]]]) -> tuple[int, int]:
    """Return the (height, width) of the largest of several pictures, each given by its name and size.

    The shapes of all pictures must be equal, up to one pixel of the smaller picture. Raises InputError."""
    largest, (height, width) = max(sizes, key=lambda each: each[1][0] * each[1][1])
    for name, (high, wide) in sizes:
        if abs(high * width - wide * height) > max(height, width):
            raise InputError(
                f"{name} is {wide}x{high} and {largest} is {width}x{height}, which is another shape.",
                "Compare pictures of one subject, and crop them to one shape.",
            )
    return height, width


def align(images: Sequence[tuple[str, ImageData, str]]) -> tuple[Picture, ...]:
    """Return pictures of one size. Each image has a label and a text about its origin, which may be empty.

    Smaller pictures are enlarged by Lanczos. Profiles are converted to sRGB, 16 bits are rounded to 8, and transparent
    pixels are shown on BACKGROUND. Raises the errors of ``common_size``."""
    height, width = common_size([(label, image.size) for label, image, _ in images])
    pictures = []
    for label, image, origin in images:
        rgb, facts = _to_rgb(image), [f"{image.size[1]}×{image.size[0]}", origin]
        if image.size != (height, width):
            rgb, label = resize_lanczos_8bit(rgb, height, width), f"{label}, Lanczos"
            facts.append(f"enlarged by Lanczos to {width}×{height}")
        if image.alpha is not None:
            facts.append("transparent pixels on grey")
        pictures.append(Picture(label, rgb, ", ".join(filter(None, facts))))
    return tuple(pictures)


def _to_rgb(image: ImageData) -> NDArray[np.uint8]:
    flat = flatten(image, BACKGROUND)
    picture = to_pil(replace(flat, rgb=to_8_bits(flat.rgb)))
    icc = flat.metadata.icc
    converted = None if icc is None else to_srgb(picture, icc)
    return np.asarray((converted or picture).convert("RGB"))


def differences(pictures: Iterable[Picture]) -> NDArray[np.float32]:
    """Return how much the brightness of each pixel differs between the pictures, (H, W)."""
    greys = [picture.rgb.mean(axis=2, dtype=np.float32) for picture in pictures]
    found: NDArray[np.float32] = np.ptp(greys, axis=0)
    return found


def draw_sheet(pictures: Sequence[Picture]) -> NDArray[np.uint8]:
    """Draw pictures of one size side by side, each below its label, (H, W, 3).

    A picture larger than CELL is reduced. Below the reduced picture is the detail in which the pictures differ most, at
    full size."""
    height, width = pictures[0].rgb.shape[:2]
    large = max(height, width)
    detail = None
    if large > CELL:
        high, wide = min(CELL, height), min(CELL, width)
        top, left = largest_sum(differences(pictures), high, wide)
        detail = (slice(top, top + high), slice(left, left + wide))
    cells = [[_fit(picture.rgb, large)] + ([] if detail is None else [picture.rgb[detail]]) for picture in pictures]
    cell_width = max(MIN_CELL, *(part.shape[1] for part in cells[0]))
    cell_height = STRIP + sum(part.shape[0] + GAP for part in cells[0])
    rows = -(-len(pictures) // COLUMNS)
    columns = -(-len(pictures) // rows)
    sheet = Image.new("RGB", (columns * (cell_width + GAP) + GAP, rows * cell_height + GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for number, (picture, parts) in enumerate(zip(pictures, cells, strict=True)):
        x, y = GAP + number % columns * (cell_width + GAP), number // columns * cell_height
        pen.text((x, y + 6), _shorten(picture.label, font, cell_width), fill=INK, font=font)
        y += STRIP
        for part in parts:
            sheet.paste(Image.fromarray(part), (x, y))
            y += part.shape[0] + GAP
    return np.asarray(sheet)


def _fit(rgb: NDArray[np.uint8], large: int) -> NDArray[np.uint8]:
    """Reduce a picture whose larger side is ``large`` to CELL, or repeat the pixels of a small one."""
    if large > CELL:
        return resize_lanczos_8bit(rgb, *(max(1, round(side * CELL / large)) for side in rgb.shape[:2]))
    return rgb.repeat(CELL // large, axis=0).repeat(CELL // large, axis=1)


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    shown = text
    while len(text) > 1 and font.getlength(shown) > room:
        text = text[:-1]
        shown = f"{text}..."
    return shown
