"""HR pixels on the LR grid: exact at any real scale, in any crop."""

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pcsr_cli.engine.grid import (
    Axis,
    bilinear,
    first_hr_index,
    hr_length,
    hr_size,
    make_axis,
    nearest_index,
    pixel_centres,
)
from tests.strategies import lengths, scales
from tests.tiny import make_image

CPU = torch.device("cpu")


def axis_of(lr_length: int, scale: float) -> Axis:
    length = hr_length(lr_length, scale)
    return make_axis(lr_length, length, 0, length, CPU)


@pytest.mark.parametrize(
    ("lr", "scale", "hr"), [(1, 1, 1), (276, 4, 1104), (5, 1.5, 8), (3, 1.5, 4), (7, 2.1, 15), (10, 3.14, 31)]
)
def test_sides_are_scaled_and_rounded(lr: int, scale: float, hr: int) -> None:
    assert hr_length(lr, scale) == hr
    assert hr_size((lr, 5), scale) == (hr, hr_length(5, scale))


@given(lengths, scales)
def test_nearest_prefers_the_even_pixel_of_a_tie(lr_length: int, scale: float) -> None:
    length, found = hr_length(lr_length, scale), axis_of(lr_length, scale).nearest.tolist()
    assert set(found) == set(range(lr_length)), "each LR pixel should have an HR pixel"
    for position, nearest in enumerate(found):
        centre = Fraction((2 * position + 1) * lr_length, 2 * length) - Fraction(1, 2)
        gaps = [(abs(centre - pixel), pixel % 2) for pixel in range(lr_length)]
        assert (abs(centre - nearest), nearest % 2) == min(gaps)


@given(lengths, scales)
def test_the_first_hr_pixel_of_each_lr_pixel_is_where_nearest_reaches_it(lr_length: int, scale: float) -> None:
    nearest = [*axis_of(lr_length, scale).nearest.tolist(), lr_length]
    for lr in range(lr_length + 1):
        assert first_hr_index(lr_length, len(nearest) - 1, lr) == next(hr for hr, at in enumerate(nearest) if at >= lr)


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
    nearest = nearest_index(2_000_000, length, positions)
    assert (nearest - 2_000_000).tolist() == [-4, -4, -3, -2, -2, -1]


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 7])
def test_integer_scales_repeat_their_offsets(scale: int) -> None:
    axis = axis_of(5, scale)
    expected = torch.tensor([(2 * offset + 1) / scale - 1 for offset in range(scale)]).repeat(5)
    assert axis.rel == pytest.approx(expected, abs=1e-5)
    assert float(axis.cell) == pytest.approx(2 / scale)
    assert axis.nearest.tolist() == [pixel for pixel in range(5) for _ in range(scale)]


@given(lengths, scales)
def test_rel_is_the_offset_from_the_nearest_centre_in_half_pixels(lr_length: int, scale: float) -> None:
    axis = axis_of(lr_length, scale)
    hr = torch.arange(len(axis.rel), dtype=torch.float64)
    centre_in_lr = (hr + 0.5) * lr_length / len(axis.rel) - 0.5
    assert axis.rel == pytest.approx(2 * (centre_in_lr - axis.nearest), abs=1e-5)
    assert (axis.rel.abs() <= 1 + 1e-5).all()


@pytest.mark.parametrize("lr_length", [10**6, 20_000_000, 178_000_000])
@pytest.mark.parametrize("scale", [1.5, 4])
def test_positions_on_a_long_side_are_exact(lr_length: int, scale: float) -> None:
    length = hr_length(lr_length, scale)
    for start in (0, length // 3, length - 12):
        axis = make_axis(lr_length, length, start, start + 12, CPU)
        hr = torch.arange(start, start + 12, dtype=torch.float64)
        centre_in_lr = ((hr + 0.5) * lr_length / length - 0.5).clamp(0, lr_length - 1)
        assert axis.low + axis.weight.double() == pytest.approx(centre_in_lr, abs=1e-6)
        assert (axis.rel.abs() <= 1 + 1e-6).all()


@given(st.integers(1, 5000))
def test_centres_are_spread_evenly_and_symmetrically(length: int) -> None:
    exact = -1 + (2 * torch.arange(length, dtype=torch.float64) + 1) / length
    assert pixel_centres(length, torch.arange(length).float()) == pytest.approx(exact, abs=3e-7)


@given(lengths, scales, st.data())
def test_part_of_an_axis_equals_that_part_of_the_whole(lr_length: int, scale: float, data: st.DataObject) -> None:
    whole = axis_of(lr_length, scale)
    length = len(whole.nearest)
    start = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(start + 1, length))
    part = make_axis(lr_length, length, start, stop, CPU)
    for name in ("nearest", "rel", "low", "high", "weight"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[start:stop])
    assert part.cell == whole.cell


@given(lengths, lengths, scales)
def test_base_matches_bilinear_interpolation(height: int, width: int, scale: float) -> None:
    x = make_image(height, width)
    base = bilinear(x, axis_of(height, scale), axis_of(width, scale))
    size = hr_size((height, width), scale)
    expected = F.interpolate(x.double(), size=size, mode="bilinear", align_corners=False)
    assert torch.allclose(base.double(), expected, atol=1e-5)


@given(lengths, scales)
def test_base_of_a_flat_image_is_flat(length: int, scale: float) -> None:
    flat = torch.full((1, 3, length, length), 0.3)
    base = bilinear(flat, axis_of(length, scale), axis_of(length, scale))
    assert torch.equal(base, torch.full_like(base, 0.3))


def test_base_of_a_crop_equals_that_of_the_whole() -> None:
    x = make_image(20, 30)
    rows, columns = make_axis(20, 50, 15, 35, CPU), make_axis(30, 75, 25, 50, CPU)
    whole = bilinear(x, rows, columns)
    crop = bilinear(x[:, :, 5:16, 9:21], rows, columns, origin=(5, 9))
    assert torch.equal(whole, crop)
