"""JPEG files are accepted if libjpeg has nothing to complain about."""

import io
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pcsr_cli.errors import InputError
from pcsr_cli.images import jpeg
from pcsr_cli.images.animation import is_animated
from pcsr_cli.images.read import read_image, read_layout
from tests.failing import fails
from tests.images import levels, load


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A progressive JPEG."""
    Image.fromarray(levels(40, 48)).save(tmp_path / "in.jpg", progressive=True)
    return tmp_path / "in.jpg"


@pytest.mark.parametrize("lost", [1, 2])
def test_a_file_without_its_end_marker_is_whole(path: Path, lost: int) -> None:
    whole = load(path)
    path.write_bytes(path.read_bytes()[:-lost])
    image = read_image(path)
    assert np.array_equal(image.rgb, whole)
    assert image.notes == ()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-200],  # truncated
        lambda content: content[:-200] + content[-150:],  # a hole
        lambda content: content[:-200] + b"\xff\xd9" + content[-200:],  # an early end
        lambda content: content[:-2] + bytes(9) + content[-2:],  # data after the last pixel
        lambda content: content[:20] + bytes(30) + content[20:],  # bytes between headers
    ],
)
def test_damage_is_an_error_unless_it_is_accepted(path: Path, damage: object) -> None:
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with fails(InputError, f"{path} is truncated or damaged") as raised:
        read_image(path)
    assert raised.value.setting == "accept_damaged"
    image = read_image(path, accept_damaged=True)
    assert image.size == (40, 48)
    assert len(image.notes) == 1
    assert image.notes[0].startswith("the file is damaged (")


def test_bytes_between_headers_are_refused_at_once(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(20_000_000))  # Pillow would search them byte by byte
    began = time.process_time()
    for reader in (read_image, read_layout):
        with fails(InputError, "is truncated or damaged"):
            reader(path)
    assert not is_animated(path)
    assert time.process_time() - began < 1


@pytest.mark.skipif(shutil.which("jpegtran") is None, reason="nothing here writes arithmetic coding")
def test_arithmetic_coding_is_read(path: Path) -> None:
    converted = subprocess.run(["jpegtran", "-arithmetic", path], stdout=subprocess.PIPE, check=True).stdout
    assert np.array_equal(read_image(io.BytesIO(converted)).rgb, load(path))


def test_bytes_after_the_image_are_ignored(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\xff\xda\0\2" * 500)
    assert read_image(path).notes == ()


@pytest.mark.parametrize("reader", [read_image, read_layout])
def test_many_scans_need_allow_huge(path: Path, monkeypatch: pytest.MonkeyPatch, reader: object) -> None:
    monkeypatch.setattr(jpeg, "MAX_SCANS", 5)
    with fails(InputError, "has 10 scans, more than the limit of 5."):
        reader(path)  # type: ignore[operator]
    reader(path, allow_huge=True)  # type: ignore[operator]


def test_a_preview_is_not_a_scan(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preview = path.read_bytes()
    Image.fromarray(levels(40, 48)).save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + preview)
    monkeypatch.setattr(jpeg, "MAX_SCANS", 1)
    assert read_image(path).size == (40, 48)


def test_what_the_decoder_does_not_support_is_not_damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"\xff\xc2") + 4] = 12  # bits a channel
    with fails(InputError, "is of a kind that cannot be read:", "12-bit"):
        read_image(io.BytesIO(content))
