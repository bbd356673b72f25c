"""Canvases hold what was written where it was written."""

import pytest
import torch

from pcsr_cli.canvas import ByteCanvas, FloatCanvas
from pcsr_cli.tiles import Rect, Span

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
