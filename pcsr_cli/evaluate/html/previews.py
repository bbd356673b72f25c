"""Pictures made small enough to lie within a page: the whole one, scaled down if need be, and a detail as it is."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WHOLE_PIXELS = 2_100_000
"""Results of up to so many pixels are shown pixel for pixel."""

SCALED_PIXELS = 1_400_000
"""Larger ones are scaled down to as many, with a detail of their own pixels beside that."""

DETAIL = 640
"""Side of a detail in HR pixels."""

MOST_BYTES = 2_100_000
"""What a picture may take in all, before base64 makes a third more of it."""

LONGEST_SIDE = 16_000
"""WebP ends a little above."""

QUALITIES = (92, 86, 80, 72, 62, 50, 38)


@dataclass(frozen=True)
class Preview:
    """A rectangle of the result as the page shows it.

    ``left``, ``top``, ``width``, ``height`` are in HR pixels, ``size`` (width, height) is what is embedded. ``layers``
    are WebP pictures by name, ``difficulty`` a lossless one whose red holds levels of ``Boundaries``; both are data
    URIs.
    """

    left: int
    top: int
    width: int
    height: int
    size: tuple[int, int]
    layers: Mapping[str, str]
    difficulty: str

    @property
    def scaled(self) -> bool:
        """Whether it has fewer pixels than what it shows."""
        return self.size != (self.width, self.height)


@dataclass(frozen=True)
class Boundaries:
    """Difficulty as levels of 8 bits: the level of a pixel is how many of ``values`` (ascending) it exceeds.

    The cuts of a curve are among them, so that a level tells exactly which side of each a pixel is on.
    """

    values: tuple[float, ...]

    def levels(self, difficulty: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(H, W) float32 to levels, compared as the engine compares: p_heavy > cut, in float32."""
        return np.searchsorted(np.array(self.values, np.float32), difficulty, side="left").astype(np.uint8)

    def index(self, cut: float) -> int:
        """Which boundary a cut is: a pixel is heavy where its level is above it."""
        return self.values.index(cut)


MOST_BOUNDARIES = 255
FILL = 64
"""Pixels there are at least, for the colours of the map."""


def choose_boundaries(cuts: Sequence[float]) -> Boundaries:
    """All the cuts (at most MOST_BOUNDARIES), and between them enough others for the map's colours."""
    chosen = set(cuts)
    assert len(chosen) <= MOST_BOUNDARIES
    for other in np.linspace(0, 1, FILL + 1).tolist():
        if len(chosen) < MOST_BOUNDARIES and min((abs(other - cut) for cut in chosen), default=1) > 0.5 / FILL:
            chosen.add(other)
    return Boundaries(tuple(sorted(chosen)))


def make_previews(
    layers: Mapping[str, NDArray[np.uint8]],
    difficulty: NDArray[np.float32],
    boundaries: Boundaries,
    interest: NDArray[np.float32],
) -> tuple[Preview, ...]:
    """The whole picture, and where that has to be scaled down a detail, within MOST_BYTES.

    ``layers`` are (H, W, 3) uint8, ``difficulty`` and ``interest`` (H, W); the detail is where there is most interest.
    """
    height, width = difficulty.shape
    regions = [(0, 0, width, height)]
    if height * width > WHOLE_PIXELS:
        regions.append(_most_interesting(interest))
    for shrink in (1.0, 0.7, 0.5, 0.35):
        cut = [_Cutting(layers, difficulty, region, shrink) for region in regions]
        maps = [_webp(part.levels(boundaries), lossless=True) for part in cut]
        for quality in QUALITIES:
            packed = [{name: _webp(rgb, quality) for name, rgb in part.layers.items()} for part in cut]
            total = sum(map(len, maps)) + sum(len(data) for part in packed for data in part.values())
            if total <= MOST_BYTES or (shrink == 0.35 and quality == QUALITIES[-1]):
                return tuple(
                    part.preview({name: _uri(data) for name, data in pictures.items()}, _uri(levels))
                    for part, pictures, levels in zip(cut, packed, maps, strict=True)
                )
    raise AssertionError("the last try is taken whatever its size")


class _Cutting:
    """A region of every layer at the size it is embedded in."""

    def __init__(
        self,
        layers: Mapping[str, NDArray[np.uint8]],
        difficulty: NDArray[np.float32],
        region: tuple[int, int, int, int],
        shrink: float,
    ) -> None:
        left, top, width, height = self.region = region
        most = WHOLE_PIXELS if width * height <= WHOLE_PIXELS else SCALED_PIXELS
        factor = min(1.0, math.sqrt(most / (width * height)), LONGEST_SIDE / max(width, height))
        factor *= shrink if width * height > DETAIL**2 else 1.0
        self.size = (max(1, round(width * factor)), max(1, round(height * factor)))
        inside = (slice(top, top + height), slice(left, left + width))
        self.layers = {name: self._scaled(rgb[inside]) for name, rgb in layers.items()}
        # One real pixel stands for each embedded one: a mean would be no pixel's difficulty.
        rows, columns = (
            (np.arange(short) * 2 + 1) * long // (2 * short)
            for short, long in zip(self.size[::-1], (height, width), strict=True)
        )
        self.difficulty = difficulty[inside][rows[:, None], columns]

    def levels(self, boundaries: Boundaries) -> NDArray[np.uint8]:
        return np.repeat(boundaries.levels(self.difficulty)[..., None], 3, axis=2)

    def preview(self, layers: Mapping[str, str], difficulty: str) -> Preview:
        return Preview(*self.region, self.size, layers, difficulty)

    def _scaled(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.size == rgb.shape[1::-1]:
            return rgb
        return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).resize(self.size, Image.Resampling.LANCZOS))


def _most_interesting(interest: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """The square of at most DETAIL pixels a side with the largest sum, as (left, top, width, height)."""
    height, width = interest.shape
    high, wide = min(DETAIL, height), min(DETAIL, width)
    sums = np.zeros((height + 1, width + 1))
    np.cumsum(np.cumsum(interest, axis=0, dtype=np.float64), axis=1, out=sums[1:, 1:])
    within = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    top, left = np.unravel_index(int(within.argmax()), within.shape)
    return int(left), int(top), wide, high


def _webp(rgb: NDArray[np.uint8], quality: int = 100, lossless: bool = False) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(file, "WEBP", quality=quality, lossless=lossless, method=4)
    return file.getvalue()


def _uri(data: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
