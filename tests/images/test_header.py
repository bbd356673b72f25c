"""A picture's layout from its header: what reading all of it would tell, without reading it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pcsr_cli.errors import InputError
from pcsr_cli.images import formats as plug_ins
from pcsr_cli.images.formats import known_suffixes
from pcsr_cli.images.image import Layout
from pcsr_cli.images.read import read_image, read_layout
from tests.failing import fails
from tests.images import deep_levels, levels, save_deep

MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "I;16B", "F"]
SUFFIXES = [*known_suffixes(), ".jp2", ".ppm", ".pgm", ".pfm", ".dib"]


def read(what: Callable[[Path], Any], path: Path) -> Any:
    """What comes of a file: a layout, or the sentence of its refusal."""
    try:
        return what(path)
    except InputError as error:
        return str(error)


def of_mode(mode: str) -> Image.Image:
    if mode.startswith("I;16"):
        return Image.frombytes(mode, (7, 5), deep_levels(5, 7, 1).tobytes())
    image = Image.fromarray(levels(5, 7, 4))
    if mode in {"PA", "LA"}:
        return image.convert("LA").convert(mode)
    if mode == "LAB":
        return Image.frombytes("LAB", (7, 5), levels(5, 7).tobytes())
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_header_tells_what_reading_does(tmp_path: Path, suffix: str) -> None:
    for format in plug_ins.PLUG_IN_FORMATS:
        plug_ins.load(format)
    path, tried = tmp_path / f"in{suffix}", 0
    for image in (*map(of_mode, MODES), of_mode("L").convert("P")):
        try:
            image.save(path)
        except (OSError, ValueError, KeyError, RuntimeError, SystemError):  # not every format has every mode
            continue
        tried += 1
        assert read(read_layout, path) == read(lambda path: read_image(path).layout, path), image.mode
    assert tried


def test_a_pgm_of_16_bits_is_deep_grey(tmp_path: Path) -> None:
    Image.fromarray(deep_levels(5, 7, 1)[..., 0]).save(tmp_path / "in.pgm")
    assert read_layout(tmp_path / "in.pgm") == Layout(5, 7, grey=True, depth=16)


@pytest.mark.parametrize("kind", ["uchar", "ushort", "short", "uint", "int", "float", "double"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_tiff_of_any_numbers(tmp_path: Path, channels: int, kind: str) -> None:
    import pyvips

    path = tmp_path / "in.tif"
    meaning = {"uchar": "srgb", "ushort": "rgb16"}.get(kind, "scrgb") if channels > 2 else "b-w"
    image = pyvips.Image.new_from_array(levels(5, 7, channels)).cast(kind)
    image.copy(interpretation="grey16" if (kind, meaning) == ("ushort", "b-w") else meaning).write_to_file(str(path))
    told = read(read_layout, path)
    assert told == read(lambda path: read_image(path).layout, path)
    assert isinstance(told, Layout) == (kind in {"uchar", "ushort"})


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits(tmp_path: Path, channels: int, suffix: str) -> None:
    path = save_deep(tmp_path / f"in.{suffix}", deep_levels(5, 7, channels))
    assert read_layout(path) == read_image(path).layout
    assert read_layout(path).depth == 16


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_every_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"in.{suffix}"
    Image.fromarray(levels(5, 7)).save(path, exif=exif)
    assert read_layout(path) == read_image(path).layout
    assert read_layout(path).width == (7 if orientation < 5 else 5)


@pytest.mark.parametrize("options", [{"transparency": 3}, {"transparency": bytes(range(256))}], ids=["one", "each"])
def test_palettes_with_transparency(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "in.png"
    Image.fromarray(levels(5, 7)).convert("P").save(path, **options)
    assert read_layout(path) == read_image(path).layout
    assert read_layout(path).alpha


def test_the_pixels_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    Image.fromarray(np.zeros((400, 500, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:100])
    assert (read_layout(path).height, read_layout(path).width) == (400, 500)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    with fails(InputError, f"There is no file {path}."):
        read_layout(path)
    path.write_text("text")
    with fails(InputError, "is not a picture of a known format."):
        read_layout(path)
