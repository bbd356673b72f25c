"""Target sizes: the requested size is never exceeded, reached to the pixel, and the aspect is kept."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcsr_cli.engine.grid import hr_size
from pcsr_cli.errors import UsageError
from pcsr_cli.jobs.target import Target, make_target
from tests.failing import fails

sides = st.integers(1, 20_000)
sizes = st.tuples(sides, sides)
lengths = st.integers(1, 100_000)


def result(target: Target, size: tuple[int, int]) -> tuple[int, int]:
    """The size of the result, after checking that both sides have one scale, up to half a pixel."""
    scale = target.scale(size)
    found = hr_size(size, scale)
    for before, after in zip(size, found, strict=True):
        assert abs(after - before * scale) <= 0.5 + 1e-6 or after == 1
    return found


@given(sizes, lengths)
def test_one_side_is_exact(size: tuple[int, int], length: int) -> None:
    height, width = size
    assert result(make_target("width", length), size)[1] == length
    assert result(make_target("height", length), size)[0] == length
    assert max(result(make_target("long_edge", length), size)) == length
    short = result(make_target("short_edge", length), size)
    assert short[0 if height <= width else 1] == min(short) == length


@given(sizes, lengths, lengths)
def test_a_box_is_touched_and_not_exceeded(size: tuple[int, int], width: int, height: int) -> None:
    found = result(make_target("fit", f"{width}x{height}"), size)
    assert found[0] <= height and found[1] <= width
    assert found[0] == height or found[1] == width


@given(sizes, st.floats(1e-3, 2000))
def test_megapixels_are_not_exceeded_and_one_more_pixel_would_exceed_them(size: tuple[int, int], count: float) -> None:
    long, short = max(size), min(size)
    found = result(make_target("megapixels", count), size)
    assert math.prod(found) <= count * 1e6
    assert (max(found) + 1) * max(1, round(short * ((max(found) + 1) / long))) > count * 1e6


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("60x40cm@300dpi", (2000, 3000), (4724, 7086)),
        ("60x40cm@300dpi", (3000, 2000), (7086, 4724)),
        ("40x60cm@300dpi", (2000, 3000), (4724, 7086)),
        ("25.4x25.4cm@300dpi", (10, 10), (3000, 3000)),
        ("6 x 4 in @ 250 DPI", (20, 30), (1000, 1500)),
        ("254x127mm@100dpi", (10, 40), (250, 1000)),
        ("6x4in", (20, 30), (1200, 1800)),
        ("A4", (400, 300), (3307, 2480)),
        ("a0@100dpi", (400, 300), (4415, 3311)),
        ("A6", (400, 300), (1653, 1240)),
        ("a4@100dpi", (400, 300), (1101, 826)),
    ],
)
def test_paper_is_turned_like_the_image(text: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert result(make_target("print", text), size) == expected


@pytest.mark.parametrize("text", ["", "3840", "3840x", "0x5", "-3x4", "3840*2160", "1e3x5", "9999999999x1", "٣x٤"])
def test_an_invalid_box_is_refused(text: str) -> None:
    with fails(UsageError, "Invalid size", "such as 3840x2160."):
        make_target("fit", text)


@pytest.mark.parametrize(
    "text", ["60x40", "60x40@300dpi", "0x4cm@300dpi", "60x40km@300dpi", "6x4in@0dpi", "6x4in@", "B4@300dpi"]
)
def test_an_invalid_print_is_refused(text: str) -> None:
    with fails(UsageError, "Invalid print", "Use A0 to A6, letter, or a size such as 60x40cm."):
        make_target("print", text)


@pytest.mark.parametrize(
    ("kind", "value", "label"),
    [
        ("width", 800, "width800"),
        ("long_edge", 800, "long-edge800"),
        ("fit", "3840X2160", "3840x2160"),
        ("megapixels", 8.5, "8.5MP"),
        ("megapixels", 12.3456789, "12.3456789MP"),
        ("print", "60 x 40 cm @ 300 dpi", "60x40cm@300dpi"),
    ],
)
def test_a_target_has_a_label_for_file_names(kind: str, value: float | str, label: str) -> None:
    assert make_target(kind, value).label == label
