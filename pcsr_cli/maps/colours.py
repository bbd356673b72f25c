"""The colours of maps: a perceptually uniform scale for p_heavy, and a tint for heavy pixels.

The scale is a curve through Oklab (Ottosson 2020): lightness rises evenly from dark to light while the hue turns from
violet over red to yellow, and steps are of equal length, so that equal differences look equal.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

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
