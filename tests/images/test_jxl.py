"""The header of JPEG XL gives the layout without decoding, and the pixels of any depth are right or refused."""

import io
import struct
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pcsr_cli.errors import InputError
from pcsr_cli.images.animation import is_animated
from pcsr_cli.images.image import ImageData, Layout
from pcsr_cli.images.jxl import JxlHeader, adjust_jxl, read_jxl_header
from pcsr_cli.images.read import read_image, read_layout
from tests.failing import fails
from tests.images import deep_levels, levels, save

pytest.importorskip("pillow_jxl")


def codestream(*fields: tuple[int, int]) -> bytes:
    """A codestream of numbers, each (value, bits), least significant bit first, and some zeros."""
    bits = "".join(format(value, f"0{count}b")[::-1] for value, count in fields)
    return b"\xff\x0a" + int(bits[::-1], 2).to_bytes(len(bits) // 8 + 20, "little")


def sized(height: int, width: int) -> list[tuple[int, int]]:
    """The fields of a size with 30 bits for each side."""
    return [(0, 1), (3, 2), (height - 1, 30), (0, 3), (3, 2), (width - 1, 30)]


def boxed(content: bytes, kind: bytes = b"jxlc") -> bytes:
    """A container with the codestream behind another box."""
    start = b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a\0\0\0\x14ftypjxl \0\0\0\0jxl "
    content = bytes(4) + content if kind == b"jxlp" else content
    return start + struct.pack(">I4s", 12, b"free") + bytes(4) + struct.pack(">I4s", 8 + len(content), kind) + content


DEFAULT = [(1, 1)]


@pytest.mark.parametrize("wrap", [bytes, boxed, lambda content: boxed(content, b"jxlp")], ids=["bare", "box", "parts"])
@pytest.mark.parametrize("pixels", [10**5, 10**6, 10**7, 10**8, 10**9])
def test_promised_pixels_cost_nothing(tmp_path: Path, pixels: int, wrap: object) -> None:
    path = tmp_path / "in.jxl"
    path.write_bytes(wrap(codestream(*sized(100, pixels // 100), *DEFAULT)))  # type: ignore[operator]
    began = time.process_time()
    if pixels > 178_956_970:
        for reader in (read_image, read_layout):
            with fails(InputError, f"has {pixels // 100:,} x 100 pixels, more than the limit"):
                reader(path)
    else:
        assert read_layout(path) == Layout(100, pixels // 100)
    assert not is_animated(path)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ([(1, 1), (3, 5), (0, 3), (9, 5)], (32, 80)),  # multiples of 8
        ([(1, 1), (3, 5), (2, 3)], (32, 38)),  # the ratio 12:10
        ([(0, 1), (1, 2), (1079, 13), (5, 3)], (1080, 1920)),  # the ratio 16:9
    ],
)
def test_short_forms_of_the_size(fields: list[tuple[int, int]], size: tuple[int, int]) -> None:
    layout = read_jxl_header(io.BytesIO(codestream(*fields, *DEFAULT))).layout
    assert (layout.height, layout.width) == size


def test_every_field_before_the_colours() -> None:
    fields = [
        *sized(50, 70),
        (0, 1),  # not all default
        (1, 1), (5, 3),  # orientation 6
        (1, 1), *sized(5, 7),  # intrinsic size
        (1, 1), (0, 1), (0, 2), (3, 6), (0, 3), (0, 2), (3, 6),  # a preview of 4x4
        (1, 1), (0, 2), (0, 2), (1, 2), (7, 3), (0, 1),  # an animation
        (0, 1), (3, 2), (11, 6), (1, 1),  # 12 bits
        (2, 2), (1, 4),  # three extra channels
        (1, 1),  # alpha
        (0, 1), (2, 2), (0, 4), (0, 1), (0, 2), (0, 2), (1, 2), (2, 4), (0x6261, 16), (0, 64),  # a spot colour "ab"
        (0, 1), (1, 2), (0, 1), (0, 2), (1, 2), (0, 2),  # depth
        (0, 1), (0, 1), (0, 1), (1, 2),  # grey
    ]  # fmt: skip
    expected = JxlHeader(Layout(70, 50, grey=True, alpha=True), 12, is_animated=True, extra_channels=2, is_xyb=False)
    assert read_jxl_header(io.BytesIO(codestream(*fields))) == expected


@pytest.mark.parametrize("content", [b"\xff\x0a", boxed(b""), boxed(b"")[:40], boxed(b"", b"jbrd"), b"\xff\x0a\0"])
def test_a_header_that_ends_early_is_damage(content: bytes) -> None:
    with fails(InputError, "is truncated or damaged"):
        read_image(io.BytesIO(content))


@pytest.mark.parametrize(
    ("bits", "depth", "values", "expected"),
    [
        (8, 8, [0, 7, 255], [0, 7, 255]),
        (5, 8, [0, 16, 31, 33], [0, 132, 255, 255]),
        (10, 16, [0, 512, 1023, 1025], [0, 32800, 65535, 65535]),
        (16, 16, [0, 7, 65535], [0, 7, 65535]),
    ],
)
def test_pixels_are_scaled_to_the_depth(bits: int, depth: int, values: Sequence[int], expected: Sequence[int]) -> None:
    pixels = np.repeat(np.array([values], np.uint8 if depth == 8 else np.uint16)[..., None], 3, axis=2)
    header = JxlHeader(Layout(1, len(values), True), bits, is_animated=False, extra_channels=0, is_xyb=False)
    image = adjust_jxl(ImageData(pixels, grey=True), header)
    assert image.rgb[0, :, 0].tolist() == expected
    assert image.notes == ()


def test_what_the_plug_in_loses_is_noted_or_refused() -> None:
    image, layout = ImageData(levels()), Layout(6, 8)
    notes = adjust_jxl(image, JxlHeader(layout, 16, is_animated=True, extra_channels=1, is_xyb=False)).notes
    assert notes == (
        "more than 8 bits a channel were read as 8",
        "only the first frame of the animation was used",
        "1 channels beside colour and alpha were dropped",
    )
    with fails(InputError, "JPEG XL with 10 bits a channel is supported in grey only.", "djxl"):
        adjust_jxl(image, JxlHeader(layout, 10, is_animated=False, extra_channels=0, is_xyb=False))


def test_the_layout_is_that_of_the_pixels(tmp_path: Path) -> None:
    for channels in (1, 2, 3, 4):
        path = save(tmp_path / "in.jxl", levels(5, 7, channels))
        assert read_layout(path) == read_image(path).layout
    from PIL import Image

    Image.fromarray(deep_levels(5, 7, 1)[..., 0]).save(path, lossless=True)
    assert read_layout(path).depth == 16
    assert np.array_equal(read_image(path).rgb[..., :1], deep_levels(5, 7, 1))
