"""Previews of an image for the page: the whole image, scaled down if necessary, and a detail at full size."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pcsr_cli.evaluate.arguments import MAX_BOUNDARIES
from pcsr_cli.images.resize import resize_lanczos_8bit

MAX_PIXELS = 2_100_000
"""Maximum pixels of a result that is shown at full size."""

SCALED_PIXELS = 1_400_000
"""Number of pixels to which a larger result is scaled down. A detail at full size is added."""

DETAIL = 640
"""Side of the detail in HR pixels."""

MAX_BYTES = 2_100_000
"""Maximum bytes of all previews of an image. base64 adds a third."""

MAX_SIDE = 16_000
"""Maximum side of a preview in pixels. WebP allows slightly larger sides."""

QUALITIES = (92, 86, 80, 72, 62, 50, 38)

MIN_COLOURS = 64
"""The map of difficulty has at least about this many colours, even if the curve has few cuts."""


@dataclass(frozen=True)
class Preview:
    """A rectangle of the result as the page shows it.

    ``left``, ``top``, ``width`` and ``height`` are in HR pixels, ``size`` is the embedded (width, height). ``layers``
    maps names to WebP images. ``difficulty`` is a lossless WebP image whose red channel has the levels of
    ``to_levels``, None for pictures without a map. All images are data URIs."""

    left: int
    top: int
    width: int
    height: int
    size: tuple[int, int]
    layers: Mapping[str, str]
    difficulty: str | None

    @property
    def scaled(self) -> bool:
        """Whether the preview has fewer pixels than the rectangle."""
        return self.size != (self.width, self.height)


def to_levels(difficulty: NDArray[np.float32], boundaries: Sequence[float]) -> NDArray[np.uint8]:
    """Convert difficulty (H, W) to 8-bit levels: the number of ascending ``boundaries`` that a pixel exceeds.

    The cuts of the curve are among the boundaries, so a level shows exactly on which side of each cut a pixel is: a
    pixel is heavy if its level is above the index of the cut. The comparison is the engine's, p_heavy > cut in float32.
    """
    return np.searchsorted(np.array(boundaries, np.float32), difficulty, side="left").astype(np.uint8)


def choose_boundaries(cuts: Sequence[float]) -> tuple[float, ...]:
    """Return all cuts (at most MAX_BOUNDARIES) and, between them, more values for the colours of the map."""
    chosen = set(cuts)
    assert len(chosen) <= MAX_BOUNDARIES
    for value in np.linspace(0, 1, MIN_COLOURS + 1).tolist():
        distance = min((abs(value - cut) for cut in chosen), default=1)
        if len(chosen) < MAX_BOUNDARIES and distance > 0.5 / MIN_COLOURS:
            chosen.add(value)
    return tuple(sorted(chosen))


def make_previews(
    layers: Mapping[str, NDArray[np.uint8]],
    interest: NDArray[np.float32],
    levels: NDArray[np.uint8] | None = None,
    room: float = 1.0,
) -> tuple[Preview, ...]:
    """Return a preview of the whole image. If this preview is scaled down, also return a preview of a detail. The
    previews are compressed until all of them fit in MAX_BYTES, as far as possible.

    ``layers`` are (H, W, 3) uint8, ``interest`` and the ``levels`` of difficulty (H, W). The detail is the square with
    the largest sum of ``interest``. ``room`` multiplies the limits on pixels and bytes."""
    height, width = interest.shape
    regions = [(0, 0, width, height)]
    if height * width > MAX_PIXELS * room:
        high, wide = min(DETAIL, height), min(DETAIL, width)
        top, left = largest_sum(interest, high, wide)
        regions.append((left, top, wide, high))
    for shrink in (1.0, 0.7, 0.5, 0.35):
        sizes = [_embedded_size(width, height, shrink, room) for _, _, width, height in regions]
        crops = [_crop(layers, *each) for each in zip(regions, sizes, strict=True)]
        maps = [_map(levels, *each) for each in zip(regions, sizes, strict=True)]
        for quality in QUALITIES:
            packed = [{name: _webp(rgb, quality) for name, rgb in images.items()} for images in crops]
            total = sum(map(len, maps)) + sum(len(data) for images in packed for data in images.values())
            if total <= MAX_BYTES * room or (shrink == 0.35 and quality == QUALITIES[-1]):
                return tuple(
                    Preview(
                        *region,
                        size,
                        {name: _uri(data) for name, data in images.items()},
                        _uri(drawn) if drawn else None,
                    )
                    for region, size, images, drawn in zip(regions, sizes, packed, maps, strict=True)
                )
    raise AssertionError("the last attempt is accepted at any size")


def _embedded_size(width: int, height: int, shrink: float, room: float) -> tuple[int, int]:
    """Return the (width, height) at which a region is embedded. ``shrink`` has no effect on regions up to DETAIL."""
    pixels = room * (MAX_PIXELS if width * height <= MAX_PIXELS * room else SCALED_PIXELS)
    factor = min(1.0, math.sqrt(pixels / (width * height)), MAX_SIDE / max(width, height))
    factor *= shrink if width * height > DETAIL**2 else 1.0
    return max(1, round(width * factor)), max(1, round(height * factor))


def _crop(
    layers: Mapping[str, NDArray[np.uint8]], region: tuple[int, int, int, int], size: tuple[int, int]
) -> dict[str, NDArray[np.uint8]]:
    left, top, width, height = region
    inside = (slice(top, top + height), slice(left, left + width))
    images = {name: np.ascontiguousarray(rgb[inside]) for name, rgb in layers.items()}
    if size != (width, height):
        images = {name: resize_lanczos_8bit(rgb, size[1], size[0]) for name, rgb in images.items()}
    return images


def _map(levels: NDArray[np.uint8] | None, region: tuple[int, int, int, int], size: tuple[int, int]) -> bytes:
    """Return the levels of a region at ``size``; empty without levels.

    Levels are sampled, not averaged: a mean is not the difficulty of any pixel."""
    if levels is None:
        return b""
    left, top, width, height = region
    rows, columns = (
        first + (np.arange(short) * 2 + 1) * long // (2 * short)
        for first, short, long in ((top, size[1], height), (left, size[0], width))
    )
    return _webp(np.repeat(levels[np.ix_(rows, columns)][..., None], 3, axis=2), lossless=True)


def largest_sum(values: NDArray[np.float32], height: int, width: int) -> tuple[int, int]:
    """Return the row and column of the window of ``values`` (H, W) that has the largest sum."""
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    windows = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    row, column = np.unravel_index(int(windows.argmax()), windows.shape)
    return int(row), int(column)


def _webp(rgb: NDArray[np.uint8], quality: int = 100, lossless: bool = False) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "WEBP", quality=quality, lossless=lossless, method=4)
    return file.getvalue()


def _uri(data: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
