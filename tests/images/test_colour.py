"""Colour spaces that a file states without a profile reach the result as a profile, or are noted."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from pcsr_cli.images.colour import ADOBE_RGB, PRIMARIES, SRGB, ColourSpace, hdr_of_profile, make_profile
from pcsr_cli.images.exif import EXIF, INTEROP, Directory, Exif, Value, read_exif
from pcsr_cli.images.formats import FORMATS, fit
from pcsr_cli.images.modes import to_srgb
from pcsr_cli.images.read import read_image
from pcsr_cli.images.write import write_image
from tests.images import levels
from tests.images.test_containers import box, png, saved

P3 = ColourSpace(PRIMARIES[12])
CHRM_P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
CHRM_SRGB = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
UNKNOWN = "the colour space that the file states is unknown, and the result states none"


def gamma(value: int) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", value)


def exif(colour_space: int | None, index: bytes = b"", chromaticities: tuple[int, ...] = ()) -> bytes:
    tags = Exif()
    photo = Directory({0x9000: Value(7, b"0232")}, {INTEROP: Directory({1: Value(2, index)})} if index else {})
    if colour_space is not None:
        photo.values[0xA001] = tags.value(3, colour_space)
    tags.main.inner = {EXIF: photo}
    if chromaticities:
        tags.main.values = {318: tags.value(5, 3127, 10000, 3290, 10000), 319: tags.value(5, *chromaticities)}
    return tags.tobytes()


def jpeg(block: bytes) -> bytes:
    return saved("JPEG", exif=b"Exif\0\0" + block)


def avif(primaries: int, transfer: int) -> bytes:
    content = saved("AVIF")
    at = content.index(b"colrnclx") + 8
    return content[:at] + struct.pack(">HH", primaries, transfer) + content[at + 4 :]


def heic(primaries: int, transfer: int) -> bytes:
    pytest.importorskip("pillow_heif").register_heif_opener()
    return saved("HEIF", color_primaries=primaries, transfer_characteristics=transfer)


def bmp(colours: tuple[float, ...], exponent: float, profile: bytes = b"") -> bytes:
    plain = saved("BMP")
    kind = b"DEBM" if profile else bytes(4)
    ends = struct.pack("<9I", *(round(number * 2**30) for number in colours))
    gammas = struct.pack("<3I", *[round(exponent * 65536)] * 3)
    start = 124 + len(plain) - 54
    head = struct.pack("<I", 124) + plain[18:54] + bytes(16) + kind + ends + gammas
    head += struct.pack("<4I", 4, start if profile else 0, len(profile), 0)
    return plain[:10] + struct.pack("<I", 14 + 124) + head + plain[54:] + profile


def jp2(profile: bytes) -> bytes:
    content = saved("JPEG2000")
    at = content.index(b"colr") - 4
    old = int.from_bytes(content[at : at + 4], "big")
    colr = box(b"colr", b"\2\0\0" + profile)
    header = content.index(b"jp2h") - 4
    size = int.from_bytes(content[header : header + 4], "big") + len(colr) - old
    return content[:header] + struct.pack(">I", size) + content[header + 4 : at] + colr + content[at + old :]


def chroma(points: tuple[tuple[float, float], ...]) -> tuple[int, ...]:
    return tuple(number for pair in points[1:] for value in pair for number in (round(value * 10000), 10000))


ENDS = tuple(value for x, y in PRIMARIES[12][1:] for value in (x, y, 1 - x - y))
STATEMENTS: dict[str, tuple[Callable[[], bytes], ColourSpace | None]] = {
    "gAMA": (lambda: png(gamma(100_000)), ColourSpace(gamma=1.0)),
    "gAMA and cHRM": (lambda: png(gamma(50_000), (b"cHRM", CHRM_P3)), ColourSpace(P3.points, 2.0)),
    "cHRM": (lambda: png((b"cHRM", CHRM_P3)), P3),
    "gAMA of sRGB": (lambda: png(gamma(45_455), (b"cHRM", CHRM_SRGB)), None),
    "sRGB above gAMA": (lambda: png(gamma(100_000), (b"sRGB", b"\0")), None),
    "cICP": (lambda: png(gamma(45_455), (b"cICP", bytes((12, 13, 0, 1)))), P3),
    "cICP of BT.2020": (lambda: png((b"cICP", bytes((9, 1, 0, 1)))), ColourSpace(PRIMARIES[9])),
    "cICP of sRGB": (lambda: png((b"cICP", bytes((1, 13, 0, 1)))), None),
    "nclx in AVIF": (lambda: avif(12, 13), P3),
    "nclx in HEIC": (lambda: heic(12, 13), P3),
    "nclx of BT.709": (lambda: avif(1, 1), None),
    "EXIF": (lambda: jpeg(exif(2)), ADOBE_RGB),
    "Interop": (lambda: jpeg(exif(0xFFFF, b"R03\0")), ADOBE_RGB),
    "Interop in PNG": (lambda: png((b"eXIf", exif(0xFFFF, b"R03\0"))), ADOBE_RGB),
    "EXIF of sRGB": (lambda: jpeg(exif(1, b"R98\0", chroma(P3.points))), None),
    "chromaticities in EXIF": (lambda: jpeg(exif(0xFFFF, b"", chroma(P3.points))), ColourSpace(P3.points, 2.2)),
    "TIFF": (
        lambda: saved("TIFF", tiffinfo={318: P3.points[0], 319: tuple(v for pair in P3.points[1:] for v in pair)}),
        ColourSpace(P3.points, 2.2),
    ),
    "head of a BMP": (lambda: bmp(ENDS, 1.8), ColourSpace(P3.points, 1.8)),
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statements_become_profiles(statement: str) -> None:
    make, expected = STATEMENTS[statement]
    image = read_image(io.BytesIO(make()))
    assert image.notes == ()
    if expected is None:
        assert image.metadata.icc is None
        return
    assert image.metadata.icc is not None
    found = ImageCms.ImageCmsProfile(io.BytesIO(image.metadata.icc)).profile
    wanted = ImageCms.ImageCmsProfile(io.BytesIO(make_profile(expected, grey=False) or b"")).profile
    for name in ("red_primary", "green_primary", "blue_primary"):
        assert np.allclose(getattr(found, name), getattr(wanted, name), atol=1e-3)
    curve = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3))
    results = [to_srgb(curve, icc or b"") for icc in (image.metadata.icc, make_profile(expected, grey=False))]
    assert results[0] is not None and results[1] is not None
    assert np.abs(np.asarray(results[0]).astype(int) - np.asarray(results[1])).max() <= 1


def test_profiles_that_pillow_does_not_read_are_found() -> None:
    profile = make_profile(P3, grey=False) or b""
    assert read_image(io.BytesIO(bmp((0.0,) * 9, 0, profile))).metadata.icc == profile
    assert read_image(io.BytesIO(jp2(profile))).metadata.icc == profile


@pytest.mark.parametrize(("space", "grey"), [(P3, False), (ADOBE_RGB, False), (ColourSpace(gamma=1.0), True)])
def test_a_profile_gives_the_colours_of_its_definition(space: ColourSpace, grey: bool) -> None:
    pixels = np.array([[(90, 120, 150), (200, 190, 180), (30, 20, 25)]], np.uint8)
    pixels = pixels[..., :1].repeat(3, axis=2) if grey else pixels
    converted = to_srgb(Image.fromarray(pixels[..., 0] if grey else pixels), make_profile(space, grey) or b"")
    assert converted is not None
    values = pixels / 255
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    linear = linear if space.gamma is None else values**space.gamma
    linear = linear @ (np.linalg.inv(to_xyz(SRGB)) @ to_xyz(space.points)).T
    expected = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, linear * 12.92) * 255
    assert np.abs(np.asarray(converted) - expected).max() <= 1.5


def to_xyz(points: tuple[tuple[float, float], ...]) -> np.ndarray:
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in points]).T
    matrix: np.ndarray = columns[:, 1:] * np.linalg.solve(columns[:, 1:], columns[:, 0])
    return matrix


def test_a_grey_image_gets_a_grey_profile(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(levels(4, 6)[..., 0]).save(file, "PNG")
    content = file.getvalue()
    chunk = png(gamma(100_000))[33:49]
    image = read_image(io.BytesIO(content[:33] + chunk + content[33:]))
    assert image.grey and image.metadata.icc is not None
    assert image.metadata.icc[16:20] == b"GRAY"
    write_image(tmp_path / "out.png", image)
    assert read_image(tmp_path / "out.png").metadata.icc == image.metadata.icc


@pytest.mark.parametrize(
    "make",
    [
        lambda: png((b"cICP", bytes((77, 13, 0, 1)))),
        lambda: avif(12, 9),
        lambda: png((b"cHRM", bytes(32))),
        lambda: jpeg(exif(0xFFFF, b"", (1, 3) * 6)),
    ],
)
def test_unknown_colour_spaces_are_noted(make: Callable[[], bytes]) -> None:
    image = read_image(io.BytesIO(make()))
    assert image.metadata.icc is None
    assert image.notes == (UNKNOWN,)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: png((b"cICP", bytes((9, 16, 0, 1)))), "PQ"),
        (lambda: avif(9, 18), "HLG"),
        (lambda: heic(9, 16), "PQ"),
    ],
)
def test_hdr_is_noted_and_stays_in_a_png(make: Callable[[], bytes], name: str, tmp_path: Path) -> None:
    image = read_image(io.BytesIO(make()))
    assert image.notes == (f"the image is HDR ({name}), and its values were enlarged without a conversion",)
    assert image.metadata.cicp == bytes((9, {"PQ": 16, "HLG": 18}[name], 0, 1))
    write_image(tmp_path / "out.png", image)
    assert read_image(tmp_path / "out.png").metadata.cicp == image.metadata.cicp
    for format in FORMATS[1:]:
        assert (
            f"{format.name} cannot hold the statement that the image is HDR"
            in fit(image.layout, format, image.metadata)[1]
        )


def test_a_profile_of_hdr_is_noted() -> None:
    profile = bytearray(make_profile(P3, grey=False) or b"")
    at = struct.unpack_from(">I", profile, 132 + 4)[0]
    profile[132:136], profile[at : at + 12] = b"cicp", b"cicp\0\0\0\0\x09\x10\0\1"
    assert hdr_of_profile(bytes(profile)) == "PQ"
    assert "HDR (PQ)" in read_image(io.BytesIO(saved("PNG", icc_profile=bytes(profile)))).notes[0]
    assert hdr_of_profile(b"") is None and hdr_of_profile(make_profile(P3, grey=True) or b"") is None
    assert hdr_of_profile(bytes(128) + b"\xff" * 200) is None


def test_the_exif_of_converted_colours_states_srgb(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    write_image(tmp_path / "out.jxl", read_image(io.BytesIO(jpeg(exif(0xFFFF, b"R03\0")))))
    found = read_exif(read_image(tmp_path / "out.jxl").metadata.exif or b"")
    assert found.numbers(found.photo.values[0xA001]) == (1,)
    assert not found.photo.inner
