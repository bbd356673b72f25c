"""EXIF keeps its types and bytes, and maker notes keep their place."""

import io
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pcsr_cli.images.exif import EXIF, GPS, INTEROP, MAKER_NOTE, Directory, Exif, Value, read_exif
from pcsr_cli.images.image import ImageData, Metadata
from pcsr_cli.images.metadata import resize_metadata
from pcsr_cli.images.read import read_image
from pcsr_cli.images.write import write_image
from tests.images import levels, save

SUFFIXES = [".jpg", ".png", ".webp", ".tif", ".avif", ".heic", ".jxl"]
COMMENT = b"ASCII\0\0\0a cat, Steps: 20"


def camera(order: Any = "<", orientation: int = 1, preview: bool = False) -> bytes:
    """The EXIF of a camera: a maker note with an offset that counts from the start of the EXIF, and a preview."""
    exif = Exif(order)
    exif.main.values = {
        271: Value(2, b"Maker\0"),
        274: exif.value(3, orientation),
        282: exif.value(5, 300, 1),
        283: exif.value(5, 150, 1),
    }
    photo = Directory(
        {
            0x9000: Value(7, b"0232"),
            0x9101: Value(7, b"\1\2\3\0"),
            0x9214: exif.value(3, 20, 10, 4),
            0x9286: Value(7, COMMENT),
            0xA002: exif.value(3, 40),
            0xA003: exif.value(3, 20),
            0xA20E: exif.value(5, 1000, 3),
            0xA20F: exif.value(5, 2000, 3),
            MAKER_NOTE: Value(7, bytes(30)),
        },
        {INTEROP: Directory({1: Value(2, b"R03\0")})},
    )
    exif.main.inner = {EXIF: photo, GPS: Directory({1: Value(2, b"N\0"), 2: exif.value(5, 48, 1, 8, 1, 14, 1)})}
    block = exif.tobytes()
    at = read_exif(block).photo.values[MAKER_NOTE].offset
    note = struct.pack(exif.order + "HHHIII", 1, 9, 2, 12, at + 18, 0) + b"JANE DOE PH\0"
    block = block[:at] + note + block[at + len(note) :]
    if preview:
        start = struct.unpack_from(exif.order + "I", block, 4)[0]
        link = start + 2 + 12 * struct.unpack_from(exif.order + "H", block, start)[0]
        block = block[:link] + struct.pack(exif.order + "I", len(block)) + block[link + 4 :] + b"PREVIEW" * 9
    return block


def owner(content: bytes, exif: Exif) -> bytes:
    """The owner to whose name the maker note points."""
    note = exif.photo.values[MAKER_NOTE]
    size, offset = struct.unpack_from(exif.order + "II", content, note.offset + 6)
    return content[offset : offset + size]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_each_format_keeps_types_the_maker_note_and_interop(tmp_path: Path, order: str, suffix: str) -> None:
    if suffix in {".heic", ".jxl"}:
        pytest.importorskip({".heic": "pillow_heif", ".jxl": "pillow_jxl"}[suffix])
    Image.fromarray(levels(4, 6)).save(tmp_path / "in.jpg", exif=b"Exif\0\0" + camera(order, preview=True))
    image = read_image(tmp_path / "in.jpg")
    output = tmp_path / f"out{suffix}"
    write_image(output, image)
    content = output.read_bytes()
    found = read_image(output)
    assert found.notes == ()
    assert b"PREVIEW" not in content
    block = content if suffix == ".tif" else found.metadata.exif or b""
    exif = read_exif(block)
    assert exif.photo.values[0x9286].content == COMMENT
    assert {tag: exif.photo.values[tag].type for tag in (0x9000, 0x9101, 0x9286, MAKER_NOTE)} == {
        0x9000: 7, 0x9101: 7, 0x9286: 7, MAKER_NOTE: 7
    }  # fmt: skip
    assert exif.photo.inner[INTEROP].values[1].content == b"R03\0"
    assert exif.numbers(exif.main.inner[GPS].values[2]) == (48, 1, 8, 1, 14, 1)
    assert owner(block, exif) == b"JANE DOE PH\0"


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_directory_read_and_written_again_is_the_same(order: Any) -> None:
    first = read_exif(camera(order))
    again = read_exif(first.tobytes())
    assert again.order == order
    assert contents(again.main) == contents(first.main)
    assert owner(first.tobytes(), again) == b"JANE DOE PH\0"
    for big in (False, True):
        place, content = first.encode(first.main, 16, big)
        mark = b"II" if order == "<" else b"MM"
        head = struct.pack(order + "HHHQ", 43, 8, 0, place) if big else struct.pack(order + "HIQ", 42, place, 0)
        file = (mark + head).ljust(16, b"\0")[:16] + content
        assert contents(read_exif(file).main) == contents(first.main)
        assert owner(file, read_exif(file)) == b"JANE DOE PH\0"


def contents(directory: Directory) -> object:
    values = {tag: (value.type, value.content) for tag, value in directory.values.items()}
    return values, {tag: contents(inner) for tag, inner in directory.inner.items()}


def test_damage_costs_only_the_damaged_tags() -> None:
    block = camera()
    whole = contents(read_exif(block).main)
    for size in range(len(block)):
        try:
            exif = read_exif(block[:size])
        except ValueError:
            assert size < 14
            continue
        assert exif.damaged or contents(exif.main) == whole
        contents(read_exif(exif.tobytes()).main)


@given(st.binary(max_size=200), st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]), st.integers(0, 40))
def test_any_bytes_are_read_or_refused(content: bytes, mark: bytes, start: int) -> None:
    word = start.to_bytes(8 if b"+" in mark else 4, "little" if mark[0] == 73 else "big")
    try:
        exif = read_exif(mark + word + content)
    except ValueError:
        return
    assert contents(read_exif(exif.tobytes()).main) == contents(exif.main)


def test_values_that_overlap_without_end_are_refused() -> None:
    """Thousands of tags that share a value would take gigabytes."""
    tags = b"".join(struct.pack("<HHII", tag, 7, 900_000, 8) for tag in range(40_000))
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", 40_000) + tags + bytes(600_000)
    exif = read_exif(block)
    assert exif.damaged > 39_990
    assert sum(len(value.content) for value in exif.main.values.values()) < 3e6


def test_a_maker_note_far_behind_in_a_tiff_goes_with_a_note(tmp_path: Path) -> None:
    for note, kept in ((b"Canon or so", False), (b"Nikon\0\2 or so", True)):
        exif = Exif()
        exif.main.inner[EXIF] = Directory({MAKER_NOTE: Value(7, note), 0x9000: Value(7, b"0232")})
        save(tmp_path / "in.tif")
        content = (tmp_path / "in.tif").read_bytes().ljust(70_000, b"\0")
        tags = read_exif(content)
        tags.main.inner = exif.main.inner
        place, more = tags.encode(tags.main, 70_000)
        (tmp_path / "in.tif").write_bytes(content[:4] + struct.pack("<I", place) + content[8:] + more)
        image = read_image(tmp_path / "in.tif")
        assert image.metadata.exif is not None
        assert (MAKER_NOTE in read_exif(image.metadata.exif).photo.values) == kept
        assert any("maker note" in text for text in image.notes) != kept


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
@pytest.mark.parametrize("number", [0, 1, 65535, float("nan"), float("inf")])
def test_sizes_of_any_type_are_scaled_or_dropped(kind: int, number: float) -> None:
    exif = Exif()
    if kind < 11 and not math.isfinite(number):
        return
    for tag in (0x9214, 0xA214, 0xA20E, 0xA20F, 0xA002, 0xA003):
        photo = Directory({0xA002: exif.value(3, 40), 0xA003: exif.value(3, 20)})
        photo.values[tag] = exif.value(kind, *[number] * (4 if kind != 5 else 2))
        exif.main.inner[EXIF] = photo
        assert resize_metadata(Metadata(exif=exif.tobytes()), 80, 160).exif is not None


def test_a_broken_pointer_costs_a_note(tmp_path: Path) -> None:
    exif = Exif()
    exif.main.values = {271: Value(2, b"Maker\0"), EXIF: exif.value(4, 10**9)}
    Image.fromarray(levels()).save(tmp_path / "in.png", exif=exif.tobytes())
    image = read_image(tmp_path / "in.png")
    assert image.notes == ("damaged tags of the EXIF were dropped",)
    assert contents(read_exif(image.metadata.exif or b"").main) == ({271: (2, b"Maker\0")}, {})


def test_an_empty_file_of_exif_is_read_from_a_stream() -> None:
    with pytest.raises(ValueError, match="no EXIF"):
        read_exif(io.BytesIO(b""))
    assert Metadata() == ImageData(levels()).metadata
