"""A picture in memory: its size, its depth, its channels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pcsr_cli.images.image import ImageData, Layout, to_8_bits
from tests.images import deep_levels, levels


def test_the_channels_are_those_a_file_has() -> None:
    rgb, alpha = levels(5, 6), levels(5, 6, 1)[..., 0]
    for grey in (False, True):
        for clear in (None, alpha):
            picture = ImageData(rgb, clear, grey)
            assert picture.channels().shape == (5, 6, picture.layout.channels)
            assert picture.layout == Layout(5, 6, grey, clear is not None, 8)
            if clear is not None:
                assert np.array_equal(picture.channels()[..., -1], alpha)


def test_the_depth_is_that_of_the_type() -> None:
    assert ImageData(levels()).depth == 8
    assert ImageData(deep_levels()).depth == 16
    assert ImageData(deep_levels()).layout.row_bytes == 8 * 3 * 2


@given(st.integers(0, 65535))
def test_sixteen_bits_are_rounded_to_the_nearest_of_eight(level: int) -> None:
    assert to_8_bits(np.array([level], np.uint16))[0] == round(level / 257)


def test_eight_bits_stay() -> None:
    assert np.array_equal(to_8_bits(levels()), levels())
    assert (to_8_bits(np.arange(256, dtype=np.uint16) * 257) == np.arange(256)).all()
