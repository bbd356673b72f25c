"""Masks that force branches, and maps of the routing, which are written while the rows of the result are computed."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pcsr_cli.engine.grid import nearest_index
from pcsr_cli.engine.routing import Cuts, Decision, Forced
from pcsr_cli.engine.upscale import HrRows
from pcsr_cli.errors import InputError
from pcsr_cli.images.files import atomic_write
from pcsr_cli.images.formats import choose_format
from pcsr_cli.images.image import Layout, Pixels, to_8_bits
from pcsr_cli.images.read import read_image
from pcsr_cli.images.write import open_writer
from pcsr_cli.jobs.request import MapRequest

Size: TypeAlias = tuple[int, int]
"""Height and width."""

Branches: TypeAlias = NDArray[np.uint8]
"""The branch of each pixel, (n, W)."""

PHeavy: TypeAlias = NDArray[np.float32]
"""The probability that each pixel is heavy, or the difficulty with more than two branches, (n, W)."""


def read_forced(
    heavy: Path | None, light: Path | None, lr_size: Size, hr_size: Size, working_size: Size
) -> Forced | None:
    """Read the masks of one image. Returns None without a mask.

    A mask has the size of the image or of its result (``hr_size``). The network computes at ``working_size``. A pixel
    is marked if it is opaque and one of its channels is in the upper half of its range. Raises InputError for a mask
    that cannot be read or has another size, and for pixels that both masks mark."""
    if heavy is None and light is None:
        return None
    light_marks, heavy_marks = (None if path is None else _read_mask(path, lr_size, hr_size) for path in (light, heavy))
    forced = Forced(working_size, light_marks, heavy_marks)
    if count := forced.clashes:
        raise InputError(f"The masks force {count:,} pixels to be both heavy and light.", "Change one of the masks.")
    return forced


def _read_mask(path: Path, lr_size: Size, hr_size: Size) -> Tensor:
    """Read the marked pixels, (h, w) bool."""
    image = read_image(path)
    if image.size not in (lr_size, hr_size):
        found, small, large = (f"{width}x{height}" for height, width in (image.size, lr_size, hr_size))
        raise InputError(
            f"The mask {path} is {found}, but the image is {small} and its result {large}.", "Use one of these sizes."
        )
    half = np.iinfo(image.rgb.dtype).max / 2
    marks = image.rgb.max(axis=2) > half
    if image.alpha is not None:
        marks &= image.alpha > half
    return torch.from_numpy(marks)


class RoutingRows:
    """The routing of a result, recorded while its rows are computed and taken by the writer of a map.

    ``RoutingRows`` holds only the recorded blocks of rows that are not yet taken. ``size`` is the size that the network
    computes at. ``forced`` counts the pixels whose branch a mask chose (light, heavy). ``branch_pixels`` counts all
    recorded pixels. ``cuts`` is empty if the routing has none."""

    def __init__(self, size: Size, branches: int, forced: tuple[int, int] = (0, 0)) -> None:
        self.size = size
        self.forced = forced
        self.branch_pixels = [0] * branches
        self.cuts: tuple[float, ...] = ()
        self._blocks: deque[HrRows] = deque()

    def record(self, rows: Iterable[HrRows], decision: Decision) -> Iterator[HrRows]:
        """Yield the rows of an upscale unchanged, and record their routing."""
        self.cuts = decision.values if isinstance(decision, Cuts) else ()
        for block in rows:
            for branch in range(len(self.branch_pixels)):
                self.branch_pixels[branch] += int(torch.count_nonzero(block.labels == branch))
            self._blocks.append(replace(block, rgb=_NO_COLOURS))
            yield block

    def take(self) -> Iterator[HrRows]:
        """Take the blocks that were recorded since the last call, without colours."""
        while self._blocks:
            yield self._blocks.popleft()


_NO_COLOURS = torch.empty(0)


class _RowFile(Protocol):
    def write(self, rows: Any) -> None: ...


class _NpyFile:
    """Appends rows to a .npy file of float32. A memory map's pages would count as memory of this process."""

    def __init__(self, file: BinaryIO, size: Size) -> None:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": size})
        self._file = file

    def write(self, rows: PHeavy) -> None:
        self._file.write(np.ascontiguousarray(rows, "<f4").data)


@contextmanager
def open_map(request: MapRequest, routing: RoutingRows, layout: Layout) -> Iterator["MapWriter"]:
    """Open a map of a result with this layout. All rows of the result must go through ``MapWriter.tap``.

    The file gets its name only if the block ends without an error. Raises OutputError, RefusedOutputError."""
    height, width = routing.size
    if request.is_npy:
        with atomic_write(request.output, request.replace) as temporary, temporary.open("wb") as numbers:
            yield (writer := MapWriter(request, routing, layout, _NpyFile(numbers, routing.size)))
            writer.finish()
        return
    if request.style == "overlay":
        legend = shares_height(layout.width, len(routing.branch_pixels), any(routing.forced))
        drawn = Layout(layout.height + legend, layout.width)
    elif request.style == "difficulty":
        drawn = Layout(height + len(p_heavy_legend(width, ())), width)
    else:
        drawn = Layout(height, width, grey=True, depth=16 if request.style == "data" else 8)
    with open_writer(request.output, choose_format(request.output), drawn, replace=request.replace) as png:
        yield (writer := MapWriter(request, routing, layout, png))
        writer.finish()


class MapWriter:
    """Draws a map and writes it while the rows of its result are written.

    An overlay has the size of the result. If the network computes at a larger size, each pixel of the overlay shows the
    branch of the nearest computed pixel. Maps in the other styles have the size that the network computes at."""

    def __init__(self, request: MapRequest, routing: RoutingRows, layout: Layout, file: _RowFile) -> None:
        self._request = request
        self._routing = routing
        self._layout = layout
        self._file = file
        self._top = 0  # the next row of the result
        self._labels = np.empty((0, routing.size[1]), np.uint8)  # the branches from row ``_first`` on
        self._first = 0

    def tap(self, rows: Iterable[Pixels]) -> Iterator[Pixels]:
        """Yield the rows of the result, (n, W, 1 to 4), unchanged, after their part of the map was written."""
        for block in rows:
            if self._request.style == "overlay":
                self._write_overlay(block)
            else:
                self._write_routing()
            yield block

    def finish(self) -> None:
        """Write the rest of the map and its legend."""
        routing, width = self._routing, self._layout.width
        if self._request.style == "overlay":
            height = shares_height(width, len(routing.branch_pixels), any(routing.forced))
            self._file.write(shares_legend(width, routing.branch_pixels, routing.forced, height))
            return
        self._write_routing()
        if self._request.style == "difficulty":
            self._file.write(p_heavy_legend(routing.size[1], routing.cuts))

    def _write_routing(self) -> None:
        for block in self._routing.take():
            if self._request.style == "mask":
                self._file.write(as_greys(block.labels.numpy(), len(self._routing.branch_pixels))[..., None])
                continue
            assert block.p_heavy is not None
            p_heavy = block.p_heavy.numpy()
            if self._request.is_npy:
                self._file.write(p_heavy)
            elif self._request.style == "data":
                self._file.write(as_16_bits(p_heavy)[..., None])
            else:
                self._file.write(as_colours(p_heavy))

    def _write_overlay(self, block: Pixels) -> None:
        rgb = to_8_bits(block[..., : 1 if self._layout.grey else 3])
        labels = self._next_labels(len(block))
        self._file.write(tint(np.broadcast_to(rgb, (*labels.shape, 3)), labels, len(self._routing.branch_pixels)))

    def _next_labels(self, count: int) -> Branches:
        """Return the branches of the next ``count`` rows of the result."""
        size, layout = self._routing.size, self._layout
        rows = nearest_index(size[0], layout.height, torch.arange(self._top, self._top + count)).numpy()
        columns = nearest_index(size[1], layout.width, torch.arange(layout.width)).numpy()
        recorded = [block.labels.numpy() for block in self._routing.take()]
        self._labels = np.concatenate([self._labels, *recorded])[rows[0] - self._first :]
        self._first = rows[0]
        self._top += count
        labels: Branches = self._labels[np.ix_(rows - rows[0], columns)]
        return labels


TINT = (255, 106, 0)
"""The colour that marks heavy pixels in an overlay, sRGB."""

STRENGTH = 0.55
"""The share of the tint in the colour of a heavy pixel."""


def tint(rgb: NDArray[np.uint8], labels: Branches, branches: int) -> NDArray[np.uint8]:
    """Tint the pixels (n, W, 3) of all branches but the lightest, the heaviest most."""
    tinted = rgb.copy()
    for branch in range(1, branches):
        inside = labels == branch
        for channel, tone in enumerate(_mix(np.arange(256), STRENGTH * branch / (branches - 1))):
            tinted[inside, channel] = tone[rgb[inside, channel]]
    return tinted


def _mix(values: NDArray[np.int64], strength: float) -> list[NDArray[np.uint8]]:
    """Mix values of 0 to 255 with each channel of the tint."""
    return [np.rint(values * (1 - strength) + tone * strength).astype(np.uint8) for tone in TINT]


def as_greys(labels: Branches, branches: int) -> NDArray[np.uint8]:
    """Draw branches as greys: the lightest black, the heaviest white, the others evenly between."""
    greys: NDArray[np.uint8] = np.rint(np.linspace(0, 255, branches)).astype(np.uint8)[labels]
    return greys


def as_colours(p_heavy: PHeavy) -> NDArray[np.uint8]:
    """Draw p_heavy (n, W) in [0, 1] in the colours of its scale, (n, W, 3)."""
    steps = len(P_HEAVY_COLOURS)
    colours: NDArray[np.uint8] = P_HEAVY_COLOURS[(p_heavy * np.float32(steps)).astype(np.int32).clip(0, steps - 1)]
    return colours


def as_16_bits(p_heavy: PHeavy) -> NDArray[np.uint16]:
    """Round p_heavy in [0, 1] to the nearest of 65,536 values."""
    return np.rint(p_heavy.astype(np.float64) * 65535).clip(0, 65535).astype(np.uint16)


PAPER, INK = (255, 255, 255), (27, 27, 31)
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def _font(width: int) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, int, int]:
    """Return the font of a legend, its size and the spacing, in pixels."""
    size = min(40, max(10, width // 55))
    return ImageFont.load_default(size), size, max(2, size // 2)


def shares_legend(
    width: int, branch_pixels: Sequence[int], forced: tuple[int, int] = (0, 0), height: int = 0
) -> NDArray[np.uint8]:
    """Draw the legend of an overlay: a swatch for each branch and its share of the pixels, (n, ``width``, 3).

    ``forced`` counts the pixels that masks forced to be light and to be heavy. ``height`` is the minimum height of the
    legend."""
    total = sum(branch_pixels)
    light, heavy = (pixels / total for pixels in forced)
    return _draw_shares(width, [pixels / total for pixels in branch_pixels], light, heavy, height)


def shares_height(width: int, branches: int, forced: bool) -> int:
    """Return the height of the tallest legend of shares. The shares are known only after the last row."""
    return len(_draw_shares(width, [1.0] * branches, float(forced), float(forced), 0))


def _draw_shares(width: int, shares: Sequence[float], light: float, heavy: float, height: int) -> NDArray[np.uint8]:
    """Draw swatches with text beside them in as many lines as they need. ``light`` and ``heavy`` are the shares of
    pixels that masks forced to be light and to be heavy."""
    font, size, space = _font(width)
    names = ["light", *(f"branch {branch}" for branch in range(2, len(shares))), "heavy"]
    notes = [f" ({share:.1%} forced)" if share else "" for share in (light, *[0.0] * (len(shares) - 2), heavy)]
    texts = [f"{name} {share:.1%}{note}" for name, share, note in zip(names, shares, notes, strict=True)]
    places: list[tuple[int, int]] = []
    left, top = space, 0
    for text in texts:
        needed = size + space + round(font.getlength(text)) + 2 * space
        if left > space and left + needed > width:
            left, top = space, top + size + space * 2
        places.append((left, top))
        left += needed
    image = Image.new("RGB", (width, max(height, top + size + space * 2)), PAPER)
    pen = ImageDraw.Draw(image)
    for branch, (text, (left, top)) in enumerate(zip(texts, places, strict=True)):
        strength = STRENGTH * branch / (len(shares) - 1)
        colour = tuple(round(200 * (1 - strength) + tone * strength) for tone in TINT)
        pen.rectangle((left, top + space, left + size - 1, top + space + size - 1), fill=colour, outline=INK)
        pen.text((left + size + space, top + space - size // 8), text, fill=INK, font=font)
    return np.asarray(image)


def p_heavy_legend(width: int, cuts: Sequence[float]) -> NDArray[np.uint8]:
    """Draw the colour scale of p_heavy with ticks and a mark for each cut, (n, ``width``, 3)."""
    font, size, space = _font(width)
    image = Image.new("RGB", (width, space + size + size * 3 + space), PAPER)
    pen = ImageDraw.Draw(image)
    margin = min(space, width // 8)
    length = max(1, width - 2 * margin)

    def label(text: str, centre: float, top: int) -> None:
        room = round(font.getlength(text))
        left = min(max(centre - room / 2, margin), max(margin, width - margin - room))
        pen.text((round(left), top), text, fill=INK, font=font)

    scale = P_HEAVY_COLOURS[np.arange(length) * len(P_HEAVY_COLOURS) // length]
    image.paste(Image.fromarray(np.ascontiguousarray(np.broadcast_to(scale, (size, length, 3)))), (margin, space))
    for tick in TICKS if length > 10 * size else (0.0, 1.0):
        label(f"{tick:g}", margin + tick * (length - 1), space + size + size // 4)
    thick = max(1, size // 8)
    for cut in cuts:
        at = margin + min(1.0, max(0.0, cut)) * (length - 1)
        for half, colour in ((thick, PAPER), (thick // 2, INK)):
            pen.rectangle((round(at) - half, space - thick, round(at) + half, space + size + thick), fill=colour)
        label(f"cut {cut:.4f}", at, space + size + size * 3 // 2)
    return np.asarray(image)


P_HEAVY_COLOURS: NDArray[np.uint8] = np.frombuffer(
    bytes.fromhex(
        "12132c13132d14132e1514301614311714321815341815351916361b16381c16391d173a1e173b1f173d20183e21183f221840231841"
        "241943261944271945281a46291a472a1a482c1b492d1b4a2e1b4b301b4c311c4e321c4f331c50351d50361d51371d52391d533a1e54"
        "3b1e553d1e563e1e57401f58411f58421f5944205a45205b47205c48205c4a215d4b215e4c215e4e215f4f2260512260522261542261"
        "5523625723625823635a24635b24645d24645e24656025656125666325666426666626676726676926676a27686c27686d27686f2869"
        "702869722869732969752969762969782a6a792a6a7b2b6a7c2b6a7e2b6a7f2c6a812c6a822c6a842d6a852d6a872e6a882e6a892f6a"
        "8b2f6a8c306a8e306a8f316a91316a9232699432699533699633699834699934699b35689c35689d36689f3768a03768a23867a33867"
        "a43967a63a66a73a66a83b66a93c66ab3d65ac3d65ad3e65af3f64b04064b14064b24163b44263b54362b64462b74462b84561ba4661"
        "bb4760bc4860bd4960be4a5fbf4b5fc04c5ec14d5ec24e5ec44f5dc5505dc6515cc7525cc8535bc9545bca555bcb565acc575acc5859"
        "cd5959ce5a59cf5b58d05c58d15e57d25f57d36057d36156d46256d56456d66555d76655d76755d86854d96a54d96b54da6c54db6d54"
        "db6f53dc7053dd7153dd7353de7453df7553df7653e07853e07953e17a53e17c53e27d53e27e53e38053e38153e48353e48453e48554"
        "e58754e58854e68955e68b55e68c56e78e56e78f57e79057e79258e89358e89559e8965ae8975ae9995be99a5ce99c5de99d5ee99f5f"
        "e9a060eaa161eaa362eaa463eaa664eaa765eaa866eaaa67eaab69eaad6aeaae6bebaf6cebb16eebb26febb471ebb572ebb674ebb875"
        "ebb977ebbb78ebbc7aebbd7cebbf7debc07febc181ebc383ebc484ebc586ebc788ebc88aebc98cebcb8eebcc8febcd91ebcf93ebd095"
        "ebd197ebd299ebd49bebd59debd69febd7a1ebd9a4ebdaa6ebdba8ebdcaaebddacecdfaeece0b0ece1b3ece2b5ece3b7ede4b9ede5bb"
        "ede7beede8c0eee9c2eeeac4"
    ),
    np.uint8,
).reshape(256, 3)
"""The colour scale of p_heavy from 0 to 1, sRGB. Equal steps of the scale look equal (computed in Oklab), and the
lightness rises."""
