"""PNG files that are written row by row can be read by any decoder."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pcsr_cli.images import png as png_stream
from pcsr_cli.images.image import Layout, Metadata, Pixels
from pcsr_cli.images.png import PngEncoder
from pcsr_cli.images.read import read_image
from tests.images import deep_levels, levels

sides = st.integers(1, 40)


def encoded(
    pixels: Pixels, metadata: Metadata | None = None, step: int = 1000, compression: int | None = None
) -> bytes:
    height, width, channels = pixels.shape
    file = io.BytesIO()
    layout = Layout(height, width, channels < 3, channels in {2, 4}, 8 * pixels.itemsize)
    stream = PngEncoder(file, layout, metadata or Metadata(), {"Software": "pcsr", "pcsr:model": "Köln ✓"}, compression)
    for top in range(0, height, step):
        stream.write(pixels[top : top + step])
    stream.finish()
    return file.getvalue()


@given(sides, sides, st.integers(1, 4), st.booleans(), st.sampled_from([1, 50, 10**6]), st.integers(1, 9))
def test_pixels_round_trip(height: int, width: int, channels: int, deep: bool, band: int, step: int) -> None:
    pixels = deep_levels(height, width, channels) if deep else levels(height, width, channels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png_stream, "BAND_BYTES", band)
        content = encoded(pixels, step=step)
    assert np.array_equal(read_image(io.BytesIO(content)).channels(), pixels)
    if not deep:
        image = Image.open(io.BytesIO(content))
        assert image.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
        assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_text_profile_and_resolution_are_kept() -> None:
    image = Image.open(io.BytesIO(encoded(levels(), Metadata(icc=b"a profile", xmp=b"<x/>", dpi=(300, 72)))))
    assert image.info["Software"] == "pcsr"
    assert image.info["pcsr:model"] == "Köln ✓"
    assert image.info["icc_profile"] == b"a profile"
    assert image.info["dpi"] == pytest.approx((300, 72), abs=0.02)


def test_smooth_images_compress_well() -> None:
    row = np.arange(256, dtype=np.uint8)
    smooth = np.repeat(np.repeat(row[None, :, None], 200, axis=0), 3, axis=2)
    assert len(encoded(smooth)) < smooth.size / 20


def test_a_full_disk_is_an_error() -> None:
    class Full(io.BytesIO):
        def write(self, content: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        PngEncoder(Full(), Layout(2, 2), Metadata(), {})
