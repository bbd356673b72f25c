"""A picture's layout from its header: what reading all of it would tell, without reading it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pcsr_cli.failures import pictures
from pcsr_cli.pictures.header import read_layout
from pcsr_cli.pictures.reading import read_picture
from tests.failing import fails
from tests.pictures import deep_levels, levels, save_deep


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_every_mode(tmp_path: Path, mode: str, suffix: str) -> None:
    image = Image.fromarray(levels(5, 7, 4)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(deep_levels(5, 7, 1)[..., 0])
    path = tmp_path / f"in.{suffix}"
    image.save(path)
    assert read_layout(path) == read_picture(path).layout


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits(tmp_path: Path, channels: int, suffix: str) -> None:
    path = save_deep(tmp_path / f"in.{suffix}", deep_levels(5, 7, channels))
    assert read_layout(path) == read_picture(path).layout
    assert read_layout(path).depth == 16


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_every_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"in.{suffix}"
    Image.fromarray(levels(5, 7)).save(path, exif=exif)
    assert read_layout(path) == read_picture(path).layout
    assert read_layout(path).width == (7 if orientation < 5 else 5)


@pytest.mark.parametrize("options", [{"transparency": 3}, {"transparency": bytes(range(256))}], ids=["one", "each"])
def test_palettes_with_transparency(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "in.png"
    Image.fromarray(levels(5, 7)).convert("P").save(path, **options)
    assert read_layout(path) == read_picture(path).layout
    assert read_layout(path).alpha


def test_the_pixels_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    Image.fromarray(np.zeros((400, 500, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:100])
    assert (read_layout(path).height, read_layout(path).width) == (400, 500)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    with fails(pictures.NO_FILE, path=path):
        read_layout(path)
    path.write_text("text")
    with fails(pictures.NOT_A_PICTURE):
        read_layout(path)
