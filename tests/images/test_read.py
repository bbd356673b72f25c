"""Reading: every format and mode, the header alone, damaged files."""

import io
import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from pcsr_cli.errors import InputError
from pcsr_cli.images import formats
from pcsr_cli.images import image as image_module
from pcsr_cli.images import read as sources
from pcsr_cli.images.formats import known_suffixes
from pcsr_cli.images.image import ImageData, Layout, from_channels
from pcsr_cli.images.read import MAX_WIDTH, read_image, read_layout, read_rgb
from pcsr_cli.images.write import write_image
from tests.command import Pcsr
from tests.failing import fails
from tests.images import deep_levels, levels, save, save_deep
from tests.images.mutations import damaged, is_read, seeds


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".bmp", ".ppm", ".jp2"])
def test_pixels_are_read_exactly(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(levels(6, 7)).save(tmp_path / f"in{suffix}", lossless=True)  # an option of WebP only
    assert np.array_equal(read_image(tmp_path / f"in{suffix}").rgb, levels(6, 7))


PACKINGS = [(mode, how) for mode in ("1", "L", "LA", "P", "RGB", "RGBA") for how in ("raw", "packbits", "tiff_lzw")]


@pytest.mark.parametrize(("mode", "packing"), [*PACKINGS, ("1", "group4")])
def test_compressed_tiff_is_read(tmp_path: Path, mode: str, packing: str) -> None:
    image = Image.fromarray(levels(6, 7, 4))
    image = image.convert("RGB").quantize(16) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "in.tif", compression=packing)
    data = read_image(tmp_path / "in.tif")
    assert np.array_equal(data.rgb, np.asarray(image.convert("RGB")))
    assert data.grey == (mode in {"1", "L", "LA"})
    assert (data.alpha is not None) == mode.endswith("A")
    if data.alpha is not None:
        assert np.array_equal(data.alpha, np.asarray(image.getchannel("A")))


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    save(tmp_path / "in.png").rename(tmp_path / "in")
    assert np.array_equal(read_image(tmp_path / "in").rgb, levels())


def test_streams_that_cannot_seek_are_read() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    content = io.BytesIO()
    Image.fromarray(levels()).save(content, "PNG")
    assert np.array_equal(read_image(Pipe(content.getvalue())).rgb, levels())
    assert np.array_equal(read_image(io.BytesIO(content.getvalue())).rgb, levels())


class TestSixteenBits:
    """The depth follows from the type of the file, never from its values."""

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_16_bits_are_read_exactly(self, tmp_path: Path, suffix: str, channels: int) -> None:
        pixels = deep_levels(6, 7, channels)
        path = save_deep(tmp_path / f"in{suffix}", pixels)
        image = read_image(path)
        assert image.depth == 16
        assert read_layout(path) == image.layout
        assert image.grey == (channels < 3)
        assert np.array_equal(image.channels(), pixels)
        assert image.notes == ()

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_dark_16_bit_images_stay_16_bit(self, tmp_path: Path, suffix: str) -> None:
        pixels = np.full((3, 4, 3), 200, np.uint16)
        image = read_image(save_deep(tmp_path / f"in{suffix}", pixels))
        assert (image.depth, int(image.rgb.max())) == (16, 200)

    @pytest.mark.parametrize("channels", [2, 4])
    def test_tiled_bigtiff_is_read(self, tmp_path: Path, channels: int) -> None:
        pixels = deep_levels(20, 37, channels)
        path = save_deep(tmp_path / "in.tif", pixels, bigtiff=True, tile=True, tile_width=16, tile_height=16)
        assert np.array_equal(read_image(path).channels(), pixels)

    def test_premultiplied_colours_are_divided_by_alpha(self, tmp_path: Path) -> None:
        pixels = np.full((3, 4, 4), 30_000, np.uint16)
        pixels[..., 3] = 60_000
        tifffile.imwrite(tmp_path / "in.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
        image = read_image(tmp_path / "in.tif")
        assert image.alpha is not None
        assert (image.alpha == 60_000).all()
        assert np.abs(image.rgb.astype(int) - 30_000 * 65_535 // 60_000).max() <= 1

    def test_pgm_keeps_16_bits_and_ppm_is_rounded_with_a_note(self, tmp_path: Path) -> None:
        (tmp_path / "grey.pgm").write_bytes(b"P5\n2 1\n65535\n\x12\x34\xff\xff")
        (tmp_path / "deep.ppm").write_bytes(b"P6\n1 1\n65535\n\xff\xff\x80\x00\x00\x00")
        grey, colour = read_image(tmp_path / "grey.pgm"), read_image(tmp_path / "deep.ppm")
        assert grey.rgb[..., 0].tolist() == [[0x1234, 0xFFFF]]
        assert grey.depth == 16
        assert colour.rgb.tolist() == [[[255, 128, 0]]]
        assert colour.notes == ("more than 8 bits a channel were read as 8",)

    def test_read_rgb_rounds_to_8_bits(self, tmp_path: Path) -> None:
        pixels = np.array([[[0, 128, 129], [65535, 32768, 257]]], np.uint16)
        rgb = read_rgb(save_deep(tmp_path / "in.png", pixels))
        assert rgb.dtype == np.uint8
        assert rgb.tolist() == [[[0, 0, 1], [255, 128, 1]]]


class TestUnreadableFiles:
    @pytest.mark.parametrize("reader", [read_image, read_layout])
    def test_other_files_are_refused(self, tmp_path: Path, reader: Callable[[Path], object]) -> None:
        path = tmp_path / "in.png"
        with fails(InputError, f"There is no file {path}."):
            reader(path)
        with fails(InputError, f"{tmp_path} is a folder, not an image."):
            reader(tmp_path)
        path.touch()
        with fails(InputError, f"{path} is empty."):
            reader(path)
        path.write_text("text")
        with fails(InputError, "is not an image of a known format."):
            reader(path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
    def test_a_pipe_is_refused(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "in.png")
        with fails(InputError, f"{tmp_path / 'in.png'} is not a regular file."):
            read_image(tmp_path / "in.png")

    def test_a_loop_of_links_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "in.png").symlink_to(tmp_path / "in.png")
        with fails(InputError, "cannot be read:"):
            read_image(tmp_path / "in.png")

    def test_a_file_without_permission_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*_: object) -> None:
            raise PermissionError(13, "Permission denied")  # root can read every file

        path = save(tmp_path / "in.png")
        monkeypatch.setattr(Path, "open", refused)
        with fails(InputError, f"{path} cannot be read: permission denied."):
            read_image(path)

    @pytest.mark.parametrize(
        ("suffix", "channels", "depth"),
        [
            *((suffix, 3, 8) for suffix in (".png", ".jpg", ".webp", ".tif")),
            *((suffix, channels, 16) for suffix in (".png", ".tif") for channels in (1, 2, 3)),
        ],
    )
    def test_half_a_file_is_refused(self, tmp_path: Path, suffix: str, channels: int, depth: int) -> None:
        path, pixels = tmp_path / f"in{suffix}", levels(60, 80) if depth == 8 else deep_levels(60, 80, channels)
        write_image(path, from_channels(pixels, channels < 3, channels == 2))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with fails(InputError, "is truncated or damaged:"):
            read_image(path)

    def test_a_tiff_without_its_last_pixels_is_refused(self, tmp_path: Path) -> None:
        path = save_deep(tmp_path / "in.tif", deep_levels(60, 80))
        path.write_bytes(path.read_bytes()[:-8000])
        with fails(InputError, "is truncated or damaged:"):
            read_image(path)

    def test_floats_and_wide_integers_are_refused(self, tmp_path: Path) -> None:
        Image.new("F", (3, 3)).save(tmp_path / "float.tif")
        Image.new("I", (3, 3)).save(tmp_path / "wide.tif")
        save_deep(tmp_path / "colour.tif", np.full((3, 4, 3), 0.5, np.float32))
        for name in ("float.tif", "colour.tif"):
            with fails(InputError, f"{tmp_path / name}: Floating-point images are not supported"):
                read_image(tmp_path / name)
        with fails(InputError, "Images with 32 bits a channel are not supported."):
            read_image(tmp_path / "wide.tif")


class TestPlugIns:
    @pytest.mark.parametrize(("name", "package"), [("in.heic", "pillow-heif"), ("in.jxl", "pillow-jxl-plugin")])
    def test_installed_plug_ins_are_used(self, tmp_path: Path, name: str, package: str) -> None:
        pytest.importorskip(package.replace("-plugin", "").replace("-", "_"))
        flat = np.full((16, 24, 3), (40, 120, 200), np.uint8)
        write_image(tmp_path / name, ImageData(flat))
        assert np.abs(read_image(tmp_path / name).rgb.astype(int) - flat).max() <= 3

    @pytest.mark.parametrize("name", ["in.heic", "in.jxl"])
    def test_errors_name_the_package_to_install(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heads = {"in.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "in.jxl": b"\xff\x0a rest"}
        (tmp_path / name).write_bytes(heads[name])
        monkeypatch.setattr("pcsr_cli.images.formats.find_spec", lambda _: None)
        with fails(InputError, "needs a plug-in that is not installed."):
            read_image(tmp_path / name)


@pytest.mark.parametrize(("suffix", "module"), [(".jpg", "simplejpeg"), (".tif", "pyvips")])
def test_a_decoder_that_does_not_load_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, module: str
) -> None:
    path = save(tmp_path / f"in{suffix}")
    monkeypatch.setitem(sys.modules, module, None)
    with fails(InputError, "its decoder is not installed properly", "pcsr doctor"):
        read_image(path)


class TestDamagedGifs:
    @pytest.fixture
    def content(self) -> bytes:
        file = io.BytesIO()
        frames = [Image.fromarray(levels(20, 30, seed=seed)) for seed in range(2)]
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
        return file.getvalue()

    def test_only_the_end_mark_may_be_missing(self, content: bytes) -> None:
        assert np.array_equal(read_image(io.BytesIO(content[:-1])).rgb, read_image(io.BytesIO(content)).rgb)

    def test_a_truncated_file_is_damaged(self, content: bytes) -> None:
        with fails(InputError, "is truncated or damaged"):
            read_image(io.BytesIO(content[:900]))
        assert read_image(io.BytesIO(content[:900]), accept_damaged=True).size == (20, 30)

    def test_an_unknown_block_is_damage(self, content: bytes) -> None:
        at = content.rindex(b",\0\0\0\0")
        with fails(InputError, "is truncated or damaged"):
            read_image(io.BytesIO(content[:at] + b"\x17" + content[at + 1 :]))


def test_hidden_colours_are_noted(tmp_path: Path) -> None:
    pixels = levels(6, 8, 4)
    pixels[..., 3] = 255
    pixels[2:4, :, 3] = 0
    note = "the colours of fully transparent pixels were replaced by those of visible pixels"
    assert read_image(save(tmp_path / "in.png", pixels)).notes == (note,)
    pixels[2:4, :, :3] = 7  # one colour hides nothing
    assert read_image(save(tmp_path / "in.png", pixels)).notes == ()


@pytest.mark.parametrize("maximum", [1023, 4095, 65535])
def test_a_deep_ppm_is_rounded_with_a_note(tmp_path: Path, maximum: int) -> None:
    (tmp_path / "in.ppm").write_bytes(b"P6 1 1 %d\n" % maximum + 3 * maximum.to_bytes(2, "big"))
    image = read_image(tmp_path / "in.ppm")
    assert image.rgb.tolist() == [[[255, 255, 255]]]
    assert image.notes == ("more than 8 bits a channel were read as 8",)


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}], ids=["boxes", "codestream"])
def test_jpeg_2000_of_8_bits_is_not_rounded(tmp_path: Path, options: dict[str, Any]) -> None:
    Image.fromarray(levels()).save(tmp_path / "in.jp2", **options)
    content = bytearray((tmp_path / "in.jp2").read_bytes())
    assert read_image(tmp_path / "in.jp2").notes == ()
    at = content.index(b"\xff\x4f\xff\x51")
    content[at + 42 : at + 51 : 3] = bytes([11, 11, 11])  # 12 bits for each channel
    (tmp_path / "in.jp2").write_bytes(content)
    assert read_image(tmp_path / "in.jp2").notes == ("more than 8 bits a channel were read as 8",)


def test_a_bmp_of_16_bits_a_pixel_is_not_rounded(tmp_path: Path) -> None:
    pixels = np.array([[0xFFFF, 0xF800]], "<u2").tobytes()
    header = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0) + struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    (tmp_path / "in.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 70, 0, 0, 66) + header + pixels)
    image = read_image(tmp_path / "in.bmp")
    assert image.rgb.tolist() == [[[255, 255, 255], [255, 0, 0]]]
    assert image.notes == ()


WIDE_PNG = struct.pack(">4sIIBBBBB", b"IHDR", MAX_WIDTH + 1, 1, 8, 2, 0, 0, 0)


class TestSize:
    def test_huge_images_need_allow_huge(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = save(tmp_path / "in.png", levels(6, 8))
        monkeypatch.setattr(sources, "MAX_PIXELS", 47)
        with fails(InputError, f"{path} has 8 x 6 pixels, more than the limit of 47"):
            read_image(path)
        assert read_image(path, allow_huge=True).size == (6, 8)

    @pytest.mark.parametrize("channels", [3, 4])
    def test_a_webp_above_pillows_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
        exif = Image.Exif()
        exif[274] = 6
        path = tmp_path / "in.webp"
        Image.fromarray(levels(6, 8, channels)).save(
            path, lossless=True, exact=True, exif=exif, icc_profile=b"a profile"
        )
        expected = read_image(path)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        monkeypatch.setattr(sources, "MAX_PIXELS", 20)
        with fails(InputError, f"{path} has 8 x 6 pixels, more than the limit of 20"):
            read_image(path)
        image = read_image(path, allow_huge=True)
        assert np.array_equal(image.channels(), expected.channels())
        assert image.metadata == expected.metadata
        assert read_layout(path, allow_huge=True) == image.layout

    def test_the_limit_is_pillows_which_is_not_changed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert Image.MAX_IMAGE_PIXELS is not None
        assert sources.MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS
        monkeypatch.setattr(image_module, "BAND_PIXELS", 16)  # Pillow 12 checks each crop
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)  # a limit that is not used
        assert read_image(save(tmp_path / "in.png")).size == (6, 8)

    @pytest.mark.parametrize(
        "content",
        [
            b"\x89PNG\r\n\x1a\n\0\0\0\r" + WIDE_PNG + struct.pack(">I", zlib.crc32(WIDE_PNG)) + bytes(4) + b"IDAT",
            b"P6 %d 1 255 " % (MAX_WIDTH + 1),
            b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, MAX_WIDTH + 1, 1, 1, 24, 0, 0, 0, 0, 0, 0),
        ],
        ids=["png", "ppm", "bmp"],
    )
    def test_a_row_that_no_decoder_reads_is_refused_by_its_width(self, content: bytes) -> None:
        for reader in (read_image, read_layout):
            with fails(InputError, "standard input is 67,108,857 pixels wide, more than the limit of 67,108,856."):
                reader(io.BytesIO(content))

    def test_a_decompression_bomb_is_refused_before_decoding(self, tmp_path: Path) -> None:
        path = save(tmp_path / "in.png")
        content = bytearray(path.read_bytes())
        content[16:24] = (60_000).to_bytes(4, "big") * 2
        content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
        path.write_bytes(content)
        with fails(InputError, "more than the limit of"):
            read_image(path)


class TestSeveralFrames:
    @pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
    def test_the_first_frame_is_used_with_a_note(self, tmp_path: Path, suffix: str) -> None:
        frames = [Image.fromarray(levels(seed=seed)) for seed in range(3)]
        frames[0].save(tmp_path / f"in{suffix}", save_all=True, append_images=frames[1:], lossless=True)
        image = read_image(tmp_path / f"in{suffix}")
        assert image.notes == ("only the first of 3 frames was used; the frames option upscales all",)
        assert np.array_equal(image.rgb, levels(seed=0))

    def test_the_first_page_is_used_with_a_note(self, tmp_path: Path) -> None:
        pages = [Image.fromarray(levels(seed=seed)) for seed in range(2)]
        pages[0].save(tmp_path / "in.tif", save_all=True, append_images=pages[1:])
        assert read_image(tmp_path / "in.tif").notes == ("only the first of 2 pages was used",)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_changed_file_is_read_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"in{suffix}"
    for seed in range(3):
        pixels = deep_levels(6, 7, 3, seed)
        assert np.array_equal(read_image(save_deep(path, pixels)).rgb, pixels)


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "I;16B", "F"]
SUFFIXES = [*known_suffixes(), ".jp2", ".ppm", ".pgm", ".pfm", ".dib"]


def read(what: Callable[[Path], Any], path: Path) -> Any:
    """The layout of a file, or the message of the error."""
    try:
        return what(path)
    except InputError as error:
        return str(error)


def of_mode(mode: str) -> Image.Image:
    if mode.startswith("I;16"):
        return Image.frombytes(mode, (7, 5), deep_levels(5, 7, 1).tobytes())
    image = Image.fromarray(levels(5, 7, 4))
    if mode in {"PA", "LA"}:
        return image.convert("LA").convert(mode)
    if mode == "LAB":
        return Image.frombytes("LAB", (7, 5), levels(5, 7).tobytes())
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_header_gives_the_layout_of_the_decoded_image(tmp_path: Path, suffix: str) -> None:
    for format in formats.PLUG_IN_FORMATS:
        formats.load_plug_in(format)
    path, tried = tmp_path / f"in{suffix}", 0
    for image in (*map(of_mode, MODES), of_mode("L").convert("P")):
        try:
            image.save(path)
        except (OSError, ValueError, KeyError, RuntimeError, SystemError):  # not every format has every mode
            continue
        tried += 1
        assert read(read_layout, path) == read(lambda path: read_image(path).layout, path), image.mode
    assert tried


def test_the_header_of_a_16_bit_pgm(tmp_path: Path) -> None:
    Image.fromarray(deep_levels(5, 7, 1)[..., 0]).save(tmp_path / "in.pgm")
    assert read_layout(tmp_path / "in.pgm") == Layout(5, 7, grey=True, depth=16)


@pytest.mark.parametrize("kind", ["uchar", "ushort", "short", "uint", "int", "float", "double"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_headers_of_tiff_with_any_number_type(tmp_path: Path, channels: int, kind: str) -> None:
    import pyvips

    path = tmp_path / "in.tif"
    meaning = {"uchar": "srgb", "ushort": "rgb16"}.get(kind, "scrgb") if channels > 2 else "b-w"
    image = pyvips.Image.new_from_array(levels(5, 7, channels)).cast(kind)
    image.copy(interpretation="grey16" if (kind, meaning) == ("ushort", "b-w") else meaning).write_to_file(str(path))
    layout = read(read_layout, path)
    assert layout == read(lambda path: read_image(path).layout, path)
    assert isinstance(layout, Layout) == (kind in {"uchar", "ushort"})


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_headers_with_any_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"in.{suffix}"
    Image.fromarray(levels(5, 7)).save(path, exif=exif)
    assert read_layout(path) == read_image(path).layout
    assert read_layout(path).width == (7 if orientation < 5 else 5)


@pytest.mark.parametrize("options", [{"transparency": 3}, {"transparency": bytes(range(256))}], ids=["one", "each"])
def test_headers_of_transparent_palettes(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "in.png"
    Image.fromarray(levels(5, 7)).convert("P").save(path, **options)
    assert read_layout(path) == read_image(path).layout
    assert read_layout(path).alpha


def test_the_header_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    Image.fromarray(np.zeros((400, 500, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:100])
    assert (read_layout(path).height, read_layout(path).width) == (400, 500)


@pytest.mark.filterwarnings("ignore")
def test_undamaged_files_are_read() -> None:
    unread = [name for name, content in seeds().items() if not is_read(content)]
    assert not unread


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(30)
@pytest.mark.parametrize("part", range(10))
def test_damaged_files_are_read_or_refused(part: int) -> None:
    read = [is_read(content) for _, content in damaged(60, 60 * part)]
    assert 0 < sum(read) < 60  # some damage cannot be detected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_command_leaves_no_partial_result(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    for name, content in damaged(8, 606):
        suffix = Path(name).suffix
        (run_pcsr.cwd / f"in{suffix}").write_bytes(content)
        ran = run_pcsr("upscale", f"in{suffix}", "out.png", "--model", tiny_folder, "--quiet")
        assert (ran.code, (run_pcsr.cwd / "out.png").exists()) in {(0, True), (1, False)}, name
        if ran.code:
            ran.failed(1)
        for file in run_pcsr.cwd.iterdir():
            file.unlink()
