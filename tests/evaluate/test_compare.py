"""Pictures of one subject get one size and sRGB, and a sheet shows them side by side."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from pcsr_cli.errors import InputError
from pcsr_cli.evaluate.compare import BACKGROUND, CELL, GAP, STRIP, Picture, align, common_size, draw_sheet
from pcsr_cli.images.image import ImageData, Metadata
from tests.failing import fails
from tests.images import deep_levels, levels


def picture(rgb: np.ndarray, label: str = "a") -> Picture:
    return Picture(label, rgb, "")


@pytest.mark.parametrize("small", [(75, 112), (1, 1), (300, 450), (600, 902)])
def test_shapes_may_differ_by_a_pixel_of_the_smaller_picture(small: tuple[int, int]) -> None:
    assert common_size([("a", small), ("b", (300, 451))]) == max(small, (300, 451))


@pytest.mark.parametrize("other", [(400, 400), (451, 300), (300, 460), (30, 30)])
def test_other_shapes_are_refused(other: tuple[int, int]) -> None:
    with fails(InputError, "another shape"):
        common_size([("a", (300, 451)), ("b", other)])


def test_a_smaller_picture_is_enlarged_and_its_label_says_so() -> None:
    small, large = align([("a.png", ImageData(levels(6, 8)), ""), ("b.png", ImageData(levels(24, 32)), "x4 by tiny")])
    assert (small.label, large.label) == ("a.png, Lanczos", "b.png")
    assert small.rgb.shape == large.rgb.shape == (24, 32, 3)
    assert small.fact == "8×6, enlarged by Lanczos to 32×24" and large.fact == "32×24, x4 by tiny"
    assert np.array_equal(large.rgb, levels(24, 32))


def test_transparent_grey_and_deep_pictures_become_rgb_on_grey() -> None:
    deep = deep_levels(6, 8)
    clear = ImageData(deep, np.zeros((6, 8), np.uint16))
    grey = ImageData(levels(6, 8, 1).repeat(3, axis=2), grey=True)
    deep_grey = ImageData(deep_levels(6, 8, 1).repeat(3, axis=2), grey=True)
    found = align(
        [("deep", ImageData(deep), ""), ("clear", clear, ""), ("grey", grey, ""), ("deep grey", deep_grey, "")]
    )
    assert {each.rgb.dtype for each in found} == {np.dtype(np.uint8)}
    assert np.abs(found[0].rgb - deep / 257).max() <= 0.5
    assert (found[1].rgb == BACKGROUND).all() and "transparent pixels on grey" in found[1].fact
    assert np.array_equal(found[2].rgb, grey.rgb)
    assert np.abs(found[3].rgb - deep_grey.rgb / 257).max() <= 0.5


def test_colours_are_converted_from_the_profile() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgb = levels(6, 8)
    same, damaged = align(
        [("a", ImageData(rgb, metadata=Metadata(lab)), ""), ("b", ImageData(rgb, metadata=Metadata(b"x")), "")]
    )
    assert np.abs(same.rgb.astype(int) - rgb).max() <= 1
    assert np.array_equal(damaged.rgb, rgb)


def test_a_sheet_shows_small_pictures_whole_in_repeated_pixels() -> None:
    one, other = levels(30, 40, seed=1), levels(30, 40, seed=2)
    sheet = draw_sheet([picture(one), picture(other)])
    size = 16 * 40
    assert sheet.shape == (STRIP + 16 * 30 + 2 * GAP, 2 * size + 3 * GAP, 3)
    for number, rgb in enumerate((one, other)):
        left = GAP + number * (size + GAP)
        assert np.array_equal(sheet[STRIP : STRIP + 480 : 16, left : left + size : 16], rgb)


def test_a_sheet_shows_the_detail_of_large_pictures_that_differs_most() -> None:
    one = np.full((700, 1500, 3), 90, np.uint8)
    other = one.copy()
    other[20:60, 1300:1340] = levels(40, 40)
    sheet = draw_sheet([picture(one), picture(other)])
    whole = round(CELL * 700 / 1500)
    assert sheet.shape == (STRIP + whole + CELL + 3 * GAP, 2 * CELL + 3 * GAP, 3)
    detail = sheet[STRIP + whole + GAP : STRIP + whole + GAP + CELL, CELL + 2 * GAP : 2 * CELL + 2 * GAP]
    assert np.abs(detail.astype(int) - 90).sum() == np.abs(other.astype(int) - 90).sum()


@pytest.mark.parametrize(("size", "cell"), [((1, 3000), 640), ((3000, 1), 200), ((1, 1), 640), ((5, 2), 256)])
def test_a_sheet_of_extreme_shapes_has_five_pictures_in_two_rows(size: tuple[int, int], cell: int) -> None:
    sheet = draw_sheet([picture(levels(*size, seed=number), "a name that is too long " * 9) for number in range(5)])
    assert sheet.shape[1] == 3 * (cell + GAP) + GAP
    assert sheet.shape[0] > 2 * STRIP and Image.fromarray(sheet).size == sheet.shape[1::-1]
