"""TIFF and BigTIFF files that are written row by row can be read by any decoder."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import pyvips
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pcsr_cli.errors import InputError
from pcsr_cli.images import tiff
from pcsr_cli.images.exif import Exif, Value, read_exif
from pcsr_cli.images.image import Layout, Metadata, Pixels
from pcsr_cli.images.read import read_image, read_layout
from pcsr_cli.images.tiff import CLASSIC_BYTES, write_tiff
from tests.failing import fails
from tests.images import deep_levels, levels, save_deep, tagged_tiff
from tests.images.test_exif import camera

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


@pytest.mark.parametrize("room", [CLASSIC_BYTES, 0])
@pytest.mark.parametrize("compression", [None, 0])
def test_a_file_has_the_byte_order_of_its_exif(
    room: int, compression: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff, "CLASSIC_BYTES", room)
    pixels = deep_levels(40, 30)
    for order in "<>":
        content = encoded(pixels, Metadata(exif=camera(order)), compression=compression)
        assert np.array_equal(read_image(io.BytesIO(content)).rgb, pixels)
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            assert (file.byteorder, file.is_bigtiff) == (order, room == 0)
            assert np.array_equal(file.asarray(), pixels)
            assert file.pages.first.tags["ExifTag"].value["UserComment"] == "a cat, Steps: 20"
            assert file.pages.first.tags["GPSTag"].value["GPSLatitudeRef"] == "N"


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


STRIP = levels(6, 7).tobytes()


@pytest.mark.parametrize(
    "content",
    [
        tagged_tiff((6, 7, 3), STRIP, {50706: 0x01040000}),  # DNGVersion
        tagged_tiff((6, 7, 3), STRIP, {254: 1, 330: 8}),  # a preview with the image in another directory
        tagged_tiff((6, 7, 3), STRIP, {262: 34892}),  # linear data of a sensor
        tagged_tiff((6, 7, 1), STRIP[:42], {262: 32803}),  # a colour filter array
        b"FUJIFILMCCD-RAW 0201" + bytes(90),
        b"\0\0\0\x18ftypcrx \0\0\0\1" + bytes(90),
        b"IIRO\x08\0\0\0" + bytes(90),
    ],
)
def test_raw_files_are_refused_by_name(content: bytes) -> None:
    with fails(InputError, "is a camera's raw file", "raw converter"):
        read_image(io.BytesIO(content))


@pytest.mark.parametrize("name", ["in.NEF", "in.dng"])
def test_a_raw_suffix_is_enough(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(tagged_tiff((6, 7, 3), STRIP, {}))
    with fails(InputError, f"{tmp_path / name} is a camera's raw file"):
        read_image(tmp_path / name)


def test_a_reduced_first_page_is_noted() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(levels(6, 7), photometric="rgb", subfiletype=1)
        writer.write(levels(12, 14), photometric="rgb")
    assert read_image(file).notes == ("only the first of 2 pages was used, which is a reduced version of another",)


def test_many_pages_take_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for seed in range(4):
            writer.write(levels(6, 7, seed=seed), photometric="rgb")
    monkeypatch.setattr(tiff, "MANY_PAGES", 2)
    image = read_image(file)
    assert np.array_equal(image.rgb, levels(6, 7))
    assert image.notes == ("only the first of 4 pages was used",)
    monkeypatch.setattr(tiff, "MAX_PAGES", 3)
    assert read_image(file).notes == ("only the first of 3 or more pages was used",)


def test_pages_in_a_circle_end() -> None:
    content = bytearray(tagged_tiff((6, 7, 3), STRIP, {}))
    at = 8 + 2 + 12 * 9
    content[at : at + 4] = (8).to_bytes(4, "little")
    with fails(InputError, "is truncated or damaged"):
        read_image(io.BytesIO(content))
    assert np.array_equal(read_image(io.BytesIO(content), accept_damaged=True).rgb, levels(6, 7))


@pytest.mark.parametrize("content", [b"Jane\0John\0", b"Jane", b"Jane\0\0\0\0", bytes(20)])
def test_text_that_libtiff_warns_of_is_no_damage(content: bytes) -> None:
    exif = Exif()
    exif.main.values = {33432: Value(2, content), 271: Value(2, content)}
    found = read_image(io.BytesIO(encoded(levels(), Metadata(exif=exif.tobytes()))))
    assert found.notes == ()
    assert read_exif(found.metadata.exif or b"").main.values[33432].content == content


@pytest.mark.parametrize("channels", [4, 5])
def test_channels_without_a_meaning_are_noted(channels: int) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, levels(6, 7, channels), photometric="rgb", extrasamples=["unspecified"] * (channels - 3))
    image = read_image(file)
    assert np.array_equal(image.channels(), levels(6, 7, channels)[..., :3])
    assert image.notes == (f"the last {channels - 3} of {channels} channels were dropped",)


def test_a_channel_that_only_the_decoder_adds_is_not_noted() -> None:
    ycbcr = 6
    assert read_image(io.BytesIO(tagged_tiff((6, 7, 3), STRIP, {262: ycbcr}))).notes == ()


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({259: 6}, "Old-style JPEG compression"),
        ({259: 34712}, "Compression scheme 34712"),  # JPEG 2000
        ({259: 65000}, "Compression scheme 65000"),
    ],
)
def test_an_unsupported_compression_is_named(tags: dict[int, int], reason: str) -> None:
    with fails(InputError, "is of a kind that cannot be read:", reason):
        read_image(io.BytesIO(tagged_tiff((6, 7, 3), STRIP, tags)))


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_numbers_are_named(bits: int) -> None:
    with fails(InputError, "Images with signed numbers are not supported."):
        read_image(io.BytesIO(tagged_tiff((3, 7, 3), STRIP, {258: bits, 339: 2})))


@pytest.mark.skipif(os.name == "nt", reason="names are text")
@pytest.mark.parametrize("suffix", [b".tif", b".png"])
def test_a_name_need_not_be_text(tmp_path: Path, suffix: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9" + suffix))
    save_deep(tmp_path / f"in{suffix.decode()}", deep_levels()).rename(path)
    assert np.array_equal(read_image(path).rgb, deep_levels())
    assert read_layout(path).depth == 16


def test_a_damaged_jpeg_in_a_tiff_is_an_error() -> None:
    file = io.BytesIO()
    Image.fromarray(levels(40, 48)).save(file, "TIFF", compression="jpeg")
    assert read_image(file).size == (40, 48)
    content = bytearray(file.getvalue())
    at = content.index(b"\xff\xda") + 300
    content[at : at + 2] = b"\xff\xd9"  # an early end
    with fails(InputError, "is truncated or damaged:"):
        read_image(io.BytesIO(content))
    assert read_image(io.BytesIO(content), accept_damaged=True).size == (40, 48)


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
