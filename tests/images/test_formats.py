"""The formats of results: chosen by name or suffix, and refused before any work where they cannot hold one."""

from pathlib import Path

import pytest

from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.images import formats
from pcsr_cli.images.formats import (
    FORMATS,
    Format,
    SaveOptions,
    check_animated,
    check_options,
    choose_format,
    fit,
    keepable,
    known_suffixes,
)
from pcsr_cli.images.image import Layout, Metadata
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
    def test_the_name_counts_more_than_the_suffix(self, output: str | None, name: str | None, found: str) -> None:
        if found in {"JPEG XL", "HEIC"}:
            pytest.importorskip(BY_NAME[found].module)
        assert choose_format(None if output is None else Path(output), name).name == found

    def test_unknown_ones_are_refused(self) -> None:
        with fails(RefusedOutputError, "The output format of"):
            choose_format(Path("out.xyz"))
        with fails(UsageError, "There is no output format"):
            choose_format(Path("out.png"), "xyz")

    def test_a_missing_plug_in_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(formats, "find_spec", lambda _: None)
        with fails(UsageError, "HEIC needs a plug-in that is not installed.", "Run: pip install pillow-heif."):
            choose_format(Path("out.heic"))
        with fails(UsageError, "JPEG XL needs a plug-in that is not installed.", "Run: pip install pillow-jxl-plugin."):
            choose_format(Path("out.jxl"))
        assert not {".heic", ".jxl"} & set(known_suffixes())
        assert {".png", ".apng", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif"} <= set(known_suffixes())


class TestOptions:
    def test_those_a_format_has_are_taken(self) -> None:
        for format, options in (
            (JPEG, SaveOptions(quality=1)),
            (WEBP, SaveOptions(lossless=True)),
            (PNG, SaveOptions(compression=9, lossless=True, strip=True)),
            (TIFF, SaveOptions(compression=0)),
            (BMP, SaveOptions()),
        ):
            check_options(format, options)

    def test_others_are_refused_naming_those_that_have_them(self) -> None:
        with fails(UsageError, "has no quality to choose."):
            check_options(PNG, SaveOptions(quality=90))
        with fails(UsageError, "cannot be lossless."):
            check_options(JPEG, SaveOptions(lossless=True))
        with fails(UsageError, "WebP has no compression to choose.", "Leave --compression out, or write PNG, TIFF."):
            check_options(WEBP, SaveOptions(compression=1))
        with fails(UsageError, "A lossless file has no quality to choose."):
            check_options(WEBP, SaveOptions(lossless=True, quality=90))

    def test_out_of_range_they_are_refused(self) -> None:
        for quality in (0, 101):
            with fails(UsageError, f"A quality of {quality} is out of range."):
                check_options(JPEG, SaveOptions(quality=quality))
        with fails(UsageError, "A compression of 10 is out of range."):
            check_options(PNG, SaveOptions(compression=10))


class TestFitting:
    @pytest.mark.parametrize(
        ("format", "longest"),
        [(JPEG, 65_500), (WEBP, 16_383), (AVIF, 32_768), (GIF, 65_535)],
        ids=lambda x: str(x)[:12],
    )
    def test_sides_that_are_too_long_are_refused(self, format: Format, longest: int) -> None:
        fit(Layout(1, longest), format)
        for layout in (Layout(1, longest + 1), Layout(longest + 1, 1)):
            with fails(RefusedOutputError, "pixels a side, not"):
                fit(layout, format)

    def test_the_formats_that_can_are_named(self) -> None:
        size = f"{16_384}x{2}"
        with fails(
            RefusedOutputError, f"WebP holds at most 16,383 pixels a side, not {size}.", "Write a .png or .tif."
        ):
            fit(Layout(2, 16_384), WEBP)

    @pytest.mark.parametrize("format", [JPEG, BMP], ids=["JPEG", "BMP"])
    def test_transparency_is_never_lost(self, format: Format) -> None:
        with fails(RefusedOutputError, "cannot hold the picture's transparency."):
            fit(Layout(1, 1, alpha=True), format)

    def test_so_many_pixels_are_too_many(self) -> None:
        with fails(RefusedOutputError, "cannot hold as much as"):
            fit(Layout(40_000, 40_000), BMP)
        with fails(RefusedOutputError, "cannot hold as much as"):
            fit(Layout(20_000, 20_000), AVIF)

    def test_png_and_tiff_hold_32k_a_side_and_more(self) -> None:
        for format in (PNG, TIFF):
            for depth in (8, 16):
                assert fit(Layout(100_000, 100_000, alpha=True, depth=depth), format) == (
                    Layout(100_000, 100_000, alpha=True, depth=depth),
                    (),
                )

    def test_sixteen_bits_become_eight_with_a_note_where_there_are_only_these(self) -> None:
        fitting, notes = fit(Layout(2, 3, depth=16), JPEG)
        assert fitting == Layout(2, 3, depth=8)
        assert notes == ("JPEG has 8 bits a channel: the picture's 16 were rounded",)

    def test_few_colours_are_noted(self) -> None:
        assert fit(Layout(2, 3), GIF)[1] == ("GIF has 256 colours",)
        assert fit(Layout(2, 3, grey=True), GIF)[1] == ()


class TestKeeping:
    EVERYTHING = Metadata(b"icc", b"exif", b"xmp", (300, 300))

    def test_what_a_format_has_room_for_stays(self) -> None:
        for format in (PNG, JPEG, TIFF):
            assert keepable(self.EVERYTHING, format) == (self.EVERYTHING, ())

    def test_what_is_lost_is_noted(self) -> None:
        assert keepable(self.EVERYTHING, BMP) == (
            Metadata(b"icc", dpi=(300, 300)),
            (
                "BMP is written without a profile: the colours were converted to sRGB",
                "BMP cannot hold the EXIF",
                "BMP cannot hold the XMP",
            ),
        )
        assert fit(Layout(1, 1), BMP, self.EVERYTHING)[1] == keepable(self.EVERYTHING, BMP)[1]

    def test_jpeg_has_room_for_64_kilobytes(self) -> None:
        long = Metadata(exif=bytes(70_000), xmp=bytes(70_000))
        assert keepable(long, JPEG) == (Metadata(), ("JPEG cannot hold the EXIF", "JPEG cannot hold the XMP"))


def test_an_animation_needs_a_format_that_moves() -> None:
    with fails(RefusedOutputError, "JPEG holds one frame only.", "Write PNG, WebP, GIF, or leave --frames out."):
        check_animated(JPEG)
    for format in (PNG, WEBP, GIF):
        check_animated(format)
