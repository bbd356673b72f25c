"""Metadata is kept, and adjusted to the result."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pcsr_cli.images.image import ImageData, Metadata
from pcsr_cli.images.metadata import resize_metadata, upright
from pcsr_cli.images.read import read_image, read_layout
from pcsr_cli.images.tiff import read_tags
from pcsr_cli.images.write import write_image
from tests.images import chunk, deep_levels, levels, save, save_deep

XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" tiff:ImageWidth="6"
 exif:PixelXDimension='6'><exif:PixelYDimension>4</exif:PixelYDimension></rdf:Description></x:xmpmeta>"""


def exif(orientation: int = 1) -> Image.Exif:
    tags = simple(orientation)
    tags[0x0100], tags[0x0101] = 6, 4
    tags[0x8769] = {0x9003: "2020:01:01 00:00:00", 0xA002: 6, 0xA003: 4, 0x927C: b"note of the maker"}
    tags[0x8825] = {1: "N", 2: (48.0, 8.0, 14.5)}
    return tags


def simple(orientation: int) -> Image.Exif:
    """Tags that Pillow can write into a TIFF file."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010F] = "Maker"
    return tags


def in_file(suffix: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    Image.init()
    Image.fromarray(levels(4, 6)).save(file, Image.EXTENSION[suffix], **options)
    return file


def tags_of(metadata: Metadata) -> Image.Exif:
    assert metadata.exif is not None
    tags = Image.Exif()
    tags.load(metadata.exif)
    return tags


def turned(orientation: int) -> np.ndarray[Any, Any]:
    """The upright image, by the definition of the EXIF standard."""
    pixels, across = levels(4, 6), levels(4, 6).swapaxes(0, 1)
    return {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: across,
        6: across[:, ::-1],
        7: across[::-1, ::-1],
        8: across[::-1],
    }[orientation]


def oriented_jpeg_xl(path: Path, orientation: int) -> None:
    """Write a lossless JPEG XL with the orientation in the codestream."""
    import pillow_jxl  # noqa: F401  (registers the format)

    Image.fromarray(levels(4, 6)).save(path, lossless=True)
    content = path.read_bytes()
    bits = "".join(f"{byte:08b}"[::-1] for byte in content)
    assert bits[31:48] == "00000100010010000", "another header than the one to be changed"
    added = "1" + f"{orientation - 1:03b}"[::-1] + "000"  # extra fields: orientation, and three absent ones
    bits = f"{bits[:32]}{added}{bits[33:41]}1{bits[41:44]}".ljust(56, "0") + bits[48:]
    path.write_bytes(bytes(int(bits[start : start + 8][::-1], 2) for start in range(0, len(bits), 8)))


def oriented(path: Path, container: str, orientation: int) -> None:
    """Write ``levels(4, 6)``, turned and mirrored so that the orientation in the container makes it upright."""
    tags: Any = simple(orientation)
    options: dict[str, Any] = {"exif": tags, "quality": 100, "subsampling": "4:4:4"}
    match container:
        case "JPEG XL":
            return oriented_jpeg_xl(path, orientation)
        case "a JPEG in JPEG XL":
            import pillow_jxl  # noqa: F401

            oriented(path.with_suffix(".jpg"), "JPEG", orientation)
            with Image.open(path.with_suffix(".jpg")) as image:
                image.save(path, lossless_jpeg=True)
            return None
        case "TIFF" | "PNG":
            options = {"exif": tags}
        case "WebP":
            options = {"exif": tags, "lossless": True}
        case "HEIC":
            import pillow_heif

            pillow_heif.register_heif_opener()
            options = {"exif": tags.tobytes(), "quality": -1, "matrix_coefficients": 0, "chroma": 444}  # irot and imir
        case "JPEG with XMP":
            options = {**options, "xmp": XMP.replace(b'Orientation="6"', b'Orientation="%d"' % orientation)}
            del options["exif"]
    Image.fromarray(levels(4, 6)).save(path, **options)
    return None


CONTAINERS = {
    "JPEG": ".jpg", "JPEG with XMP": ".jpg", "TIFF": ".tif", "WebP": ".webp", "PNG": ".png", "AVIF": ".avif",
    "HEIC": ".heic", "JPEG XL": ".jxl", "a JPEG in JPEG XL": ".jxl",
}  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.filterwarnings("ignore:Using JPEG reconstruction")
def test_orientation_is_applied_in_every_container(tmp_path: Path, container: str, orientation: int) -> None:
    path = tmp_path / f"in{CONTAINERS[container]}"
    if path.suffix in {".heic", ".jxl"}:
        pytest.importorskip({".heic": "pillow_heif", ".jxl": "pillow_jxl"}[path.suffix])
    oriented(path, container, orientation)
    image = read_image(path)
    away = np.abs(image.rgb.astype(int) - turned(orientation)).max()
    assert away <= (20 if ("JPEG" in container and container != "JPEG XL") or container == "AVIF" else 2)
    assert image.metadata.exif is None or 0x0112 not in tags_of(image.metadata)
    assert b'tiff:Orientation="1"' in (image.metadata.xmp or b'tiff:Orientation="1"')
    layout = read_layout(path)
    assert (layout.height, layout.width) == image.size


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
def test_the_orientation_in_the_exif_of_avif_and_heic_is_ignored(tmp_path: Path, suffix: str) -> None:
    """The standard has irot and imir instead. Cameras store both."""
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    tags = Image.Exif()
    tags[0x0113] = 6
    Image.fromarray(levels(4, 6)).save(tmp_path / f"in{suffix}", exif=tags)
    content = (tmp_path / f"in{suffix}").read_bytes()
    assert b"\x01\x13\0\3" in content
    (tmp_path / f"in{suffix}").write_bytes(content.replace(b"\x01\x13\0\3", b"\x01\x12\0\3"))
    assert read_image(tmp_path / f"in{suffix}").size == (4, 6)


def test_alpha_is_turned_too() -> None:
    alpha = levels(4, 6, 1)[..., 0]
    image = upright(ImageData(levels(4, 6), alpha), 6)
    assert image.alpha is not None
    assert np.array_equal(image.alpha, np.rot90(alpha, -1))


def test_invalid_orientations_are_ignored() -> None:
    for value in (0, 9, 300):
        assert np.array_equal(read_image(in_file(".png", exif=exif(value))).rgb, levels(4, 6))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif"])
def test_exif_is_kept_except_for_the_preview(suffix: str) -> None:
    tags = tags_of(read_image(in_file(suffix, exif=exif())).metadata)
    assert tags[0x010F] == "Maker"
    inner = tags.get_ifd(0x8769)
    assert inner[0x9003] == "2020:01:01 00:00:00"
    assert inner[0x927C] == b"note of the maker"
    assert tags.get_ifd(0x8825) == {1: "N", 2: (48.0, 8.0, 14.5)}
    assert not tags.get_ifd(0x0201)


def test_tags_about_the_tiff_file_are_dropped() -> None:
    tags = Image.Exif()
    tags[0x010F] = "Maker"
    metadata = read_image(in_file(".tif", exif=tags)).metadata
    assert set(tags_of(metadata)) == {0x010F}
    assert read_image(in_file(".tif")).metadata.exif is None


def test_sizes_in_metadata_are_updated() -> None:
    metadata = read_image(in_file(".jpg", exif=exif(), xmp=XMP)).metadata
    large = resize_metadata(metadata, 400, 600)
    inner = tags_of(large).get_ifd(0x8769)
    assert (inner[0xA002], inner[0xA003]) == (600, 400)
    assert not {0x0100, 0x0101} & set(tags_of(large))
    assert large.xmp is not None
    assert b'tiff:ImageWidth="600"' in large.xmp
    assert b"exif:PixelXDimension='600'" in large.xmp
    assert b"<exif:PixelYDimension>400<" in large.xmp


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_written_exif_has_the_size_of_the_file(tmp_path: Path, suffix: str) -> None:
    metadata = read_image(in_file(".jpg", exif=exif(6))).metadata
    write_image(tmp_path / f"out{suffix}", ImageData(levels(30, 20), metadata=metadata))
    with Image.open(tmp_path / f"out{suffix}") as image:
        tags = image.getexif()
        assert tags.get(0x0112, 1) == 1
        assert (tags.get_ifd(0x8769)[0xA002], tags.get_ifd(0x8769)[0xA003]) == (20, 30)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_xmp_is_kept_with_orientation_reset(suffix: str) -> None:
    options: dict[str, Any] = {"xmp": XMP}
    if suffix == ".png":
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options = {"pnginfo": chunks}
    if suffix == ".tif":
        options = {"tiffinfo": {700: XMP}}
    xmp = read_image(in_file(suffix, **options)).metadata.xmp
    assert xmp == XMP.replace(b'Orientation="6"', b'Orientation="1"')


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_resolution_is_kept_and_turned(suffix: str, orientation: int) -> None:
    options: dict[str, Any] = {} if suffix == ".bmp" else {"exif": simple(orientation)}
    dpi = read_image(in_file(suffix, dpi=(300, 150), **options)).metadata.dpi
    expected = (150, 300) if orientation == 6 and suffix != ".bmp" else (300, 150)
    assert dpi == pytest.approx(expected, abs=0.02)


def test_profiles_are_copied_byte_by_byte() -> None:
    for suffix in (".png", ".jpg", ".webp", ".tif", ".avif"):
        assert read_image(in_file(suffix, icc_profile=b"any profile")).metadata.icc == b"any profile"


def test_damaged_exif_is_dropped_alone() -> None:
    image = read_image(in_file(".png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    assert np.array_equal(image.rgb, levels(4, 6))
    assert image.metadata.exif is None
    assert image.notes == ("the EXIF is damaged and was dropped",)


def test_tags_of_bigtiff_are_read(tmp_path: Path) -> None:
    for big in (False, True):
        Image.fromarray(levels(4, 6)).save(tmp_path / "in.tif", big_tiff=big)
        with (tmp_path / "in.tif").open("rb") as file:
            tags = read_tags(file)
            assert tags is not None
            assert (tags[0x0100], tags[0x0102]) == (6, (8, 8, 8))


@pytest.mark.parametrize("deep", [False, True])
def test_metadata_after_the_pixels_of_a_png_is_read(tmp_path: Path, deep: bool) -> None:
    save_deep(tmp_path / "in.png", deep_levels(4, 6)) if deep else save(tmp_path / "in.png", levels(4, 6))
    content = (tmp_path / "in.png").read_bytes()
    tags = simple(6).tobytes().removeprefix(b"Exif\0\0")
    (tmp_path / "in.png").write_bytes(content[:-12] + chunk(b"eXIf", tags) + content[-12:])
    image = read_image(tmp_path / "in.png")
    assert image.depth == (16 if deep else 8)
    assert image.size == (6, 4)
    assert tags_of(image.metadata)[0x010F] == "Maker"


@pytest.mark.parametrize("make", ["CIELAB", "Zstandard"])
def test_tiffs_that_pillow_decodes_keep_their_metadata(make: str) -> None:
    file = io.BytesIO()
    if make == "CIELAB":
        tags = simple(6)
        tags[700] = XMP
        Image.new("LAB", (6, 4)).save(file, "TIFF", exif=tags)
    else:
        Image.fromarray(levels(4, 6)).save(file, "TIFF", exif=simple(6), compression="zstd")
    image = read_image(file)
    assert image.size == (6, 4)
    assert tags_of(image.metadata)[0x010F] == "Maker"
    assert make != "CIELAB" or b'Orientation="1"' in (image.metadata.xmp or b"")


def test_a_prefix_of_the_exif_in_a_png_is_skipped() -> None:
    content = in_file(".png").getvalue()
    image = read_image(io.BytesIO(content[:33] + chunk(b"eXIf", simple(6).tobytes()) + content[33:]))
    assert image.size == (6, 4) and image.notes == ()
    assert tags_of(image.metadata)[0x010F] == "Maker"
