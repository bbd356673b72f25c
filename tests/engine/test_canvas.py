"""Canvases hold what was written where it was written."""

import pytest
import torch

from pcsr_cli.engine.levels import to_levels
from pcsr_cli.engine.tiles import Rect, Span
from pcsr_cli.engine.upscale import ByteCanvas, FloatCanvas, RowCanvas

PARTS = [Rect(rows, columns) for rows in (Span(0, 3), Span(3, 4), Span(4, 7)) for columns in (Span(0, 2), Span(2, 5))]


def result() -> tuple[torch.Tensor, torch.Tensor]:
    """(7, 5, 3) RGB that leaves [0, 1] on both sides, and branches."""
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.rand(7, 5, 3, generator=generator) - 1, torch.randint(3, (7, 5), generator=generator).byte()


def test_floats_come_back_as_planes_and_are_not_clamped() -> None:
    rgb, labels = result()
    canvas = FloatCanvas(7, 5)
    for part in PARTS:
        canvas.write(part, rgb[part.slices], labels[part.slices])
    assert torch.equal(canvas.rgb, rgb.permute(2, 0, 1))
    assert torch.equal(canvas.labels, labels)


def test_bytes_are_rounded_and_clamped() -> None:
    rgb, labels = result()
    canvas = ByteCanvas(7, 5)
    for part in PARTS:
        canvas.write(part, rgb[part.slices], labels[part.slices])
    assert torch.equal(canvas.rgb, (rgb * 255).round().clamp(0, 255).byte())
    assert torch.equal(canvas.labels, labels)


@pytest.mark.parametrize(
    ("value", "level"), [(-1e9, 0), (0.0, 0), (0.5 / 255, 0), (1.5 / 255, 2), (1.0, 255), (7, 255)]
)
def test_each_number_has_its_level(value: float, level: int) -> None:
    canvas = ByteCanvas(1, 1)
    canvas.write(Rect(Span(0, 1), Span(0, 1)), torch.full((1, 1, 3), value), torch.zeros(1, 1, dtype=torch.uint8))
    assert canvas.rgb.flatten().tolist() == [level] * 3


@pytest.mark.parametrize("canvas", [FloatCanvas(2, 2), ByteCanvas(2, 2)], ids=["float", "byte"])
def test_what_is_written_is_left_alone(canvas: FloatCanvas | ByteCanvas) -> None:
    rgb = torch.full((2, 2, 3), 0.3)
    canvas.write(Rect(Span(0, 2), Span(0, 2)), rgb, torch.zeros(2, 2, dtype=torch.uint8))
    assert (rgb == 0.3).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32], ids=str)
def test_strips_are_handed_on_from_the_top_when_they_are_whole(dtype: torch.dtype) -> None:
    rgb, labels = result()
    strips: list[torch.Tensor] = []
    branches = torch.empty(7, 5, dtype=torch.uint8)
    canvas = RowCanvas(5, dtype, strips.append, branches)
    for number, rows in enumerate((Span(0, 3), Span(3, 4), Span(4, 7))):
        canvas.begin(rows)
        for part in PARTS[2 * number : 2 * number + 2]:
            canvas.write(part, torch.zeros_like(rgb[part.slices]), labels[part.slices])
            canvas.write(part, rgb[part.slices], labels[part.slices])
        assert len(strips) == number, "a strip that is not whole may not leave"
        canvas.finish()
    handed_on = torch.cat(strips)
    assert torch.equal(handed_on, rgb if dtype.is_floating_point else to_levels(rgb, dtype))
    assert torch.equal(branches, labels)


def test_a_strip_costs_what_its_pixels_take() -> None:
    costs = {
        dtype: RowCanvas(5, dtype, print).strip_pixel_bytes for dtype in (torch.uint8, torch.uint16, torch.float32)
    }
    assert costs == {torch.uint8: 3, torch.uint16: 6, torch.float32: 12}
    assert FloatCanvas(1, 1).strip_pixel_bytes == ByteCanvas(1, 1).strip_pixel_bytes == 0
