"""PNG files written in bands are PNG files like any other."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pcsr_cli import png
from pcsr_cli.png import write_png

sides = st.integers(1, 40)


def read_back(pixels: NDArray[np.uint8], **options: bytes) -> Image.Image:
    file = io.BytesIO()
    write_png(file, pixels, {"Software": "pcsr", "pcsr:model": "K\u00f6ln \u2713"}, **options)
    image = Image.open(io.BytesIO(file.getvalue()))
    image.load()
    return image


@given(sides, sides, st.integers(1, 4), st.integers(0, 99), st.sampled_from([1, 50, 10**6]))
def test_what_is_written_is_read(height: int, width: int, channels: int, seed: int, band: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png, "BAND_BYTES", band)
        image = read_back(pixels)
    assert image.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_text_and_profile_are_kept() -> None:
    image = read_back(np.zeros((2, 3, 3), np.uint8), icc=b"a profile")
    assert image.info["Software"] == "pcsr"
    assert image.info["pcsr:model"] == "K\u00f6ln \u2713"
    assert image.info["icc_profile"] == b"a profile"


def test_smooth_pictures_become_small() -> None:
    row = np.arange(256, dtype=np.uint8)
    smooth = np.repeat(np.repeat(row[None, :, None], 200, axis=0), 3, axis=2)
    file = io.BytesIO()
    write_png(file, smooth, {})
    assert len(file.getvalue()) < smooth.size / 20


def test_a_full_disk_is_an_error() -> None:
    class Full(io.BytesIO):
        def write(self, content: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_png(Full(), np.zeros((2, 2, 3), np.uint8), {})
