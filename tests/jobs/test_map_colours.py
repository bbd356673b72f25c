"""The colour scale of difficulty: perceptually uniform, and readable without colour."""

import numpy as np

from pcsr_cli.jobs.maps import difficulty_colours, oklab_to_srgb

TO_LMS = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_LAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]
"""From linear sRGB to Oklab, as Ottosson (2020) gives it."""


def to_oklab(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] (..., 3) to Oklab."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ np.transpose(TO_LMS)) @ np.transpose(TO_LAB))


def scale() -> np.ndarray:
    return to_oklab(difficulty_colours() / 255)


def test_equal_differences_look_equal() -> None:
    # Over strides of 15 steps, so that rounding to levels does not count.
    steps = np.linalg.norm(np.diff(scale()[::15], axis=0), axis=1)
    assert steps.max() / steps.min() < 1.12


def test_lightness_rises_all_the_way() -> None:
    lightness = scale()[:, 0]
    assert (np.diff(lightness) > -0.002).all() and (np.diff(lightness[::4]) > 0).all()
    assert lightness[0] < 0.25 and lightness[-1] > 0.9


def test_no_two_colours_are_the_same() -> None:
    assert len(np.unique(difficulty_colours(), axis=0)) == 256


def test_oklab_knows_white_and_the_way_back() -> None:
    assert np.allclose(to_oklab(np.ones(3)), [1, 0, 0], atol=1e-6)
    colours = np.random.default_rng(0).random((50, 3))
    assert np.allclose(oklab_to_srgb(to_oklab(colours)), colours, atol=1e-4)
