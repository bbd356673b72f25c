"""Pictures are read as what they show, and written whole or not at all."""

import io
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pcsr_cli import files, images
from pcsr_cli.errors import InputError, OutputError, PcsrError, RefusedOutputError
from pcsr_cli.images import Picture, check_fits, check_output, from_pil, read_picture, to_pil, write_picture
from tests.pictures import levels, load, save


def encoded(suffix: str) -> bytes:
    """A small picture as the bytes of a file."""
    stream = io.BytesIO()
    Image.init()
    Image.fromarray(levels(6, 7)).save(stream, Image.EXTENSION[suffix])
    return stream.getvalue()


# Reading.


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".bmp", ".ppm", ".jp2"])
def test_pixels_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(levels(6, 7)).save(tmp_path / f"in{suffix}", lossless=True)  # which only WebP heeds
    assert np.array_equal(read_picture(tmp_path / f"in{suffix}").rgb, levels(6, 7))


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    save(tmp_path / "in.png").rename(tmp_path / "in")
    assert np.array_equal(read_picture(tmp_path / "in").rgb, levels())


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_every_eight_bit_mode_is_rgb_with_or_without_alpha(mode: str) -> None:
    image = Image.fromarray(levels(5, 6, 4)).convert("LA" if mode in {"La", "PA"} else "RGBA")
    if mode not in {"RGBA", "RGBa", "LA", "La", "PA"}:
        image = image.convert("RGB")
    picture = from_pil(image.convert(mode))
    assert picture.rgb.shape == (5, 6, 3)
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.flags.c_contiguous
    assert (picture.alpha is not None) == (mode in {"LA", "La", "PA", "RGBA", "RGBa"})
    assert picture.grey == (mode in {"1", "L", "LA", "La"})
    assert bool(picture.notes) == (mode in {"CMYK", "YCbCr", "HSV"})


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_other_modes_are_refused_with_a_way_out(mode: str) -> None:
    with pytest.raises(InputError, match=mode) as told:
        from_pil(Image.new(mode, (3, 3)))
    assert told.value.next_step


def test_nothing_cannot_be_enlarged() -> None:
    with pytest.raises(InputError, match="no pixels"):
        from_pil(Image.new("RGB", (0, 3)))


def test_a_colour_that_is_clear_is_alpha(tmp_path: Path) -> None:
    pixels = np.full((4, 5, 3), 200, np.uint8)
    pixels[1, 2] = (1, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "in.png", transparency=(1, 2, 3))
    alpha = read_picture(tmp_path / "in.png").alpha
    assert alpha is not None
    assert np.argwhere(alpha == 0).tolist() == [[1, 2]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_profile_kept(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(levels(4, 6)).save(tmp_path / "in.png", exif=exif, icc_profile=b"profile")
    picture = read_picture(tmp_path / "in.png")
    pixels = levels(4, 6)
    across = pixels.swapaxes(0, 1)
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: across,
        6: across[:, ::-1],
        7: across[::-1, ::-1],
        8: across[::-1],
    }
    assert np.array_equal(picture.rgb, upright[orientation])
    assert picture.icc == b"profile"


def test_sixteen_bit_colour_is_read_as_eight_and_that_is_noted(tmp_path: Path) -> None:
    # Pillow cannot write it, so here is one by hand: a single pixel, big endian.
    header = b"P6\n1 1\n65535\n"
    (tmp_path / "deep.ppm").write_bytes(header + b"\xff\xff\x80\x00\x00\x00")
    assert read_picture(tmp_path / "deep.ppm").rgb.tolist() == [[[255, 128, 0]]]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".gif"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_told_and_nothing_else(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    content = bytearray(encoded(suffix))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    (tmp_path / f"in{suffix}").write_bytes(content)
    try:
        picture = read_picture(tmp_path / f"in{suffix}")
    except InputError as error:
        assert error.next_step
    else:
        assert picture.rgb.size


def test_warnings_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # the picture has 48, which Pillow warns of
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        read_picture(save(tmp_path / "in.png"))
    assert heard == []


# Writing.


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("clear", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str, clear: bool, grey: bool) -> None:
    rgb = levels(5, 6, 1).repeat(3, axis=2) if grey else levels(5, 6)
    picture = Picture(rgb, levels(5, 6, 1, seed=1)[..., 0] if clear else None, grey, b"profile")
    write_picture(tmp_path / f"out{suffix}", picture, {})
    found = read_picture(tmp_path / f"out{suffix}")
    assert np.array_equal(found.rgb, picture.rgb)
    assert (found.alpha is None) == (not clear)
    if picture.alpha is not None and found.alpha is not None:
        assert np.array_equal(found.alpha, picture.alpha)
    assert (found.grey, found.icc) == (grey, b"profile")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_nothing_but_the_file_is_left(tmp_path: Path, suffix: str) -> None:
    write_picture(tmp_path / f"out{suffix}", Picture(levels()), {"key": "value"})
    assert [path.name for path in tmp_path.iterdir()] == [f"out{suffix}"]


def test_text_goes_into_a_png(tmp_path: Path) -> None:
    write_picture(tmp_path / "out.png", Picture(levels()), {"Software": "pcsr", "pcsr:model": "modèle 画"})
    with Image.open(tmp_path / "out.png") as image:
        assert image.text == {"Software": "pcsr", "pcsr:model": "modèle 画"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_failure_while_writing_spares_the_old_file(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    def full_in_bands(file: BinaryIO, *content: object) -> None:
        file.write(b"half a file")
        raise OSError(28, "No space left on device")

    output = tmp_path / f"out{suffix}"
    before = save(output).read_bytes()
    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(images, "write_png", full_in_bands)
    with pytest.raises(OutputError, match="no space left"):
        write_picture(output, Picture(levels()), {})
    assert [path.name for path in tmp_path.iterdir()] == [output.name]
    assert output.read_bytes() == before


def test_an_interruption_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(images, "put_in_place", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_picture(tmp_path / "out.png", Picture(levels()), {})
    assert list(tmp_path.iterdir()) == []


def test_files_are_replaced_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    with files.written_whole(tmp_path / "old") as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert (tmp_path / "old").read_text() == "old"
        files.put_in_place(temporary, tmp_path / "old")
    assert (tmp_path / "old").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


# Refusing.


def test_an_output_that_is_free_is_left_alone(tmp_path: Path) -> None:
    check_output(tmp_path / "out.png", tmp_path / "in.png", overwrite=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_is_never_the_input(tmp_path: Path, overwrite: bool) -> None:
    source = save(tmp_path / "in.png")
    (tmp_path / "hard.png").hardlink_to(source)
    for output in (source, tmp_path / "hard.png", tmp_path / "." / "in.png"):
        with pytest.raises(RefusedOutputError, match="is the input"):
            check_output(output, source, overwrite)


@pytest.mark.parametrize(
    ("name", "size", "alpha"),
    [
        ("out.jpg", (1, 65_501), False),
        ("out.webp", (16_384, 1), False),
        ("out.jpg", (1, 1), True),
        ("out.bmp", (1, 1), True),
        ("out.bmp", (40_000, 40_000), False),
        ("out.tif", (40_000, 40_000), True),
    ],
)
def test_formats_that_cannot_hold_the_result_are_refused(
    tmp_path: Path, name: str, size: tuple[int, int], alpha: bool
) -> None:
    with pytest.raises(RefusedOutputError) as told:
        check_fits(tmp_path / name, size, alpha)
    assert ".png" in told.value.next_step
    check_fits(tmp_path / "out.png", size, alpha)


@pytest.mark.parametrize(("name", "side"), [("out.jpg", 65_500), ("out.webp", 16_383)])
def test_the_longest_side_is_what_the_format_really_holds(tmp_path: Path, name: str, side: int) -> None:
    check_fits(tmp_path / name, (1, side), alpha=False)
    write_picture(tmp_path / name, Picture(np.zeros((1, side, 3), np.uint8)), {})
    assert load(tmp_path / name).shape == (1, side, 3)
    with pytest.raises(PcsrError):
        write_picture(tmp_path / name, Picture(np.zeros((1, side + 1, 3), np.uint8)), {})


def test_pictures_become_pil_and_back() -> None:
    for grey, alpha, mode in ((False, False, "RGB"), (False, True, "RGBA"), (True, False, "L"), (True, True, "LA")):
        rgb = levels(3, 4, 1).repeat(3, axis=2) if grey else levels(3, 4)
        image = to_pil(Picture(rgb, levels(3, 4, 1)[..., 0] if alpha else None, grey, b"profile"))
        assert (image.mode, image.info["icc_profile"]) == (mode, b"profile")
        assert np.array_equal(from_pil(image).rgb, rgb)
