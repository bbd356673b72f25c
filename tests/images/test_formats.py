"""The table of formats, the choice among them, their limits, and docs/formats.md."""

import math
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.images import formats
from pcsr_cli.images.formats import (
    FORMATS,
    PLUG_IN_FORMATS,
    Format,
    SaveOptions,
    check_animated,
    check_options,
    choose_format,
    fit,
    keepable,
    known_suffixes,
    load_plug_in,
    readable_suffixes,
)
from pcsr_cli.images.image import Layout, Metadata
from pcsr_cli.images.read import MAX_PIXELS, READABLE
from tests.failing import fails

BY_NAME = {format.name: format for format in FORMATS}
PNG, JPEG, WEBP, TIFF, BMP, AVIF, GIF = (
    BY_NAME[name] for name in ("PNG", "JPEG", "WebP", "TIFF", "BMP", "AVIF", "GIF")
)


class TestChoosing:
    @pytest.mark.parametrize(
        ("output", "name", "found"),
        [
            ("out.PNG", None, "PNG"),
            ("out.jpeg", None, "JPEG"),
            ("out.tif", None, "TIFF"),
            ("out.png", "webp", "WebP"),
            ("out", ".tif", "TIFF"),
            (None, None, "PNG"),
            (None, "jpg", "JPEG"),
            (None, "JPEG XL", "JPEG XL"),
            (None, "heic", "HEIC"),
        ],
    )
    def test_a_name_takes_precedence_over_the_suffix(self, output: str | None, name: str | None, found: str) -> None:
        if found in {"JPEG XL", "HEIC"}:
            pytest.importorskip(BY_NAME[found].module)
        assert choose_format(None if output is None else Path(output), name).name == found

    def test_unknown_formats_are_refused(self) -> None:
        with fails(RefusedOutputError, "is not that of a known format"):
            choose_format(Path("out.xyz"))
        with fails(UsageError, "Unknown output format"):
            choose_format(Path("out.png"), "xyz")

    def test_an_error_names_the_missing_plug_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(formats, "find_spec", lambda _: None)
        plug_ins = ((".heic", "HEIC", "pillow-heif"), (".jxl", "JPEG XL", "pillow-jxl-plugin"))
        for suffix, name, package in plug_ins:
            with fails(UsageError, f"{name} needs a plug-in that is not installed.", f"Run: pip install {package}."):
                choose_format(Path(f"out{suffix}"))
        assert not {".heic", ".jxl"} & set(known_suffixes())
        assert {".png", ".apng", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif"} <= set(known_suffixes())


class TestOptions:
    def test_options_of_the_format_are_accepted(self) -> None:
        for format, options in (
            (JPEG, SaveOptions(quality=1)),
            (WEBP, SaveOptions(lossless=True)),
            (PNG, SaveOptions(compression=9, lossless=True, strip=True)),
            (TIFF, SaveOptions(compression=0)),
            (BMP, SaveOptions()),
        ):
            check_options(format, options)

    def test_errors_name_the_formats_with_the_option(self) -> None:
        with fails(UsageError, "has no quality setting."):
            check_options(PNG, SaveOptions(quality=90))
        with fails(UsageError, "has no lossless setting."):
            check_options(JPEG, SaveOptions(lossless=True))
        with fails(UsageError, "WebP has no compression setting.", "Write PNG or TIFF."):
            check_options(WEBP, SaveOptions(compression=1))
        with fails(UsageError, "Lossless files have no quality setting."):
            check_options(WEBP, SaveOptions(lossless=True, quality=90))

    def test_values_out_of_range_are_refused(self) -> None:
        for quality in (0, 101):
            with fails(UsageError, f"Invalid quality {quality}."):
                check_options(JPEG, SaveOptions(quality=quality))
        with fails(UsageError, "Invalid compression 10."):
            check_options(PNG, SaveOptions(compression=10))


class TestFitting:
    @pytest.mark.parametrize(
        ("format", "longest"),
        [(JPEG, 65_500), (WEBP, 16_383), (AVIF, 32_768), (GIF, 65_535)],
        ids=lambda x: str(x)[:12],
    )
    def test_long_sides_are_refused(self, format: Format, longest: int) -> None:
        fit(Layout(1, longest), format)
        for layout in (Layout(1, longest + 1), Layout(longest + 1, 1)):
            with fails(RefusedOutputError, "pixels per side, not"):
                fit(layout, format)

    def test_errors_name_formats_without_the_limit(self) -> None:
        message = "WebP holds at most 16,383 pixels per side, not 16384x2."
        with fails(RefusedOutputError, message, "Write a .png or .tif."):
            fit(Layout(2, 16_384), WEBP)

    @pytest.mark.parametrize("format", [JPEG, BMP], ids=["JPEG", "BMP"])
    def test_formats_without_transparency_are_refused(self, format: Format) -> None:
        with fails(RefusedOutputError, "has no transparency, but the image has."):
            fit(Layout(1, 1, alpha=True), format)

    def test_large_areas_are_refused(self) -> None:
        for side, format in ((40_000, BMP), (20_000, AVIF)):
            with fails(RefusedOutputError, "cannot hold"):
                fit(Layout(side, side), format)

    def test_png_and_tiff_have_no_limit(self) -> None:
        for format in (PNG, TIFF):
            for depth in (8, 16):
                assert fit(Layout(100_000, 100_000, alpha=True, depth=depth), format) == (
                    Layout(100_000, 100_000, alpha=True, depth=depth),
                    (),
                )

    def test_16_bits_become_8_with_a_note(self) -> None:
        fitting, notes = fit(Layout(2, 3, depth=16), JPEG)
        assert fitting == Layout(2, 3, depth=8)
        assert notes == ("16 bits a channel were rounded to 8, which is all that JPEG holds",)

    def test_palettes_are_noted(self) -> None:
        assert fit(Layout(2, 3), GIF)[1] == ("GIF has 256 colours",)
        assert fit(Layout(2, 3, grey=True), GIF)[1] == ()


class TestKeeping:
    SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    EVERYTHING = Metadata(
        SRGB, b"exif", b"xmp", (300, 300), (("parameters", "Steps: 20"), ("Comment", "a cat")), b"8BIM", None, (4, 3)
    )

    def test_supported_metadata_is_kept(self) -> None:
        assert keepable(self.EVERYTHING, PNG) == (self.EVERYTHING, ())
        extended = Metadata(text=(("Comment", "a cat"),), extended_xmp=b"more")
        assert keepable(extended, JPEG) == (extended, ())

    @pytest.mark.parametrize(
        ("format", "lost"),
        [
            (JPEG, "the text (parameters)"),
            (TIFF, "the text (parameters, Comment)"),
            (WEBP, "the IPTC, the pixel aspect ratio, the text (parameters, Comment)"),
            (GIF, "the EXIF, the XMP, the IPTC, the pixel aspect ratio, the text (parameters)"),
            (BMP, "the EXIF, the XMP, the IPTC, the pixel aspect ratio, the text (parameters, Comment)"),
        ],
    )
    def test_one_note_names_what_is_lost(self, format: Format, lost: str) -> None:
        assert keepable(self.EVERYTHING, format)[1][-1] == f"{format.name} cannot hold {lost}"
        assert fit(Layout(1, 1), format, self.EVERYTHING)[1][-1] == f"{format.name} cannot hold {lost}"

    def test_many_keywords_are_not_all_named(self) -> None:
        text = tuple((f"key{number}", "") for number in range(10))
        assert "key7, and others)" in keepable(Metadata(text=text), WEBP)[1][0]

    def test_the_xmp_does_not_refer_to_lost_extended_xmp(self) -> None:
        metadata = Metadata(
            xmp=b"<rdf:Description xmpNote:HasExtendedXMP='1234' GDepth:Near='1' dc:a='b'/>", extended_xmp=b"more"
        )
        kept, notes = keepable(metadata, PNG)
        assert kept == Metadata(xmp=b"<rdf:Description dc:a='b'/>")
        assert notes == ("PNG cannot hold the extended XMP",)

    def test_only_converted_colours_are_called_converted(self) -> None:
        converted = ("the colours were converted to sRGB, because BMP is written without this profile",)
        dropped = ("the profile was dropped, because it is damaged or for another kind of colours",)
        assert keepable(Metadata(self.SRGB), BMP) == (Metadata(self.SRGB), converted)
        for icc, grey in ((b"garbage" * 30, False), (self.SRGB, True), (self.SRGB.replace(b"RGB ", b"CMYK"), False)):
            assert keepable(Metadata(icc), BMP, grey)[1] == dropped

    def test_jpeg_holds_64_kilobytes_of_exif(self) -> None:
        long = Metadata(exif=bytes(70_000), xmp=bytes(70_000))
        assert keepable(long, JPEG) == (Metadata(), ("JPEG cannot hold the EXIF, the XMP",))


def test_animations_need_an_animated_format() -> None:
    with fails(RefusedOutputError, "JPEG holds only one frame.", "Write PNG, WebP or GIF."):
        check_animated(JPEG)
    for format in (PNG, WEBP, GIF):
        check_animated(format)


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
ROWS = {
    row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[1:-1]]
    for row in PAGE.partition("\nHEIC")[0].splitlines()
    if "|" in row
}


def limits(format: Format) -> str:
    """The limits of a format as the document states them."""
    parts = ["any" if format.max_side is None else f"{format.max_side:,}"]
    if format.max_area is not None:
        side = math.isqrt(format.max_area)
        assert side**2 == format.max_area
        parts.append(f"{side:,}² pixels")
    if format.max_bytes is not None:
        parts.append(f"{round(format.max_bytes / 2**30)} GiB of pixels")
    return ", ".join(parts)


def test_a_folder_takes_every_suffix_of_a_readable_format() -> None:
    for format in PLUG_IN_FORMATS:
        load_plug_in(format)
    Image.init()
    known = {*READABLE, *(format.pillow for format in PLUG_IN_FORMATS), "MPO"}
    registered = {suffix for suffix, name in Image.registered_extensions().items() if name in known}
    assert registered - set(readable_suffixes()) <= {".pfm"}, "PFM holds floating-point numbers, which are refused"


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_each_row_of_the_document_matches_the_code(format: Format) -> None:
    options = {
        "--quality": format.quality is not None,
        "--lossless": format.lossless == "on request",
        "--compression": format.compression,
        "--frames": format.animated,
    }
    assert ROWS[format.name] == [
        format.name,
        " ".join(format.suffixes),
        "8, 16" if format.deep else "8",
        "yes" if format.grey else "as RGB",
        "refused" if not format.alpha else "on or off" if format.max_colours else "yes",
        "yes" if "icc" in format.metadata else "as sRGB",
        *("yes" if name in format.metadata else "no" for name in ("exif", "xmp", "dpi")),
        limits(format),
        "streamed" if format.streamed else "collected",
        ", ".join(f"`{name}`" for name, has in options.items() if has),
    ]


def test_the_document_has_only_these_rows_and_the_limit_of_pixels() -> None:
    assert set(ROWS) == {"format", "---", *(format.name for format in FORMATS)}
    assert f"{MAX_PIXELS:,}" in PAGE
