"""Decode files with libvips: TIFF, damaged files, and intact files that Pillow cannot decode.

Loaders that libvips marks as unfit for untrusted files are blocked."""

import io
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from pcsr_cli.errors import InputError
from pcsr_cli.images.formats import starts_like
from pcsr_cli.images.image import ImageData, Layout, Metadata, Pixels, from_channels, to_8_bits
from pcsr_cli.images.modes import ROUNDED, from_pil, unsupported_numbers

if TYPE_CHECKING:
    import pyvips

DAMAGED_PIXELS = re.compile("corrupt|premature|looping", re.IGNORECASE)

_LOCK = RLock()
"""libvips collects the errors of all threads in one text."""

DECODED = ("JPEG", "PNG", "WebP", "GIF", "TIFF")
"""The formats that libvips may decode."""


def open_with_vips(file: BinaryIO, is_strict: bool = True) -> "pyvips.Image":
    """Open the first page or frame as an image of libvips without reading pixels.

    Call this function within ``vips_errors``. Raises ValueError for formats that are not in ``DECODED``,
    ``pyvips.Error`` for damage."""
    import pyvips

    pyvips.block_untrusted_set(True)
    if not starts_like(file, *DECODED):
        raise ValueError("no other decoder reads it")
    is_tiff = starts_like(file, "TIFF")
    if isinstance(file, io.BufferedReader) and isinstance(name := getattr(file, "name", None), str):
        source = pyvips.Source.new_from_file(os.fsencode(name))  # its name need not be UTF-8
    else:
        file.seek(0)
        source = pyvips.Source.new_from_memory(file.read())
    # The general function keeps the source alive, and a loader of libvips does not.
    # libtiff warns of tags in intact files, such as a copyright with two names.
    strictness = "error" if is_tiff else "warning"
    return pyvips.Image.new_from_source(source, "", access="sequential", fail_on=strictness if is_strict else "none")


class _Complaints(logging.Handler):
    """Collects warnings of libvips about damaged pixels. Other warnings are ignored: most are about tags, and intact
    files cause them too."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text of a warning."""
        if DAMAGED_PIXELS.search(text := record.getMessage()):
            self.texts.append(text)


@contextmanager
def vips_errors(is_strict: bool = True) -> Iterator[None]:
    """Turn errors of libvips about damage into ValueError. With ``is_strict``, warnings count as errors."""
    import pyvips

    logger, logged = logging.getLogger("pyvips"), _Complaints()
    with _LOCK:
        pyvips.Error("")  # takes the text of earlier errors
        logger.addHandler(logged)
        try:
            yield
            complaint = "\n".join((pyvips.Error("").detail, *logged.texts)) if is_strict else ""
        except pyvips.Error as error:
            complaint = error.detail or "the pixels cannot be decoded"
            if "out of memory" in str(error):
                raise MemoryError(str(error)) from error
        finally:
            logger.removeHandler(logged)
    if lines := [line.strip() for line in complaint.splitlines() if line.strip()]:
        raise ValueError(re.sub(r"^\w+: ", "", lines[0]))  # without the name of a function


def check_gif(file: BinaryIO) -> None:
    """Raise ValueError if libvips reports damage of the blocks or the first frame of a GIF.

    The mark at the end of a GIF may be missing."""
    file.seek(0)
    with vips_errors():
        open_with_vips(io.BytesIO(file.read() + b";"))[0].avg()


def vips_layout(image: "pyvips.Image", has_alpha: bool) -> Layout:
    """Return the layout of ``decode_with_vips``'s image. Raises InputError for unsupported colours and numbers.

    ``has_alpha`` is whether a channel after the colours is alpha."""
    if image.format not in {"uchar", "ushort"}:
        if image.format in {"char", "short"}:
            raise InputError("Images with signed numbers are not supported.", "Convert the image to unsigned numbers.")
        raise unsupported_numbers(image.format in {"float", "double"})
    depth = 16 if image.format == "ushort" else 8
    if image.interpretation == "cmyk":
        return Layout(image.height, image.width)
    grey = image.interpretation in {"b-w", "grey16"}
    if not grey and image.interpretation not in {"rgb", "rgb16", "srgb"}:
        raise InputError(f"Images of mode {image.interpretation} are not supported.", "Convert the image to RGB.")
    return Layout(image.height, image.width, grey, has_alpha and image.bands > (1 if grey else 3), depth)


def decode_with_vips(image: "pyvips.Image", has_alpha: bool, icc: bytes | None) -> ImageData:
    """Decode an image of libvips. CMYK is converted to RGB through its profile.

    Call this function within ``vips_errors``. Raises InputError for unsupported colours and numbers,
    ``pyvips.Error`` for damage, MemoryError."""
    layout = vips_layout(image, has_alpha)
    pixels: Pixels = image.numpy().reshape(image.height, image.width, image.bands)
    return from_vips_pixels(pixels, layout, image.interpretation == "cmyk", icc)


def from_vips_pixels(pixels: Pixels, layout: Layout, is_cmyk: bool, icc: bytes | None) -> ImageData:
    """Make an image from channels (H, W, C) of this layout, or of CMYK. The notes of the image name dropped
    channels."""
    used = 4 if is_cmyk else layout.channels
    bands = pixels.shape[2]
    dropped = pixels[..., used:]
    is_noted = dropped.size > 0 and bool((dropped != np.iinfo(pixels.dtype).max).any())  # libvips adds opaque alpha
    notes = (f"the last {bands - used} of {bands} channels were dropped",) if is_noted else ()
    if not is_cmyk:
        image = from_channels(pixels, layout.grey, layout.alpha)
        return ImageData(image.rgb, image.alpha, image.grey, Metadata(icc), notes)
    ink = Image.frombytes("CMYK", (layout.width, layout.height), to_8_bits(pixels[..., :4]).tobytes())
    ink.info["icc_profile"] = icc
    converted = from_pil(ink)
    notes = (*converted.notes, *notes, *((ROUNDED,) if pixels.dtype == np.uint16 else ()))
    return ImageData(converted.rgb, None, False, Metadata(), notes)
