"""Tests of the images package, and small image files for other tests."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pcsr_cli.images.image import Layout
from pcsr_cli.images.read import read_layout


def levels(height: int = 6, width: int = 8, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Noise, (height, width, channels) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def deep_levels(height: int = 6, width: int = 8, channels: int = 3, seed: int = 0) -> NDArray[np.uint16]:
    """Noise, (height, width, channels) uint16."""
    return np.random.default_rng(seed).integers(0, 65536, (height, width, channels), dtype=np.uint16)


def save(path: Path, pixels: NDArray[np.uint8] | None = None) -> Path:
    """Write an array, by default noise, in the format of the suffix, and return the path."""
    chosen = levels() if pixels is None else pixels
    Image.fromarray(chosen[..., 0] if chosen.shape[2] == 1 else chosen).save(path)
    return path


def save_deep(path: Path, pixels: NDArray[Any], **options: object) -> Path:
    """Write a uint16 or float32 array with libvips, and return the path."""
    import pyvips

    meaning = {1: "grey16", 2: "grey16", 3: "rgb16", 4: "rgb16"}[pixels.shape[2]]
    if pixels.dtype == np.float32:
        meaning = "scrgb"
    image = pyvips.Image.new_from_memory(
        pixels.tobytes(), pixels.shape[1], pixels.shape[0], pixels.shape[2], str(FORMATS[pixels.dtype.type])
    )
    image.copy(interpretation=meaning).write_to_file(str(path), **options)
    return path


FORMATS = {np.uint16: "ushort", np.float32: "float"}


def tagged_tiff(shape: tuple[int, ...], strip: bytes, tags: Mapping[int, int]) -> bytes:
    """A TIFF of one strip, by default uncompressed with 8 bits a channel. ``shape`` is (height, width, channels)."""
    height, width, channels = shape
    numbers = {
        256: width,
        257: height,
        258: 8,
        259: 1,
        262: 2,
        277: channels,
        278: height,
        279: len(strip),
        273: 0,
    } | dict(tags)
    numbers[273] = 8 + 2 + 12 * len(numbers) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, numbers[tag]) for tag in sorted(numbers))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(numbers)) + entries + bytes(4) + strip


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def header_of(content: bytes) -> Layout:
    """The layout in the header of an image file."""
    with NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return read_layout(Path(file.name))


def load(path: Path) -> NDArray[np.uint8]:
    """The pixels of a file, (H, W) or (H, W, C)."""
    with Image.open(path) as image:
        return np.asarray(image)
