"""What libvips reads better than Pillow: 16 bits a channel, which Pillow rounds to 8 without a word, and TIFF, of
whose damages the library in Pillow speaks on stderr."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from pcsr_cli.errors import InputError
from pcsr_cli.images.image import ImageData, Layout, Pixels

if TYPE_CHECKING:
    import pyvips

LOADERS = {"PNG": "pngload", "TIFF": "tiffload"}
"""libvips' loaders, by Pillow's names."""

PARTS = ((273, 279), (324, 325))
"""TIFF's tags of where strips and tiles lie and of how many bytes they are."""

CAREFULLY = {"access": "sequential", "fail_on": "truncated"}

EXTRA_SAMPLES = 338
"""TIFF's tag of what channels beside the colours are: 0 for something else than alpha."""

HEAD_BYTES = 4096
AV1_HIGH_BITDEPTH = 0x40


def is_better_read(image: Image.Image) -> bool:
    """Whether ``read_pixels`` is to read an opened file, and not Pillow."""
    if image.format == "TIFF":
        return image.mode not in {"CMYK", "LAB", "I", "F"}
    return image.format in LOADERS and _is_deep(image)


def is_rounded(image: Image.Image, file: BinaryIO) -> bool:
    """Whether Pillow is about to round more than 8 bits a channel to 8."""
    if image.mode.startswith("I"):
        return False
    if _is_deep(image) or image.info.get("bit_depth", 8) > 8:  # which pillow-heif tells
        return True
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if image.format == "AVIF":
        at = head.find(b"av1C")
        return at >= 0 and len(head) > at + 6 and bool(head[at + 6] & AV1_HIGH_BITDEPTH)
    if image.format == "JPEG2000":
        at = head.find(b"ihdr")
        return at >= 0 and len(head) > at + 14 and (head[at + 14] & 127) >= 8
    return False


def _is_deep(image: Image.Image) -> bool:
    """Whether the file has 16 bits a channel, by Pillow's names of how it lies in there."""
    layouts = [str(tile[3]) for tile in getattr(image, "tile", ()) if len(tile) > 3]
    return any(";16" in layout or "65535" in layout for layout in layouts)


def read_pixels(file: BinaryIO, format: str, tags: Mapping[int, Any]) -> ImageData:
    """The pixels of a file of a format of ``LOADERS``; 8 bits stay 8. ``tags`` are a TIFF's.

    libvips divides colours that a TIFF keeps multiplied by alpha. Raises InputError for floating point and wider
    integers, ValueError for damage, MemoryError."""
    if format == "TIFF":
        _check_whole(file, tags)
    with _told():
        image = _opened(file, format)
        layout = _layout(image, format, tags)
        pixels: Pixels = image.numpy().reshape(image.height, image.width, image.bands)
    colours = 1 if layout.grey else 3
    if pixels.shape[2] == colours == 3:
        return ImageData(pixels)
    rgb = np.empty((*pixels.shape[:2], 3), pixels.dtype)
    rgb[...] = pixels[..., :colours]
    return ImageData(rgb, np.ascontiguousarray(pixels[..., colours]) if layout.alpha else None, layout.grey)


def read_header(file: BinaryIO, format: str, tags: Mapping[int, Any]) -> Layout:
    """The layout of what ``read_pixels`` would give, without looking at pixels. Raises as that does."""
    with _told():
        return _layout(_opened(file, format), format, tags)


def _layout(image: "pyvips.Image", format: str, tags: Mapping[int, Any]) -> Layout:
    if image.format not in {"uchar", "ushort"}:
        if image.format not in {"float", "double"}:
            raise InputError("Pictures of 32 bits a channel are not read.", "Convert it to 16 bits a channel.")
        raise InputError(
            "Pictures of floating-point numbers have no fixed white, and are not read.",
            "Convert it to 16 bits a channel.",
        )
    grey = image.interpretation in {"b-w", "grey16"}
    if not grey and image.interpretation not in {"rgb", "rgb16", "srgb"}:
        raise InputError(f"Pictures of mode {image.interpretation} are not supported.", "Convert it to RGB.")
    extra = tags.get(EXTRA_SAMPLES, ())
    is_alpha = format != "TIFF" or any(extra if isinstance(extra, tuple) else (extra,))
    alpha = is_alpha and image.bands > (1 if grey else 3)
    return Layout(image.height, image.width, grey, alpha, 16 if image.format == "ushort" else 8)


def _check_whole(file: BinaryIO, tags: Mapping[int, Any]) -> None:
    """Raise ValueError where a TIFF ends before its pixels do, which libtiff makes up for by inventing some."""
    end = file.seek(0, io.SEEK_END)
    for places, sizes in PARTS:
        parts = zip(_numbers(tags.get(places)), _numbers(tags.get(sizes)), strict=False)
        if any(place + size > end for place, size in parts):
            raise ValueError("its pixels end too early")


def _numbers(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, tuple) else (value,)
    return tuple(number for number in values if isinstance(number, int))


def _opened(file: BinaryIO, format: str) -> "pyvips.Image":
    """A file as libvips opens it, its pixels not yet read."""
    import pyvips

    if isinstance(file, io.BufferedReader) and isinstance(file.name, str):
        return getattr(pyvips.Image, LOADERS[format])(file.name, **CAREFULLY)
    file.seek(0)
    return getattr(pyvips.Image, f"{LOADERS[format]}_buffer")(file.read(), **CAREFULLY)


@contextmanager
def _told() -> Iterator[None]:
    """What libvips says of damage is a ValueError."""
    import pyvips

    try:
        yield
    except pyvips.Error as error:
        if "out of memory" in str(error):
            raise MemoryError(str(error)) from error
        raise ValueError(_last_line(str(error))) from error


def _last_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else "it cannot be decoded"
