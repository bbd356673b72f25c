"""Files are written completely or not at all, in blocks of rows."""

import errno
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import pytest
from PIL import Image, ImageCms

from pcsr_cli.errors import OutputError, RefusedOutputError
from pcsr_cli.images import write as writing
from pcsr_cli.images.exif import Directory, Exif, Value, read_exif
from pcsr_cli.images.formats import FORMATS, SaveOptions, choose_format
from pcsr_cli.images.image import ImageData, Layout, Metadata, Pixels
from pcsr_cli.images.read import read_image
from pcsr_cli.images.write import open_writer, write_image
from tests.failing import fails
from tests.images import deep_levels, levels, load, save

SUFFIXES = [format.suffixes[0] for format in FORMATS if format.installed]
each_format = pytest.mark.parametrize("suffix", SUFFIXES)


@each_format
def test_blocks_of_any_size_give_the_same_file_and_leave_no_other(tmp_path: Path, suffix: str) -> None:
    pixels = np.repeat(levels(1, 20, 3), 30, axis=0)
    files = []
    for number, step in enumerate((1, 7, 30)):
        output = tmp_path / f"{number}{suffix}"
        with open_writer(output, choose_format(output), Layout(30, 20)) as writer:
            writer.write_all(pixels[top : top + step] for top in range(0, 30, step))
        files.append(load(output) if suffix not in {".heic", ".jxl"} else read_image(output).rgb)
    assert np.array_equal(files[0], files[1])
    assert np.array_equal(files[0], files[2])
    assert {path.name for path in tmp_path.iterdir()} == {f"{number}{suffix}" for number in range(3)}


def test_a_stream_gets_the_whole_file_at_the_end() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    for name in ("png", "tif", "webp"):
        stream = Pipe()
        with open_writer(stream, choose_format(None, name), Layout(6, 8), options=SaveOptions()) as writer:
            writer.write_all([levels()])
            assert stream.getvalue() == b""
        assert read_image(io.BytesIO(stream.getvalue())).size == (6, 8)


def test_without_a_folder_for_temporary_files_a_stream_is_made_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    stream = io.BytesIO()
    with open_writer(stream, choose_format(None), Layout(6, 8)) as writer:
        writer.write_all([np.zeros((6, 8, 3), np.uint8)])
    assert read_image(io.BytesIO(stream.getvalue())).size == (6, 8)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.tif"])
def test_a_small_file_on_a_full_disk_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def on_full_disk(self: Path, mode: str) -> IO[bytes]:
        return open("/dev/full", mode)  # noqa: PTH123 - this is Path.open

    monkeypatch.setattr(Path, "open", on_full_disk)
    with fails(OutputError, f"{name} cannot be written: no space left on device."):
        write_image(tmp_path / name, ImageData(np.zeros((6, 8, 3), np.uint8), None, False))
    assert list(tmp_path.iterdir()) == []


def test_a_stream_gets_nothing_after_an_error() -> None:
    stream = io.BytesIO()
    with pytest.raises(RuntimeError), open_writer(stream, choose_format(None), Layout(6, 8)) as writer:
        writer.write(levels()[:3])
        raise RuntimeError
    assert stream.getvalue() == b""


class TestSymbolicLinks:
    def test_links_are_followed_and_kept(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        target = save(tmp_path / "folder" / "target.png")
        (tmp_path / "out.png").symlink_to(target)
        write_image(tmp_path / "out.png", ImageData(levels(4, 5)))
        assert (tmp_path / "out.png").is_symlink()
        assert read_image(target).size == (4, 5)
        assert [path.name for path in (tmp_path / "folder").iterdir()] == ["target.png"]

    def test_dangling_links_are_followed(self, tmp_path: Path) -> None:
        (tmp_path / "out.png").symlink_to("later.png")
        write_image(tmp_path / "out.png", ImageData(levels(4, 5)))
        assert read_image(tmp_path / "later.png").size == (4, 5)

    def test_loops_of_links_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "out.png").symlink_to("out.png")
        with pytest.raises(OutputError, match="cannot be written"):
            write_image(tmp_path / "out.png", ImageData(levels(4, 5)))


class TestErrors:
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
    def test_a_full_disk_keeps_the_old_file(self, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        output = save(tmp_path / f"out{suffix}")
        before = output.read_bytes()
        monkeypatch.setattr(Path, "open", lambda path, mode: Full(path, mode))
        with fails(OutputError, f"{output} cannot be written: no space left on device."):
            write_image(output, ImageData(levels(200, 200)))
        assert [path.name for path in tmp_path.iterdir()] == [output.name]
        assert output.read_bytes() == before

    def test_an_interruption_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(writing, "commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_image(tmp_path / "out.png", ImageData(levels()))
        assert list(tmp_path.iterdir()) == []

    def test_exceptions_of_the_block_pass_unchanged(self, tmp_path: Path) -> None:
        output = tmp_path / "out.png"
        with (
            pytest.raises(OSError, match="of something else"),
            open_writer(output, choose_format(output), Layout(6, 8)),
        ):
            raise OSError(5, "of something else")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
    def test_exceptions_of_the_rows_pass_unchanged(self, tmp_path: Path, suffix: str) -> None:
        def rows() -> Iterator[Pixels]:
            yield levels(3, 8)
            raise OSError(5, "of something else")

        output = tmp_path / f"out{suffix}"
        error = pytest.raises(OSError, match="of something else")
        with error, open_writer(output, choose_format(output), Layout(6, 8)) as writer:
            writer.write_all(rows())
        assert list(tmp_path.iterdir()) == []

    def test_encoder_errors_are_output_errors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise ValueError("too odd an image")

        monkeypatch.setattr(Image.Image, "save", refuse)
        with fails(OutputError, f"{tmp_path / 'out.jpg'} cannot be written as JPEG: too odd an image."):
            write_image(tmp_path / "out.jpg", ImageData(levels()))
        assert list(tmp_path.iterdir()) == []

    def test_a_missing_folder_is_an_output_error(self, tmp_path: Path) -> None:
        with fails(OutputError, "cannot be written:", "Choose a folder that exists and can be written."):
            write_image(tmp_path / "nowhere" / "out.png", ImageData(levels()))


class Full(io.FileIO):
    """A file on a disk that is full after 1000 bytes."""

    def write(self, content: Any) -> int:
        if self.tell() + len(memoryview(content).cast("B")) > 1000:
            raise OSError(28, "No space left on device")
        return super().write(content) or 0


class TestOptions:
    def test_quality_changes_the_size(self, tmp_path: Path) -> None:
        for suffix in (".jpg", ".webp", ".avif"):
            sizes = []
            for quality in (20, 90):
                output = tmp_path / f"{quality}{suffix}"
                write_image(output, ImageData(levels(64, 64)), options=SaveOptions(quality=quality))
                sizes.append(output.stat().st_size)
            assert sizes[0] < sizes[1] / 1.5

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_compression_changes_only_the_size(self, tmp_path: Path, suffix: str) -> None:
        image = ImageData(np.repeat(levels(1, 60), 60, axis=0))
        sizes = []
        for compression in (0, 9):
            output = tmp_path / f"{compression}{suffix}"
            write_image(output, image, options=SaveOptions(compression=compression))
            assert np.array_equal(read_image(output).rgb, image.rgb)
            sizes.append(output.stat().st_size)
        assert sizes[1] < sizes[0] / 5

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
    def test_strip_keeps_only_the_profile(self, tmp_path: Path, suffix: str) -> None:
        tags = Image.Exif()
        tags[0x010F] = "Maker"
        exif = tags.tobytes().removeprefix(b"Exif\0\0")
        image = ImageData(levels(), metadata=Metadata(b"a profile", exif, b"<x/>", (300, 300)))
        write_image(tmp_path / f"out{suffix}", image, {"key": "value"}, SaveOptions(strip=True))
        found = read_image(tmp_path / f"out{suffix}")
        assert found.metadata == Metadata(icc=b"a profile")
        assert b"Maker" not in (tmp_path / f"out{suffix}").read_bytes()
        assert b"value" not in (tmp_path / f"out{suffix}").read_bytes()


class TestSoftware:
    TEXT: ClassVar = {"Software": "pcsr 1", "pcsr:model": "carn", "pcsr:weights-sha256": "00ff", "pcsr:scale": "4"}

    @pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".avif", ".heic", ".jxl"])
    def test_formats_without_text_name_the_model_in_the_exif(self, tmp_path: Path, suffix: str) -> None:
        if suffix in SUFFIXES:
            output = tmp_path / f"out{suffix}"
            for earlier in (None, b"Firmware 1.2\0"):
                exif = Exif(main=Directory({} if earlier is None else {305: Value(2, earlier)}))
                image = ImageData(levels(), metadata=Metadata(exif=exif.tobytes()))
                for _ in range(2):  # the second time replaces the name of the first
                    write_image(output, image, self.TEXT)
                    image = read_image(output)
                assert image.metadata.exif is not None
                before = b"" if earlier is None else b"Firmware 1.2; "
                software = read_exif(image.metadata.exif).main.values[305].content
                assert software == before + b"pcsr 1, model carn, weights-sha256 00ff, scale 4\0"

    def test_a_jpeg_holds_the_software_besides_the_longest_exif(self, tmp_path: Path) -> None:
        exif = Exif(main=Directory({50_700: Value(7, bytes(63_900))})).tobytes()
        text = {"Software": "pcsr 1", "pcsr:model": "long" * 1000}
        write_image(tmp_path / "out.jpg", ImageData(levels(), metadata=Metadata(exif=exif)), text)
        found = read_exif(read_image(tmp_path / "out.jpg").metadata.exif or b"").main.values
        assert len(found[50_700].content) == 63_900
        assert found[305].content.startswith(b"pcsr 1, model long")


class TestProfiles:
    SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    @pytest.mark.parametrize("suffix", [".bmp", ".gif"])
    def test_without_a_profile_colours_are_converted(self, tmp_path: Path, suffix: str) -> None:
        swapped = self.SRGB.replace(b"rXYZ", b"?").replace(b"gXYZ", b"rXYZ").replace(b"?", b"gXYZ")
        colours = ImageData(np.full((8, 8, 3), (90, 120, 150), np.uint8), metadata=Metadata(icc=self.SRGB))
        write_image(tmp_path / f"same{suffix}", colours)
        assert np.abs(read_image(tmp_path / f"same{suffix}").rgb.astype(int) - colours.rgb).max() <= 1
        write_image(tmp_path / f"other{suffix}", ImageData(colours.rgb, metadata=Metadata(icc=swapped)))
        meant = np.array([120, 90, 150])  # red and green are swapped
        assert np.abs(read_image(tmp_path / f"other{suffix}").rgb.astype(int) - meant).max() <= 2

    def test_a_grey_profile_is_not_written_to_an_rgb_file(self, tmp_path: Path) -> None:
        icc = bytearray(self.SRGB)
        icc[16:20] = b"GRAY"
        grey = ImageData(np.full((8, 8, 3), 77, np.uint8), grey=True, metadata=Metadata(icc=bytes(icc)))
        write_image(tmp_path / "out.webp", grey, options=SaveOptions(lossless=True))
        found = read_image(tmp_path / "out.webp")
        assert found.metadata.icc is None
        assert (found.rgb == found.rgb[..., :1]).all()
        write_image(tmp_path / "out.png", grey)
        assert read_image(tmp_path / "out.png").metadata.icc == bytes(icc)


@pytest.mark.parametrize(("name", "side"), [("out.jpg", 65_500), ("out.webp", 16_383), ("out.avif", 32_768)])
def test_the_documented_longest_side_can_be_written(tmp_path: Path, name: str, side: int) -> None:
    output = tmp_path / name
    write_image(output, ImageData(np.zeros((1, side, 3), np.uint8)))
    assert load(output).shape == (1, side, 3)
    with fails(RefusedOutputError, "pixels per side, not"):
        write_image(output, ImageData(np.zeros((1, side + 1, 3), np.uint8)))


def test_rows_must_match_the_layout(tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    for rows in (levels(6, 9), levels(6, 8, 4), deep_levels(6, 8), levels(7, 8)):
        with pytest.raises(AssertionError), open_writer(output, choose_format(output), Layout(6, 8)) as writer:
            writer.write(rows)
    few = pytest.raises(AssertionError, match="3 of 6 rows")
    with few, open_writer(output, choose_format(output), Layout(6, 8)) as writer:
        writer.write(levels(3, 8))
    assert list(tmp_path.iterdir()) == []


def test_before_commit_gets_the_finished_file(tmp_path: Path) -> None:
    finished_files: list[bool] = []

    def look(finished: Path) -> None:
        finished_files.append(read_image(finished).size == (6, 8) and not output.exists())

    output = tmp_path / "out.png"
    with open_writer(output, choose_format(output), Layout(6, 8), before_commit=look) as writer:
        writer.write(levels())
    assert finished_files == [True]
    assert output.exists()


def test_strip_keeps_the_statement_of_hdr(tmp_path: Path) -> None:
    image = ImageData(levels(), metadata=Metadata(xmp=b"<x/>", cicp=bytes((9, 16, 0, 1))))
    write_image(tmp_path / "out.png", image, {"key": "value"}, SaveOptions(strip=True))
    assert read_image(tmp_path / "out.png").metadata == image.metadata.stripped()
