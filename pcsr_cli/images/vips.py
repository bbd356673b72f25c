"""Decode files with libvips: TIFF, damaged files, and files that must be checked more strictly than Pillow does.

Loaders that libvips marks as unfit for untrusted files are blocked."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
from PIL import Image

from pcsr_cli.errors import InputError
from pcsr_cli.images.image import ImageData, Layout, Metadata, Pixels, from_channels, to_8_bits
from pcsr_cli.images.modes import ROUNDED, from_pil, unsupported_numbers

if TYPE_CHECKING:
    import pyvips

Strictness = Literal["none", "truncated", "error", "warning"]
"""The least damage that is an error."""

HEADS = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first bytes of the formats that libvips may decode: JPEG, PNG, WebP, GIF, TIFF, BigTIFF."""


def open_with_vips(file: BinaryIO, strictness: Strictness) -> "pyvips.Image":
    """Open the first page or frame as an image of libvips without reading pixels.

    Raises ValueError for formats that are not in ``HEADS``, ``pyvips.Error`` for damage."""
    import pyvips

    pyvips.block_untrusted_set(True)
    file.seek(0)
    if not file.read(4).startswith(HEADS):
        raise ValueError("no other decoder reads it")
    if isinstance(file, io.BufferedReader) and isinstance(name := getattr(file, "name", None), str):
        source = pyvips.Source.new_from_file(os.fsencode(name))  # its name need not be UTF-8
    else:
        file.seek(0)
        source = pyvips.Source.new_from_memory(file.read())
    return pyvips.Image.new_from_source(source, "", access="sequential", fail_on=strictness)  # keeps the source alive


@contextmanager
def vips_errors() -> Iterator[None]:
    """Turn libvips' errors about damage into ValueError."""
    import pyvips

    try:
        yield
    except pyvips.Error as error:
        if "out of memory" in str(error):
            raise MemoryError(str(error)) from error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ValueError(lines[-1] if lines else "the pixels cannot be decoded") from error


def check_with_vips(file: BinaryIO) -> None:
    """Decode a file and raise ValueError if its decoder complains about anything."""
    with vips_errors():
        open_with_vips(file, "warning")[0].avg()


def vips_layout(image: "pyvips.Image", has_alpha: bool) -> Layout:
    """Return the layout of ``decode_with_vips``'s image. Raises InputError for unsupported colours and numbers.

    ``has_alpha`` says whether a channel behind the colours is alpha."""
    if image.format not in {"uchar", "ushort"}:
        raise unsupported_numbers(image.format in {"float", "double"})
    depth = 16 if image.format == "ushort" else 8
    if image.interpretation == "cmyk":
        return Layout(image.height, image.width)
    grey = image.interpretation in {"b-w", "grey16"}
    if not grey and image.interpretation not in {"rgb", "rgb16", "srgb"}:
        raise InputError(f"Images of mode {image.interpretation} are not supported.", "Convert it to RGB.")
    return Layout(image.height, image.width, grey, has_alpha and image.bands > (1 if grey else 3), depth)


def decode_with_vips(image: "pyvips.Image", has_alpha: bool, icc: bytes | None) -> ImageData:
    """Decode an image of libvips. CMYK is converted to RGB through its profile.

    Raises InputError for unsupported colours and numbers, ValueError for damage, MemoryError."""
    with vips_errors():
        layout = vips_layout(image, has_alpha)
        pixels: Pixels = image.numpy().reshape(image.height, image.width, image.bands)
    return from_vips_pixels(pixels, layout, image.interpretation == "cmyk", icc)


def from_vips_pixels(pixels: Pixels, layout: Layout, is_cmyk: bool, icc: bytes | None) -> ImageData:
    """Make an image from channels (H, W, C) of this layout, or of CMYK. Notes name channels that are dropped."""
    used = 4 if is_cmyk else layout.channels
    bands = pixels.shape[2]
    notes = (f"the last {bands - used} of {bands} channels were dropped",) if bands > used else ()
    if not is_cmyk:
        image = from_channels(pixels, layout.grey, layout.alpha)
        return ImageData(image.rgb, image.alpha, image.grey, Metadata(icc), notes)
    ink = Image.frombytes("CMYK", (layout.width, layout.height), to_8_bits(pixels[..., :4]).tobytes())
    ink.info["icc_profile"] = icc
    converted = from_pil(ink)
    notes = (*converted.notes, *notes, *((ROUNDED,) if pixels.dtype == np.uint16 else ()))
    return ImageData(converted.rgb, None, False, Metadata(), notes)
