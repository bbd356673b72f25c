"""Images in memory: channels, depth, and the colours under transparent pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pcsr_cli.images import image as image_module
from pcsr_cli.images.image import ImageData, Layout, Pixels, fill_transparent, to_8_bits
from pcsr_cli.images.resize import resize_bicubic
from tests.images import deep_levels, levels


def test_channels_and_depth_are_those_of_the_file() -> None:
    assert ImageData(deep_levels()).depth == 16
    assert ImageData(deep_levels()).layout.row_bytes == 8 * 3 * 2
    rgb, alpha = levels(5, 6), levels(5, 6, 1)[..., 0]
    for grey in (False, True):
        for clear in (None, alpha):
            image = ImageData(rgb, clear, grey)
            assert image.channels().shape == (5, 6, image.layout.channels)
            assert image.layout == Layout(5, 6, grey, clear is not None, 8)
            if clear is not None:
                assert np.array_equal(image.channels()[..., -1], alpha)


def test_16_bits_are_rounded_and_8_bits_are_unchanged() -> None:
    every = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(to_8_bits(every), np.rint(every / 257))
    assert np.array_equal(to_8_bits(levels()), levels())


sides = st.integers(1, 40)
VISIBLE = (60, 120, 40)
HIDDEN = (255, 0, 255)


def disc(height: int = 40, width: int = 50) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A green disc on a transparent background whose hidden colour is magenta."""
    y, x = np.mgrid[:height, :width]
    inside = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 3) ** 2
    return np.where(inside[..., None], VISIBLE, HIDDEN).astype(np.uint8), (inside * 255).astype(np.uint8)


@given(sides, sides, st.integers(0, 999), st.booleans())
def test_visible_pixels_are_unchanged(height: int, width: int, seed: int, deep: bool) -> None:
    rgb: Pixels = deep_levels(height, width, seed=seed) if deep else levels(height, width, seed=seed)
    alpha: Pixels = (np.random.default_rng(seed).integers(0, 3, (height, width)) * 100).astype(rgb.dtype)
    cleaned = fill_transparent(rgb, alpha)
    assert (cleaned.shape, cleaned.dtype) == (rgb.shape, rgb.dtype)
    assert np.array_equal(cleaned[alpha > 0], rgb[alpha > 0])


@given(sides, sides, st.integers(0, 999))
def test_hidden_colours_lie_between_visible_ones(height: int, width: int, seed: int) -> None:
    rgb = levels(height, width, seed=seed) // 4 + 100
    alpha = (np.random.default_rng(seed).integers(0, 2, (height, width)) * 255).astype(np.uint8)
    if alpha.any():
        rgb[alpha == 0] = HIDDEN
        cleaned = fill_transparent(rgb, alpha)
        assert int(cleaned.min()) >= 100 and int(cleaned.max()) <= 163


@given(sides, sides, st.integers(0, 999))
def test_bands_do_not_change_the_result(height: int, width: int, seed: int) -> None:
    rgb = levels(height, width, seed=seed)
    alpha = (np.random.default_rng(seed).integers(0, 2, (height, width)) * 255).astype(np.uint8)
    whole = fill_transparent(rgb, alpha)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_module, "BAND_PIXELS", 1)
        assert np.array_equal(fill_transparent(rgb, alpha), whole)


def test_images_without_a_border_of_transparency_are_returned_unchanged() -> None:
    rgb = levels()
    assert fill_transparent(rgb, None) is rgb
    assert fill_transparent(rgb, np.full((6, 8), 1, np.uint8)) is rgb
    assert fill_transparent(rgb, np.zeros((6, 8), np.uint8)) is rgb


def test_upscaling_shows_no_fringe() -> None:
    rgb, alpha = disc()
    size = (4 * alpha.shape[0], 4 * alpha.shape[1])
    visible = resize_bicubic(alpha[..., None].astype(np.float32), *size)[..., 0] > 0

    def fringe(colours: Pixels) -> float:
        """The largest difference between a visible pixel of the result and the visible colour."""
        enlarged = resize_bicubic(colours.astype(np.float32), *size)
        return float(np.abs(enlarged - np.array(VISIBLE))[visible].max())

    assert fringe(rgb) > 100
    assert fringe(fill_transparent(rgb, alpha)) < 1e-3
