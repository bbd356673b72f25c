"""PSNR and SSIM: by hand, by the textbook, and as scikit-image has them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pcsr_cli.errors import InputError
from pcsr_cli.evaluate.metrics import luma, psnr, ssim
from tests.failing import fails


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
    with fails(InputError, "Pictures of (5, 6) and (6, 5) (rows, columns) cannot be compared."):
        psnr(noise(5, 6, 0), noise(6, 5, 0))


@pytest.mark.parametrize("shave", [2, 3])
def test_a_border_as_wide_as_the_picture_is_refused(shave: int) -> None:
    with fails(InputError, f"Nothing is left of a picture of (4, 9) inside a border of {shave} pixels."):
        psnr(noise(4, 9, 0), noise(4, 9, 1), shave=shave)


def luma_noise(height: int, width: int, seed: int) -> NDArray[np.float32]:
    return luma(noise(height, width, seed))


def test_luma_is_the_textbooks() -> None:
    colours = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0]]], np.uint8)
    assert luma(colours)[0] == pytest.approx([235, 16, 81.481], abs=1e-4)


@pytest.mark.parametrize("size", [(11, 11), (12, 75), (43, 42), (75, 31), (64, 200)])
@pytest.mark.parametrize("sigma", [1, 20])
def test_ssim_is_scikit_images(size: tuple[int, int], sigma: float) -> None:
    skimage = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    truth = luma_noise(*size, 3)
    result = np.clip(truth + rng.normal(0, sigma, size), 0, 255).astype(np.float32)
    expected = skimage.structural_similarity(
        result.astype(float),
        truth.astype(float),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert ssim(result, truth) == pytest.approx(expected, abs=1e-5)
    if min(size) > 15:
        assert ssim(result, truth, 2) == pytest.approx(ssim(result[2:-2, 2:-2], truth[2:-2, 2:-2]), abs=1e-9)


def test_ssim_at_its_edges() -> None:
    grey, white = np.full((20, 20), 100, np.float32), np.full((20, 20), 235, np.float32)
    assert ssim(grey, grey) == pytest.approx(1)
    # Without variance only the means count.
    c1 = (0.01 * 255) ** 2
    assert ssim(grey, white) == pytest.approx((2 * 100 * 235 + c1) / (100**2 + 235**2 + c1), abs=1e-4)
    assert math.isnan(ssim(grey[:10], white[:10]))
    assert math.isnan(ssim(grey, white, shave=5))
    with fails(InputError, f"Nothing is left of a picture of {grey.shape} inside a border of 10 pixels."):
        ssim(grey, white, shave=10)


def test_psnr_of_luma_and_of_constants() -> None:
    a, b = luma(noise(6, 7, 0)), luma(noise(6, 7, 1))
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))
    assert psnr(np.full((9, 9), 10, np.float32), np.full((9, 9), 30, np.float32)) == pytest.approx(
        20 * math.log10(255 / 20)
    )
