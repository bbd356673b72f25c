"""PNG files that are written row by row can be read by any decoder."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pcsr_cli.errors import InputError
from pcsr_cli.images import png as png_stream
from pcsr_cli.images.image import Layout, Metadata, Pixels
from pcsr_cli.images.png import PngEncoder
from pcsr_cli.images.read import read_image, read_layout
from tests.failing import fails
from tests.images import chunk, deep_levels, levels

sides = st.integers(1, 40)


def encoded(
    pixels: Pixels, metadata: Metadata | None = None, step: int = 1000, compression: int | None = None
) -> bytes:
    height, width, channels = pixels.shape
    file = io.BytesIO()
    layout = Layout(height, width, channels < 3, channels in {2, 4}, 8 * pixels.itemsize)
    described = replace(metadata or Metadata(), text=(("Software", "pcsr"), ("model", "Köln ✓")))
    stream = PngEncoder(file, layout, described, compression)
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
    assert image.info["model"] == "Köln ✓"
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
        PngEncoder(Full(), Layout(2, 2), Metadata())


def drawn(*chunks: bytes, depth: int = 8, colour: int = 2, row: bytes = bytes(range(12))) -> bytes:
    """A PNG of two rows with further chunks before the pixels."""
    width = len(row) * 8 // (depth * {0: 1, 2: 3, 4: 2}[colour])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 2, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(2 * (b"\0" + row)))
    return png_stream.SIGNATURE + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("depth", "row", "clear"),
    [
        (1, b"\xf0", 1),
        (2, b"\xe4", 2),
        (4, b"\x9c", 9),
        (8, b"\x07\x09", 7),
        (16, b"\x07\x09\0\0", 0x0709),
        (2, b"\xe4", 0xFFFE),  # only the bits of the depth count
        (8, b"\x07\x09", 0x0107),
    ],
)
def test_one_transparent_grey_of_any_depth(tmp_path: Path, depth: int, row: bytes, clear: int) -> None:
    (tmp_path / "in.png").write_bytes(drawn(chunk(b"tRNS", struct.pack(">H", clear)), depth=depth, colour=0, row=row))
    image = read_image(tmp_path / "in.png")
    values = [
        int.from_bytes(row) >> (len(row) * 8 - depth * (at + 1)) & 2**depth - 1 for at in range(len(row) * 8 // depth)
    ]
    assert image.alpha is not None
    assert (image.alpha[0] == 0).tolist() == [value == clear & 2**depth - 1 for value in values]
    assert read_layout(tmp_path / "in.png") == image.layout


@pytest.mark.parametrize(("depth", "clear"), [(8, (3, 4, 5)), (8, (0x0103, 4, 5)), (16, (0x0607, 0x0809, 0x0A0B))])
def test_one_transparent_colour(depth: int, clear: tuple[int, int, int]) -> None:
    image = read_image(io.BytesIO(drawn(chunk(b"tRNS", struct.pack(">HHH", *clear)), depth=depth)))
    assert image.alpha is not None
    assert (image.alpha[0] == 0).tolist() == [False, True] + [False] * (len(image.alpha[0]) - 2)


LONG = b"a node of a workflow " * 60_000


@pytest.mark.parametrize("depth", [8, 16])
def test_large_texts_and_profiles_are_read(depth: int) -> None:
    profile = np.random.default_rng(0).bytes(1_300_000)
    content = drawn(
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG)),
        chunk(b"iCCP", b"a name\0\0" + zlib.compress(profile)),
        depth=depth,
    )
    image = read_image(io.BytesIO(content))
    assert image.notes == ()
    assert image.metadata.xmp == LONG
    assert image.metadata.icc == profile


@pytest.mark.parametrize(
    ("damaged", "name"),
    [
        (chunk(b"tEXt", b"Title\0text")[:-1] + b"!", "tEXt"),
        (chunk(b"gAMA", b"\0\0\1\1")[:-1] + b"!", "gAMA"),
        (chunk(b"prVt", b"of a program")[:-1] + b"!", "prVt"),
        (chunk(b"zTXt", b"Title\0\0no deflate"), "zTXt"),
        (chunk(b"iTXt", b"Title"), "iTXt"),
        (chunk(b"iCCP", b"a name\0\0" + zlib.compress(LONG)[:-9]), "iCCP"),
        (chunk(b"zTXt", b"Title\0\0" + zlib.compress(bytes(png_stream.MAX_TEXT + 1))), "zTXt"),
    ],
)
def test_damaged_or_excessive_chunks_beside_the_pixels_are_dropped_with_a_note(damaged: bytes, name: str) -> None:
    image = read_image(io.BytesIO(drawn(damaged)))
    assert image.size == (2, 4)
    assert len(image.notes) == 1
    assert image.notes[0].startswith(f"the {name} chunk is damaged")


def test_texts_are_limited_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_stream, "MAX_TEXTS", 50)
    image = read_image(io.BytesIO(drawn(*(chunk(b"tEXt", b"Title\0" + bytes([number]) * 9) for number in range(5)))))
    assert set(image.notes) == {"the tEXt chunk is damaged or too large and was dropped"}
    assert len(image.notes) == 4


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND"])
def test_a_wrong_checksum_of_pixels_is_damage(kind: bytes) -> None:
    content = bytearray(drawn())
    at = content.index(kind)
    content[at + 4 + int.from_bytes(content[at - 4 : at])] ^= 1
    with fails(InputError, f"the checksum of the {kind.decode()} chunk is wrong"):
        read_image(io.BytesIO(content))


def test_an_unknown_type_of_colours_is_an_invalid_header() -> None:
    header = drawn()[16:25] + bytes((5, 0, 0, 0))
    with fails(InputError, "is truncated or damaged: the header is invalid."):
        read_image(io.BytesIO(drawn().replace(drawn()[8:33], chunk(b"IHDR", header))))


@pytest.mark.parametrize(
    "content",
    [
        drawn().replace(zlib.compress(2 * (b"\0" + bytes(range(12)))), b""),
        drawn(chunk(b"\xff\x88aA", b"")),
        *(
            drawn().replace(drawn()[8:33], chunk(b"IHDR", drawn()[16:26] + bytes(numbers)))
            for numbers in ((1, 0, 0), (0, 1, 0), (0, 0, 2))
        ),
        drawn()[:-12],
        drawn()[:33] + chunk(b"IDAT", zlib.compress(2 * (b"\0" + bytes(range(12))))[:-4] + b"sum!") + drawn()[-12:],
        drawn()[:33] + chunk(b"IDAT", zlib.compress(2 * (b"\0" + bytes(range(12))))[:-4]) + drawn()[-12:],
        drawn()[:33] + chunk(b"IDAT", zlib.compress(bytes(25))) + drawn()[-12:],
        drawn()[:33] + chunk(b"IDAT", zlib.compress(bytes(10**8))) + drawn()[-12:],
    ],
    ids=[
        "no pixels",
        "name",
        "compression",
        "filters",
        "interlacing",
        "no end",
        "checksum",
        "no checksum",
        "few pixels",
        "many pixels",
    ],
)
def test_other_damage_is_an_error(content: bytes) -> None:
    with fails(InputError, "is truncated or damaged:"):
        read_image(io.BytesIO(content))


@pytest.mark.parametrize(
    ("depth", "colour", "bits"), [(1, 0, 1), (8, 0, 8), (8, 4, 16), (8, 3, 8), (8, 2, 24), (8, 6, 32), (16, 0, 16)]
)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 9), (17, 8)])
def test_the_size_of_interlaced_pixels(depth: int, colour: int, bits: int, size: tuple[int, int]) -> None:
    width, height = size
    passes = [(range(width)[x::across], range(height)[y::down]) for x, y, across, down in png_stream.INTERLACED]
    expected = sum(len(rows) * (1 + (len(row) * bits + 7) // 8) for row, rows in passes if row)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 1)
    assert png_stream._raw_bytes(header) == expected


def test_damaged_pixels_are_taken_on_request() -> None:
    content = encoded(levels(400, 300))
    with fails(InputError, "is truncated or damaged: the file ends too early"):
        read_image(io.BytesIO(content[:-900]))
    image = read_image(io.BytesIO(content[:-900]), accept_damaged=True)
    assert np.array_equal(image.rgb[:390], levels(400, 300)[:390])
    assert image.notes[0].startswith("the file is damaged (the file ends too early)")
