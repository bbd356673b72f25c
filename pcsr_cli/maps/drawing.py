"""Maps drawn as levels: each pixel of a map tells of the same pixel of the result."""

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.maps.colours import STEPS, TINT, difficulty_colours

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
