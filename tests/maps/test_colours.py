"""The colour scale of difficulty: perceptually uniform, and readable without colour."""

import numpy as np

from pcsr_cli.maps.colours import difficulty_colours, to_oklab, to_srgb


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
    assert np.allclose(to_srgb(to_oklab(colours)), colours, atol=1e-6)
