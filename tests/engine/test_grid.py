"""HR pixels find their place on the LR grid: exactly, at any real scale, in any crop."""

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pcsr_cli.engine.grid import Axis, bilinear, hr_length, hr_size, make_axis, nearest_index, pixel_centres
from tests.strategies import lengths, scales
from tests.tiny import make_image

CPU = torch.device("cpu")


def axis_of(lr_length: int, scale: float) -> Axis:
    length = hr_length(lr_length, scale)
    return make_axis(lr_length, length, 0, length, CPU)


@pytest.mark.parametrize(
    ("lr", "scale", "hr"), [(1, 1, 1), (276, 4, 1104), (5, 1.5, 8), (3, 1.5, 4), (7, 2.1, 15), (10, 3.14, 31)]
)
def test_sides_grow_by_the_scale_and_are_rounded(lr: int, scale: float, hr: int) -> None:
    assert hr_length(lr, scale) == hr


def test_sizes_are_height_then_width() -> None:
    assert hr_size((2, 5), 3) == (6, 15)


@given(lengths, scales)
def test_every_lr_pixel_gets_at_least_one_hr_pixel(lr_length: int, scale: float) -> None:
    assert set(axis_of(lr_length, scale).nearest.tolist()) == set(range(lr_length))


@given(lengths, scales)
def test_nearest_is_nearest_and_of_two_the_even(lr_length: int, scale: float) -> None:
    length = hr_length(lr_length, scale)
    for position, nearest in enumerate(axis_of(lr_length, scale).nearest.tolist()):
        centre = Fraction((2 * position + 1) * lr_length, 2 * length) - Fraction(1, 2)
        gaps = [(abs(centre - pixel), pixel % 2) for pixel in range(lr_length)]
        assert (abs(centre - nearest), nearest % 2) == min(gaps)


@pytest.mark.parametrize("lr_length", [2, 3, 100])
def test_ties_at_scale_one_and_a_half_go_to_the_even_pixel(lr_length: int) -> None:
    nearest = axis_of(2 * lr_length, 1.5).nearest
    ties = nearest[1::3]  # the middle of every three HR pixels lies between its two LR pixels
    assert (ties % 2 == 0).all()


@given(st.integers(1, 200), scales)
def test_nearest_agrees_with_nearest_sampling_except_at_ties(lr_length: int, scale: float) -> None:
    axis = axis_of(lr_length, scale)
    ramp = torch.arange(lr_length, dtype=torch.float64).view(1, 1, 1, lr_length)
    length = len(axis.nearest)
    x = -1 + (2 * torch.arange(length, dtype=torch.float64) + 1) / length
    grid = torch.stack((x, torch.zeros_like(x)), dim=-1)[None, None]
    sampled = F.grid_sample(ramp, grid, mode="nearest", align_corners=False)[0, 0, 0].long()
    tie = (axis.rel.double().abs() - 1).abs() < 1e-3
    assert torch.equal(sampled[~tie], axis.nearest[~tie])


def test_nearest_is_exact_far_beyond_floating_point() -> None:
    # At x1.5 of two million pixels, half a float32 unit is already larger than the distance to a tie.
    length = 3_000_000
    positions = torch.arange(length - 6, length)
    assert nearest_index(2_000_000, length, positions).tolist() == [
        1_999_996,
        1_999_996,
        1_999_997,
        1_999_998,
        1_999_998,
        1_999_999,
    ]


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 7])
def test_integer_scales_have_only_as_many_places(scale: int) -> None:
    axis = axis_of(5, scale)
    expected = torch.tensor([(2 * offset + 1) / scale - 1 for offset in range(scale)]).repeat(5)
    assert axis.rel == pytest.approx(expected, abs=1e-5)
    assert axis.cell == pytest.approx(2 / scale)
    assert axis.nearest.tolist() == [pixel for pixel in range(5) for _ in range(scale)]


@given(lengths, scales)
def test_rel_is_the_way_from_the_nearest_centre_in_half_pixels(lr_length: int, scale: float) -> None:
    axis = axis_of(lr_length, scale)
    hr = torch.arange(len(axis.rel), dtype=torch.float64)
    centre_in_lr = (hr + 0.5) * lr_length / len(axis.rel) - 0.5
    assert axis.rel == pytest.approx(2 * (centre_in_lr - axis.nearest), abs=1e-5)
    assert (axis.rel.abs() <= 1 + 1e-5).all()


@given(st.integers(1, 5000))
def test_centres_are_spread_evenly_and_symmetrically(length: int) -> None:
    exact = -1 + (2 * torch.arange(length, dtype=torch.float64) + 1) / length
    assert pixel_centres(length) == pytest.approx(exact, abs=3e-7)


@given(lengths, scales, st.data())
def test_part_of_an_axis_is_exactly_that_part_of_the_whole(lr_length: int, scale: float, data: st.DataObject) -> None:
    whole = axis_of(lr_length, scale)
    length = len(whole.nearest)
    start = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(start + 1, length))
    part = make_axis(lr_length, length, start, stop, CPU)
    for name in ("nearest", "rel", "low", "high", "weight"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[start:stop])
    assert part.cell == whole.cell


@given(lengths, lengths, scales)
def test_base_is_bilinear_interpolation_with_replicated_borders(height: int, width: int, scale: float) -> None:
    x = make_image(height, width)
    base = bilinear(x, axis_of(height, scale), axis_of(width, scale))
    size = hr_size((height, width), scale)
    expected = F.interpolate(x.double(), size=size, mode="bilinear", align_corners=False)
    assert torch.allclose(base.double(), expected, atol=1e-5)


@given(lengths, scales)
def test_base_of_a_flat_picture_is_flat(length: int, scale: float) -> None:
    flat = torch.full((1, 3, length, length), 0.3)
    base = bilinear(flat, axis_of(length, scale), axis_of(length, scale))
    assert torch.equal(base, torch.full_like(base, 0.3))


def test_base_at_scale_one_is_the_picture() -> None:
    x = make_image(9, 14)
    assert torch.allclose(bilinear(x, axis_of(9, 1), axis_of(14, 1)), x, atol=1e-6)


def test_base_of_a_crop_is_exactly_that_of_the_whole() -> None:
    x = make_image(20, 30)
    rows, columns = make_axis(20, 50, 15, 35, CPU), make_axis(30, 75, 25, 50, CPU)
    whole = bilinear(x, rows, columns)
    crop = bilinear(x[:, :, 5:16, 9:21], rows, columns, origin=(5, 9))
    assert torch.equal(whole, crop)
