"""TIFF and BigTIFF files that are written row by row can be read by any decoder."""

import io

import numpy as np
import pytest
import pyvips
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pcsr_cli.images import tiff
from pcsr_cli.images.image import Layout, Metadata, Pixels
from pcsr_cli.images.read import read_image
from pcsr_cli.images.tiff import CLASSIC_BYTES, write_tiff
from tests.images import deep_levels, levels

sides = st.integers(1, 40)


def encoded(
    pixels: Pixels, metadata: Metadata | None = None, step: int = 1000, compression: int | None = None
) -> bytes:
    height, width, channels = pixels.shape
    file = io.BytesIO()
    layout = Layout(height, width, channels < 3, channels in {2, 4}, 8 * pixels.itemsize)
    rows = (pixels[top : top + step] for top in range(0, height, step))
    write_tiff(file, layout, rows, metadata or Metadata(), compression)
    return file.getvalue()


@given(
    sides,
    sides,
    st.integers(1, 4),
    st.booleans(),
    st.integers(1, 50),
    st.integers(1, 9999),
    st.sampled_from([None, 0, 9]),
)
def test_pixels_round_trip(
    height: int, width: int, channels: int, deep: bool, step: int, strip: int, compression: int | None
) -> None:
    pixels = deep_levels(height, width, channels) if deep else levels(height, width, channels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiff, "STRIP_BYTES", strip)
        for room in (CLASSIC_BYTES, 0):
            patch.setattr(tiff, "CLASSIC_BYTES", room)
            content = encoded(pixels, step=step, compression=compression)
            assert content[:4] == (b"II+\0" if room == 0 else b"II*\0")
            assert np.array_equal(read_image(io.BytesIO(content)).channels(), pixels)


def test_pillow_reads_the_file() -> None:
    for channels in (1, 2, 3, 4):
        pixels = levels(50, 60, channels)
        image = Image.open(io.BytesIO(encoded(pixels, step=7)))
        assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("room", [CLASSIC_BYTES, 0])
def test_metadata_is_kept(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "CLASSIC_BYTES", room)
    tags = Image.Exif()
    tags.endian = "<"  # Pillow reads no big-endian BigTIFF
    tags[271] = "Maker"
    tags[0x8769] = {36867: "2020:01:01 00:00:00", 0xA005: {1: "R98", 2: b"0100"}}
    tags[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    exif = tags.tobytes().removeprefix(b"Exif\0\0")
    image = Image.open(io.BytesIO(encoded(levels(), Metadata(b"a profile", exif, b"<x/>", (300, 72.5)))))
    assert image.info["icc_profile"] == b"a profile"
    assert image.info["xmp"] == b"<x/>"
    assert image.info["dpi"] == (300, 72.5)
    found = image.getexif()
    assert found[271] == "Maker"
    assert found.get_ifd(0x8769)[36867] == "2020:01:01 00:00:00"
    assert found.get_ifd(0x8825) == {1: "N", 2: (1.0, 2.0, 3.0)}
    assert found.get_ifd(0xA005) == {1: "R98", 2: b"0100"}


def test_the_resolution_in_exif_is_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = Image.Exif()
    tags[0x011A], tags[0x011B], tags[0x0128] = 100.0, 50.0, 3
    exif = tags.tobytes().removeprefix(b"Exif\0\0")
    for room in (CLASSIC_BYTES, 0):
        monkeypatch.setattr(tiff, "CLASSIC_BYTES", room)
        found = read_image(io.BytesIO(encoded(levels(), Metadata(exif=exif)))).metadata
        assert found.dpi == pytest.approx((254, 127))
    assert read_image(io.BytesIO(encoded(levels()))).metadata == Metadata()


@pytest.mark.parametrize("channels", [4, 5])
def test_16_bit_cmyk_is_rounded_with_a_note(channels: int) -> None:
    ink = deep_levels(6, 8, channels) // 257 * 257
    file = io.BytesIO()
    extra = ["unassalpha"] if channels == 5 else None
    tifffile.imwrite(file, ink, photometric="separated", extrasamples=extra)
    image = read_image(file)
    expected = Image.frombytes("CMYK", (8, 6), (ink[..., :4] // 257).astype(np.uint8).tobytes()).convert("RGB")
    assert np.array_equal(image.rgb, np.asarray(expected))
    assert image.notes[-1] == "more than 8 bits a channel were read as 8"


def test_cielab_is_read() -> None:
    file = io.BytesIO()
    Image.new("LAB", (8, 6), (137, 128, 128)).save(file, "TIFF", compression="tiff_lzw")  # middle grey
    assert np.abs(read_image(file).rgb.astype(int) - 128).max() <= 2


def test_loaders_that_libvips_does_not_trust_are_blocked() -> None:
    read_image(io.BytesIO(encoded(levels())))
    with pytest.raises(pyvips.Error):
        pyvips.Image.new_from_buffer(b'<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>', "")


def test_four_gigabytes_of_pixels_become_a_bigtiff() -> None:
    side = 32_768
    assert side * Layout(side, side).row_bytes < CLASSIC_BYTES
    assert side * Layout(side, side, alpha=True).row_bytes > CLASSIC_BYTES
    file = io.BytesIO()
    with pytest.raises(ZeroDivisionError):
        write_tiff(file, Layout(side, side, alpha=True), (1 // 0 for _ in range(1)), Metadata())  # type: ignore[misc]
    assert file.getvalue()[:4] == b"II+\0"
