"""Maps as files: drawn while the result's rows go by, or once routing is known."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pcsr_cli.engine.grid import nearest_index
from pcsr_cli.engine.routing import Cuts, Forced
from pcsr_cli.engine.upscale import HrRows, Upscaling
from pcsr_cli.errors import InputError, RefusedOutputError, UsageError
from pcsr_cli.images.files import atomic_write
from pcsr_cli.images.formats import choose_format
from pcsr_cli.images.image import Layout, Pixels, to_8_bits
from pcsr_cli.images.read import read_image
from pcsr_cli.images.write import PictureWriter, open_writer


def read_forced(
    heavy: Path | None, light: Path | None, lr_size: tuple[int, int], hr_size: tuple[int, int], painted: tuple[int, int]
) -> Forced | None:
    """The masks for one picture, None without any; sizes are (height, width).

    A mask has the size of the picture or of its result, ``hr_size``; ``painted`` is that at which the network works.
    It marks the pixels that are bright, at least half of full in some channel, and not transparent. Raises InputError
    for a mask that cannot be read or has another size, and for pixels that both masks want.
    """
    if heavy is None and light is None:
        return None
    light_marks, heavy_marks = (None if path is None else _read(path, lr_size, hr_size) for path in (light, heavy))
    forced = Forced(painted, light_marks, heavy_marks)
    if count := forced.clashes:
        raise InputError(
            f"The masks force {count:,} pixels of the result to be both heavy and light.", "Clear one of the two."
        )
    return forced


def _read(path: Path, lr_size: tuple[int, int], hr_size: tuple[int, int]) -> Tensor:
    """(h, w) bool."""
    picture = read_image(path)
    if picture.size not in (lr_size, hr_size):
        raise InputError(
            f"The mask {path} is {_told(picture.size)}, not {_told(lr_size)} like the picture or {_told(hr_size)} "
            "like its result.",
            "Give it one of these sizes.",
        )
    half = np.iinfo(picture.rgb.dtype).max / 2
    marks = picture.rgb.max(axis=2) > half
    if picture.alpha is not None:
        marks &= picture.alpha > half
    return torch.from_numpy(marks)


def _told(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


TINT = (255, 106, 0)
"""What marks a heavy pixel, in sRGB levels."""

STEPS = 256
_FINE = 4096

_TO_CONES = np.array(
    [[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]]
)
_TO_LINEAR_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


@cache
def difficulty_colours() -> NDArray[np.uint8]:
    """The scale from 0 to 1: (256, 3) sRGB levels."""
    path = _path(np.linspace(0, 1, _FINE))
    travelled = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))))
    even = np.linspace(0, travelled[-1], STEPS)
    lab = np.stack([np.interp(even, travelled, axis) for axis in path.T], axis=1)
    return np.rint(oklab_to_srgb(lab) * 255).astype(np.uint8)


def oklab_to_srgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """Oklab (..., 3) to sRGB in [0, 1], clipped to its gamut."""
    linear = ((lab @ _TO_CONES.T) ** 3 @ _TO_LINEAR_RGB.T).clip(0, 1)
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


def _path(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points on the scale's curve, Oklab (n, 3), for positions in [0, 1]; all of them are in sRGB's gamut."""
    lightness = 0.2 + 0.73 * at
    chroma = 0.15 * np.sin(np.pi * (0.08 + 0.84 * at)) ** 0.8
    hue = np.radians(280 + 182 * at)
    return np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)


STRENGTH = 0.55
"""How much of a heavy pixel's colour is the tint."""


def tinted(rgb: NDArray[np.uint8], labels: NDArray[np.uint8], branches: int) -> NDArray[np.uint8]:
    """The result (n, W, 3) with its pixels tinted, the heavier the stronger; light ones stay as they are."""
    marked = rgb.copy()
    for branch in range(1, branches):
        colour = _mixing_table(STRENGTH * branch / (branches - 1))
        inside = labels == branch
        for channel in range(3):
            marked[inside, channel] = colour[channel][rgb[inside, channel]]
    return marked


def mask(labels: NDArray[np.uint8], branches: int) -> NDArray[np.uint8]:
    """Branches (H, W) as greys: the lightest black, the heaviest white, others evenly between."""
    greys = np.rint(np.linspace(0, 255, branches)).astype(np.uint8)
    drawn: NDArray[np.uint8] = greys[labels]
    return drawn


def coloured(difficulty: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Difficulty (H, W) in [0, 1] in the colours of the scale, (H, W, 3)."""
    index = (difficulty * np.float32(STEPS)).astype(np.int32).clip(0, STEPS - 1)
    drawn: NDArray[np.uint8] = difficulty_colours()[index]
    return drawn


def as_16_bit(difficulty: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Difficulty in [0, 1] as levels of 16 bits, the nearest."""
    return np.rint(difficulty.astype(np.float64) * 65535).clip(0, 65535).astype(np.uint16)


def _mixing_table(strength: float) -> list[NDArray[np.uint8]]:
    """For each channel, what becomes of each level under the tint."""
    levels = np.arange(256)
    return [np.rint(levels * (1 - strength) + tone * strength).astype(np.uint8) for tone in TINT]


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


Style = Literal["overlay", "mask", "difficulty", "data"]
BAND = 256
"""Rows drawn at once."""


@dataclass(frozen=True)
class MapRequest:
    """Where a map goes, and what it shows: the result tinted, branches, p_heavy in colours or as data; whether what is
    there may be replaced."""

    output: Path
    style: Style
    replace: bool = False


def request_map(output: Path, style: Style | None, replace: bool = False) -> MapRequest:
    """The map asked for; by default an overlay, and of a .npy the numbers. Raises RefusedOutputError, UsageError."""
    suffix = output.suffix.lower()
    if suffix == ".npy":
        if style not in {None, "data"}:
            raise UsageError(
                f"A .npy file holds p_heavy as numbers, not the style {style}.", "Write a .png, or leave it out."
            )
        return MapRequest(output, "data", replace)
    if suffix != ".png":
        raise RefusedOutputError(
            f"A map is not written as {output.name!r}.", "Use .png, or .npy for p_heavy as numbers."
        )
    return MapRequest(output, style or "overlay", replace)


class RoutingMap:
    """The difficulty (H, W) float32 and the branch (H, W) uint8 of every pixel of a result, on the CPU.

    ``forced`` counts the pixels forced light and those forced heavy; ``cuts`` are empty where branches were chosen by
    their cost."""

    def __init__(self, height: int, width: int, branches: int = 2, forced: tuple[int, int] = (0, 0)) -> None:
        self.branches = branches
        self.forced = forced
        self.cuts: tuple[float, ...] = ()
        self.difficulty = torch.empty(height, width, dtype=torch.float32)
        self.labels = torch.empty(height, width, dtype=torch.uint8)

    @property
    def branch_pixels(self) -> tuple[int, ...]:
        """How many pixels each branch got."""
        return tuple(int((self.labels == branch).sum()) for branch in range(self.branches))

    def record(self, upscaling: Upscaling) -> Iterator[HrRows]:
        """The same rows; how they were routed is noted."""
        if isinstance(upscaling.decision, Cuts):
            self.cuts = upscaling.decision.values
        top = 0
        for rows in upscaling:
            assert rows.p_heavy is not None
            part = slice(top, top := top + len(rows.labels))
            self.difficulty[part], self.labels[part] = rows.p_heavy, rows.labels
            yield rows


class MapDrawing:
    """A map in the making: takes the rows of the result as they are written."""

    def __init__(self, request: MapRequest, routed: RoutingMap, layout: Layout) -> None:
        self.request = request
        self.routed = routed
        self.layout = layout
        self.writer: PictureWriter | None = None
        self.done = 0

    def write(self, rows: Pixels) -> None:
        """The next rows of the result, (n, W, 1 to 4), of which an overlay shows the colours."""
        if self.request.style != "overlay":
            return
        assert self.writer is not None
        labels = self._labels(self.done, self.done + len(rows))
        self.done += len(rows)
        colour = to_8_bits(rows[..., : 1 if self.layout.grey else 3])
        if self.layout.grey:
            colour = np.repeat(colour, 3, axis=2)
        self.writer.write(tinted(colour, labels, self.routed.branches))

    def tap(self, rows: Iterable[Pixels]) -> Iterator[Pixels]:
        """The same rows, after they were drawn."""
        for block in rows:
            self.write(block)
            yield block

    def _labels(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Branches of some rows of the result; of a reduced one, those of the nearest pixels that were routed."""
        labels = self.routed.labels
        size = (self.layout.height, self.layout.width)
        if tuple(labels.shape) == size:
            return labels[start:stop].numpy()
        rows = nearest_index(labels.shape[0], size[0], torch.arange(start, stop))
        columns = nearest_index(labels.shape[1], size[1], torch.arange(size[1]))
        return labels[rows[:, None], columns].numpy()


@contextmanager
def open_map(request: MapRequest, routed: RoutingMap, layout: Layout) -> Iterator[MapDrawing]:
    """A map of a result of this layout, which takes its rows; written whole when the block ends well, else not at all.

    ``routed`` has to be complete by then, and of each row before it comes. Raises OutputError, RefusedOutputError.
    """
    drawing = MapDrawing(request, routed, layout)
    height, width = routed.labels.shape
    if request.output.suffix.lower() == ".npy":
        yield drawing
        _save_numbers(request, routed)
        return
    if request.style == "overlay":
        room = shares_height(layout.width, routed.branches, any(routed.forced))
        with _png(request, Layout(layout.height + room, layout.width)) as drawing.writer:
            yield drawing
            drawing.writer.write(shares_legend(layout.width, routed.branch_pixels, routed.forced, room))
        return
    yield drawing
    difficulty, labels = routed.difficulty.numpy(), routed.labels.numpy()
    if request.style == "mask":
        _draw(request, Layout(height, width, grey=True), lambda part: mask(labels[part], routed.branches)[..., None])
    elif request.style == "data":
        _draw(request, Layout(height, width, True, depth=16), lambda part: as_16_bit(difficulty[part])[..., None])
    else:
        legend = difficulty_legend(width, routed.cuts)
        _draw(request, Layout(height + len(legend), width), lambda part: coloured(difficulty[part]), height, legend)


@contextmanager
def _png(request: MapRequest, layout: Layout) -> Iterator[PictureWriter]:
    with open_writer(request.output, choose_format(request.output), layout, replace=request.replace) as writer:
        yield writer


def _draw(
    request: MapRequest,
    layout: Layout,
    draw: Callable[[slice], Pixels],
    height: int | None = None,
    legend: NDArray[np.uint8] | None = None,
) -> None:
    """Write a map band by band, its legend below."""
    rows = layout.height if height is None else height
    with _png(request, layout) as writer:
        for top in range(0, rows, BAND):
            writer.write(draw(slice(top, min(top + BAND, rows))))
        if legend is not None:
            writer.write(legend)


def _save_numbers(request: MapRequest, routed: RoutingMap) -> None:
    with atomic_write(request.output, request.replace) as temporary, temporary.open("wb") as file:
        np.save(file, routed.difficulty.numpy())
