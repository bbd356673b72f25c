"""PSNR: by hand, and by the textbook."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pcsr_cli.errors import InputError
from pcsr_cli.metrics import psnr


def noise(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_equal_pictures_are_infinitely_close() -> None:
    assert psnr(noise(5, 6, 0), noise(5, 6, 0)) == math.inf


def test_black_against_white_is_zero() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black, black + 255) == pytest.approx(0)


@pytest.mark.parametrize("level", [99, 101])
def test_one_level_everywhere_is_48_decibels_either_way(level: int) -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    assert psnr(np.full_like(grey, level), grey) == pytest.approx(20 * math.log10(255))


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_is_the_textbook_formula_in_either_order(height: int, width: int, seed: int) -> None:
    a, b = noise(height, width, seed), noise(height, width, seed + 1)
    error = sum((int(x) - int(y)) ** 2 for x, y in zip(a.flat, b.flat, strict=True)) / a.size
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / error))
    assert psnr(a, b) == psnr(b, a)


def test_shaving_leaves_out_exactly_the_border() -> None:
    truth = noise(12, 15, 5)
    result = truth.copy()
    result[:4] ^= 255
    result[-4:] ^= 255
    result[:, :4] ^= 255
    result[:, -4:] ^= 255
    assert psnr(result, truth, shave=4) == math.inf
    assert psnr(result, truth, shave=3) < 20
    for row, column in ((4, 4), (-5, -5)):
        spoilt = result.copy()
        spoilt[row, column] ^= 255
        assert psnr(spoilt, truth, shave=4) < 30


def test_other_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(5, 6\).*\(6, 5\)"):
        psnr(noise(5, 6, 0), noise(6, 5, 0))


@pytest.mark.parametrize("shave", [2, 3])
def test_a_border_as_wide_as_the_picture_is_refused(shave: int) -> None:
    with pytest.raises(InputError, match="Nothing is left"):
        psnr(noise(4, 9, 0), noise(4, 9, 1), shave=shave)
