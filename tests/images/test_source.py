"""Whether a file was lossy: by its header, and by the blocks of a JPEG in its pixels."""

import io
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageDraw, JpegPresets

from pcsr_cli.errors import UsageError
from pcsr_cli.evaluate.dataset import demo_image
from pcsr_cli.images.degrade import jpeg, reduce
from pcsr_cli.images.formats import PLUG_IN_FORMATS, load_plug_in
from pcsr_cli.images.image import Pixels
from pcsr_cli.images.read import read_rgb
from pcsr_cli.images.source import CLEAN, SourceKind, find_kind, has_jpeg_blocks, parse_source, read_kind
from tests.failing import fails

QUALITIES = (25, 40, 55, 65, 75, 80, 85, 90, 93, 95)
LOSSY = True


@cache
def photo(number: int = 0) -> Image.Image:
    """A part of the photograph that ships with pcsr, 128x128. It is reduced: the original was a JPEG."""
    original = read_rgb(demo_image())
    height, width = (round(side / (1.6 + number % 5 / 10)) for side in original.shape[:2])
    filter = ("area", "bicubic", "bilinear", "lanczos")[number % 4]
    small = reduce(original, height, width, filter)
    top, left = number * 37 % (height - 128), number * 53 % (width - 128)
    return Image.fromarray(small[top : top + 128, left : left + 128])


def drawing(number: int, grid: int) -> Image.Image:
    """A screenshot with coloured boxes on a grid and text in them."""
    generator = np.random.default_rng(number)
    image = Image.new("RGB", (160, 160), "white")
    draw = ImageDraw.Draw(image)
    for x, y, width, height, red, green, blue in generator.integers(0, 256, (40, 7)):
        corner = int(x % (160 // grid)) * grid, int(y % (160 // grid)) * grid
        far = corner[0] + (int(width) % 5 + 1) * grid - 1, corner[1] + (int(height) % 5 + 1) * grid - 1
        draw.rectangle((corner, far), (int(red), int(green), int(blue)), outline=int(x) if x % 2 else None)
        draw.text(corner, "Some text", (int(blue), int(red), int(green)))
    return image


def scan(number: int) -> Image.Image:
    """A page of text with the noise of a scanner."""
    page = Image.new("L", (160, 160), 235)
    for line in range(12):
        ImageDraw.Draw(page).text((4 + number, 3 + 13 * line), "A page of printed text", 30 + 5 * number)
    noise = np.random.default_rng(number).normal(0, 4, (160, 160))
    return Image.fromarray((np.asarray(page) + noise).clip(0, 255).astype(np.uint8))


def pixel_art(number: int) -> Image.Image:
    """A small photograph whose pixels are squares of 4, 8 or 16."""
    side = (4, 8, 16)[number % 3]
    pixels = np.asarray(photo(number).resize((160 // side, 160 // side)))
    return Image.fromarray(pixels.repeat(side, axis=0).repeat(side, axis=1))


Case = tuple[str, Image.Image, bool, int | None, dict[str, object]]
"""A format, an image, whether the file is lossy, the quality if it is known, and options of the encoder."""


def cases() -> Iterator[Case]:
    for number, quality in enumerate(QUALITIES):
        for subsampling in (0, 1, 2):
            for progressive in (False, True):
                options: dict[str, object] = {
                    "quality": quality,
                    "subsampling": subsampling,
                    "progressive": progressive,
                }
                yield "JPEG", photo(number), LOSSY, quality, options
            decoded = jpeg(np.asarray(photo(number)), quality, ("444", "422", "420")[subsampling])
            yield "PNG", Image.fromarray(decoded[number % 8 :, number * 3 % 8 :]), LOSSY, None, {}
        yield "JPEG", photo(number).convert("L"), LOSSY, quality, {"quality": quality}
        yield "JPEG", photo(number).convert("CMYK"), LOSSY, quality, {"quality": quality}
        yield "PNG", scan(number), not LOSSY, None, {}
        yield "PNG", drawing(number, 8), not LOSSY, None, {}
        yield "PNG", drawing(number, (1, 4, 16)[number % 3]), not LOSSY, None, {}
        yield "PNG", pixel_art(number), not LOSSY, None, {}
    for number in range(20):
        yield "PNG", photo(number), not LOSSY, None, {}
    for preset in JpegPresets.presets:  # the tables of Photoshop
        yield "JPEG", photo(), LOSSY, None, {"quality": preset}
    for quality in (40, 75, 90):
        yield "WEBP", photo(), LOSSY, None, {"quality": quality}
        yield "AVIF", photo(), LOSSY, None, {"quality": quality}
        yield "HEIF", photo(), LOSSY, None, {"quality": quality}
        yield "JXL", photo(), LOSSY, None, {"quality": quality}
    see_through = photo().copy()
    see_through.putalpha(99)
    for image in (photo(), see_through):
        yield "JXL", image, not LOSSY, None, {"lossless": True}
        yield "WEBP", image, not LOSSY, None, {"lossless": True}
        for lossless in (False, True):
            moving = {"save_all": True, "append_images": [photo(1)], "lossless": lossless}
            yield "WEBP", image, not lossless, None, moving
        yield "JPEG2000", image, LOSSY, None, {"irreversible": True}
        yield "JPEG2000", image, not LOSSY, None, {}
    yield "HEIF", photo(), not LOSSY, None, {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
    yield "TIFF", photo(), LOSSY, None, {"compression": "jpeg"}
    for kind in ("TIFF", "BMP", "PPM", "GIF"):
        yield kind, photo(), not LOSSY, None, {}


@pytest.mark.slow
def test_the_kind_of_more_than_200_files_is_right() -> None:
    for format in PLUG_IN_FORMATS:
        load_plug_in(format)
    count, wrong = 0, []
    for format_name, image, lossy, quality, options in cases():
        file = io.BytesIO()
        image.save(file, format_name, **options)
        with Image.open(file) as decoded:
            rgb: Pixels = np.asarray(decoded.convert("RGB"))
        kind = find_kind(file, rgb)
        count += 1
        if kind.lossy != lossy or (quality and kind.quality != quality):
            wrong.append((count, format_name, options, str(kind)))
    assert not wrong
    assert count > 200


def test_a_small_picture_is_recognised_from_its_jpeg_and_a_clean_one_is_not() -> None:
    clean = np.asarray(photo())
    assert not has_jpeg_blocks(clean)
    assert has_jpeg_blocks(jpeg(clean, 75)[3:67, 5:69])
    assert not has_jpeg_blocks(clean[:31])
    assert not has_jpeg_blocks(np.full((64, 64, 3), 77, np.uint8))


def test_the_detail_of_a_large_picture_is_measured_wherever_it_is() -> None:
    large = np.full((700, 800, 3), 90, np.uint8)
    large[560:688, 640:768] = jpeg(np.asarray(photo()), 80)
    assert has_jpeg_blocks(large)


@pytest.mark.parametrize(
    ("format_name", "options"),
    [("WEBP", {"lossless": True}), ("WEBP", {"quality": 75}), ("JPEG2000", {}), ("JPEG2000", {"irreversible": True})],
)
def test_a_large_profile_before_the_pixels_does_not_matter(format_name: str, options: dict[str, object]) -> None:
    file = io.BytesIO()
    photo().save(file, format_name, icc_profile=bytes(range(256)) * 200 + b"\xff\x52" * 99, **options)
    assert read_kind(file).lossy == ("quality" in options or "irreversible" in options)


def test_the_kind_of_a_damaged_header_is_known() -> None:
    file = io.BytesIO()
    photo().save(file, "JPEG", quality=75)
    content = file.getvalue()
    table = content.index(b"\xff\xdb")
    assert read_kind(io.BytesIO(content[: table + 9])) == SourceKind(True, "JPEG")
    assert read_kind(io.BytesIO(b"RIFF\x04\0\0\0WEBP")).lossy
    assert read_kind(io.BytesIO(b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a")).lossy
    assert read_kind(io.BytesIO(b"anything else")) == CLEAN


@pytest.mark.parametrize(("preset", "quality"), [("web_low", 30), ("low", 43), ("high", 82), ("maximum", 93)])
def test_other_tables_have_the_nearest_quality(preset: str, quality: int) -> None:
    file = io.BytesIO()
    photo().save(file, "JPEG", quality=preset)
    assert read_kind(file) == SourceKind(True, "JPEG", quality)
    assert str(read_kind(file)) == f"JPEG of quality about {quality}"


def test_a_source_is_requested_by_a_word() -> None:
    assert parse_source("auto") is None
    assert parse_source("clean") == CLEAN
    assert parse_source("jpeg") == SourceKind(True, "JPEG")
    assert parse_source("jpeg=60") == SourceKind(True, "JPEG", 60)
    for text in ("png", "jpeg=", "jpeg=0", "jpeg=75.5", "clean=3", f"jpeg={'9' * 5000}"):
        with fails(UsageError, f"Invalid source {text!r}."):
            parse_source(text)
