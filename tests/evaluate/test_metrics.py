"""PSNR and SSIM against closed forms, the textbook formulas and scikit-image."""

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


@pytest.mark.parametrize(
    ("one", "other", "decibels"), [(7, 7, math.inf), (0, 255, 0), (99, 100, 48.1308), (101, 100, 48.1308)]
)
def test_the_psnr_of_flat_images(one: int, other: int, decibels: float) -> None:
    a, b = (np.full((4, 4, 3), level, np.uint8) for level in (one, other))
    assert psnr(a, b) == pytest.approx(decibels, abs=1e-4)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_psnr_is_the_textbook_formula_and_symmetric(height: int, width: int, seed: int) -> None:
    a, b = noise(height, width, seed), noise(height, width, seed + 1)
    error = sum((int(x) - int(y)) ** 2 for x, y in zip(a.flat, b.flat, strict=True)) / a.size
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / error))
    assert psnr(a, b) == psnr(b, a)


def test_shave_ignores_exactly_the_border() -> None:
    truth = noise(12, 15, 5)
    result = truth.copy()
    result ^= 255
    result[4:-4, 4:-4] = truth[4:-4, 4:-4]
    assert psnr(result, truth, shave=4) == math.inf
    assert psnr(result, truth, shave=3) < 20
    for row, column in ((4, 4), (-5, -5)):
        changed = result.copy()
        changed[row, column] ^= 255
        assert psnr(changed, truth, shave=4) < 30


def test_different_sizes_are_refused() -> None:
    with fails(InputError, "Cannot compare an image of 6x5 with 5x6 pixels."):
        psnr(noise(5, 6, 0), noise(6, 5, 0))


@pytest.mark.parametrize("shave", [2, 3])
def test_a_border_that_covers_the_image_is_refused(shave: int) -> None:
    with fails(InputError, f"An image of 9x4 pixels is empty without its border of {shave} pixels."):
        psnr(noise(4, 9, 0), noise(4, 9, 1), shave=shave)
    with fails(InputError, f"An image of 9x4 pixels is empty without its border of {shave} pixels."):
        ssim(luma(noise(4, 9, 0)), luma(noise(4, 9, 1)), shave=shave)


def test_luma_is_bt_601() -> None:
    colours = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0]]], np.uint8)
    assert luma(colours)[0] == pytest.approx([235, 16, 81.481], abs=1e-4)


@pytest.mark.parametrize("size", [(11, 11), (12, 75), (43, 42), (75, 31), (64, 200), (150, 90)])
@pytest.mark.parametrize("sigma", [1, 20])
def test_ssim_agrees_with_scikit_image(size: tuple[int, int], sigma: float) -> None:
    skimage = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    truth = luma(noise(*size, 3))
    result = np.clip(truth + rng.normal(0, sigma, size), 0, 255).astype(np.float32)
    expected = skimage.structural_similarity(
        result.astype(float),
        truth.astype(float),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert ssim(result, truth) == pytest.approx(expected, abs=1e-6)
    if min(size) > 15:
        assert ssim(result, truth, 2) == pytest.approx(ssim(result[2:-2, 2:-2], truth[2:-2, 2:-2]), abs=1e-9)


def test_ssim_accepts_constant_and_small_images() -> None:
    grey, white = np.full((20, 20), 100, np.float32), np.full((20, 20), 235, np.float32)
    assert ssim(grey, grey) == pytest.approx(1)
    # Without variance only the means count.
    c1 = (0.01 * 255) ** 2
    assert ssim(grey, white) == pytest.approx((2 * 100 * 235 + c1) / (100**2 + 235**2 + c1), abs=1e-4)
    for small in ((10, 20), (20, 10), (10, 10)):
        assert math.isnan(ssim(np.zeros(small, np.float32), np.zeros(small, np.float32)))
    assert math.isnan(ssim(grey, white, shave=5))


def test_psnr_accepts_luma() -> None:
    a, b = luma(noise(6, 7, 0)), luma(noise(6, 7, 1))
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))
    assert psnr(np.full((9, 9), 10, np.float32), np.full((9, 9), 30, np.float32)) == pytest.approx(
        20 * math.log10(255 / 20)
    )
