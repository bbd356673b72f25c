"""Metadata besides EXIF, XMP and profile is carried where the format can hold it, and named where it is lost."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pcsr_cli.images.containers import C2PA, C2PA_BOX, iptc_resource, lasting_resources, raw_profile
from pcsr_cli.images.image import ImageData, Metadata
from pcsr_cli.images.read import read_image
from pcsr_cli.images.write import write_image
from pcsr_cli.images.xmp import GAIN_MAP
from tests.images import chunk, levels
from tests.images.test_exif import camera
from tests.images.test_metadata import simple

IPTC = iptc_resource(b"\x1c\x02\x19\0\3cat")
PREVIEW = b"8BIM\x04\x0c\0\0" + struct.pack(">I", 5) + b"photo\0"
EXTENDED = b"http://ns.adobe.com/xmp/extension/\0" + b"0123456789ABCDEF" * 2 + bytes(8) + b"<x:xmpmeta/>"


def saved(format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(levels(4, 6)).save(file, format, **options)
    return file.getvalue()


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    content = saved("JPEG")
    return content[:2] + b"".join(struct.pack(">BBH", 255, kind, len(c) + 2) + c for kind, c in segments) + content[2:]


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    content = saved("PNG")
    return content[:33] + b"".join(chunk(*each) for each in chunks) + content[33:]


def text(key: str, value: str) -> tuple[bytes, bytes]:
    return b"tEXt", f"{key}\0{value}".encode("latin-1")


def carried(content: bytes, folder: Path, suffix: str) -> ImageData:
    image = read_image(io.BytesIO(content))
    write_image(folder / f"out{suffix}", image, {"Software": "pcsr 1", "pcsr:model": "carn"})
    return read_image(folder / f"out{suffix}")


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png"])
def test_iptc_is_carried_between_jpeg_tiff_and_png(tmp_path: Path, suffix: str) -> None:
    content = jpeg((0xED, b"Photoshop 3.0\0" + PREVIEW + IPTC[:8]), (0xED, b"Photoshop 3.0\0" + IPTC[8:]))
    for _ in range(2):
        found = carried(content, tmp_path, suffix)
        assert found.metadata.iptc == IPTC
        assert found.notes == ()
        content = (tmp_path / f"out{suffix}").read_bytes()
        assert b"photo\0" not in content


def test_iptc_in_its_own_tag_of_a_tiff_is_found() -> None:
    assert read_image(io.BytesIO(saved("TIFF", tiffinfo={33723: b"\x1c\x02\x19\0\3cat"}))).metadata.iptc == IPTC


def test_text_and_comments_are_carried(tmp_path: Path) -> None:
    parameters = (("parameters", "a cät, Steps: 20"), ("Comment", "by hand"), ("Software", "GIMP"))
    found = carried(png(*(text(*pair) for pair in parameters)), tmp_path, ".png")
    own = (("Software", "pcsr 1"), ("pcsr:model", "carn"))
    assert set(found.metadata.text) == {*parameters[:2]}
    with Image.open(tmp_path / "out.png") as image:
        assert [(key, value) for key, value in image.text.items() if key.startswith("pcsr:")] == [own[1]]  # type: ignore[attr-defined]
    assert (tmp_path / "out.png").read_bytes().count(b"GIMP") == 1
    comments = jpeg((0xFE, b"by hand"), (0xFE, "früh".encode("latin-1")))
    assert carried(comments, tmp_path, ".jpg").metadata.text == (("Comment", "by hand\nfrüh"),)
    assert carried(comments, tmp_path, ".gif").metadata.text == (("Comment", "by hand\nfrüh"),)
    assert carried((tmp_path / "out.gif").read_bytes(), tmp_path, ".png").metadata.text[0][1] == "by hand\nfrüh"


def test_extended_xmp_stays_in_a_jpeg(tmp_path: Path) -> None:
    found = carried(jpeg((0xE1, EXTENDED), (0xE1, EXTENDED)), tmp_path, ".jpg")
    assert found.metadata.extended_xmp == 2 * (b"\xff\xe1" + struct.pack(">H", len(EXTENDED) + 2) + EXTENDED)
    assert found.notes == ()


def test_profiles_in_the_text_of_a_png_are_read(tmp_path: Path) -> None:
    xmp = b"<x:xmpmeta>tiff:Orientation='1'</x:xmpmeta>"
    chunks = [
        raw_profile("xmp", xmp),
        raw_profile("exif", b"Exif\0\0" + camera(orientation=6)),
        raw_profile("iptc", IPTC),
    ]
    image = read_image(io.BytesIO(png(*(text(*pair) for pair in chunks))))
    assert image.size == (6, 4)
    assert (image.metadata.xmp, image.metadata.iptc, image.metadata.text) == (xmp, IPTC, ())
    assert b"JANE DOE" in (image.metadata.exif or b"")
    segment = raw_profile("APP1", b"http://ns.adobe.com/xap/1.0/\0" + xmp)
    assert read_image(io.BytesIO(png(text(*segment)))).metadata.xmp == xmp
    broken = ("Raw profile type xmp", "no digits\n\n\nxyz")
    assert read_image(io.BytesIO(png(text(*broken)))).metadata.text == (broken,)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_pixel_aspect_ratio_is_carried(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = simple(orientation).tobytes().removeprefix(b"Exif\0\0")
    found = carried(png((b"pHYs", struct.pack(">IIB", 40, 30, 0)), (b"eXIf", exif)), tmp_path, suffix).metadata
    assert found.aspect == ((4, 3) if orientation == 1 else (3, 4))
    assert read_image(io.BytesIO(png((b"pHYs", struct.pack(">IIB", 3, 3, 0))))).metadata.aspect is None


def webp(kind: bytes) -> bytes:
    content = saved("WEBP", xmp=b"<x/>") + kind + struct.pack("<I", 4) + b"more"
    return content[:4] + struct.pack("<I", len(content) - 8) + content[8:]


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


@pytest.mark.parametrize(
    ("make", "lost"),
    [
        (lambda: jpeg((0xEB, b"JP\0\1" + box(b"jumb", b"jumdc2pa"))), C2PA),
        (lambda: png((b"caBX", b"jumb")), C2PA),
        (lambda: webp(b"C2PA"), C2PA),
        (lambda: saved("AVIF") + box(b"uuid", C2PA_BOX + b"more"), C2PA),
        (lambda: saved("TIFF", tiffinfo={52545: b"jumb"}), C2PA),
        (lambda: webp(b"ABCD"), "the ABCD chunk"),
        (lambda: jpeg((0xE2, b"urn:iso:std:iso:ts:21496:-1\0more")), GAIN_MAP),
        (lambda: jpeg((0xE1, b"FLIR\0\1\2")), "the APP1 segment FLIR"),
        (lambda: jpeg((0xE6, b"GoPro\0more"), (0xE5, b"\1\2")), "the APP6 segment GoPro, the APP5 segment"),
        (lambda: png((b"abCd", b"more"), (b"abCd", b"more"), (b"tIME", bytes(7))), "the abCd chunk"),
        (lambda: saved("MPO", save_all=True, append_images=[Image.new("RGB", (6, 4))]), "further images"),
        (lambda: saved("TIFF", tiffinfo={33550: (1.0, 1.0, 0.0)}), "the georeference of the pixels"),
    ],
)
def test_what_no_result_has_is_named(make: Callable[[], bytes], lost: str) -> None:
    assert read_image(io.BytesIO(make())).notes == (f"the result lacks {lost}",)


def test_of_many_losses_only_some_are_named() -> None:
    notes = read_image(io.BytesIO(jpeg(*((0xE1, b"X%d\0" % number) for number in range(20))))).notes
    assert notes[0].endswith("the APP1 segment X7, and others")


def test_xmp_and_a_gain_map_in_boxes_of_jpeg_xl_are_found() -> None:
    pytest.importorskip("pillow_jxl")
    content = saved("JXL", xmp=b"<x:xmpmeta/>", lossless=True)
    assert read_image(io.BytesIO(content)).metadata == Metadata(
        icc=read_image(io.BytesIO(content)).metadata.icc, xmp=b"<x:xmpmeta/>"
    )
    assert read_image(io.BytesIO(content + box(b"jhgm", b"more"))).notes == (f"the result lacks {GAIN_MAP}",)


def test_damaged_resources_end_at_the_damage() -> None:
    assert lasting_resources(IPTC + b"8BIM\x04\x05\0\0\xff\xff\xff\xff") == IPTC
    for size in range(len(IPTC)):
        assert lasting_resources(IPTC[:size]) in {None, IPTC}
