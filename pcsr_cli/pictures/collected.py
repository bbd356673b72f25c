"""Formats that Pillow encodes: rows are collected, and the file is made of them at the end."""

import io
import struct
from typing import BinaryIO

import numpy as np
from PIL import Image

from pcsr_cli.pictures import plug_ins
from pcsr_cli.pictures.colour import to_srgb
from pcsr_cli.pictures.formats import Format, SaveOptions
from pcsr_cli.pictures.picture import Layout, Levels, Metadata

EncodingError = (ValueError, struct.error, SyntaxError, RuntimeError)
"""What Pillow raises for a picture that a format cannot hold; besides OSError."""

PILLOW_NAMES = {"WebP": "WEBP", "HEIC": "HEIF", "JPEG XL": "JXL", "APNG": "PNG"}
"""Where Pillow's name is another."""


class CollectedRows:
    """``write`` rows from top to bottom, then ``finish``, which encodes them and writes the file.

    Raises ValueError, struct.error, SyntaxError or RuntimeError where Pillow cannot encode them."""

    def __init__(
        self, file: BinaryIO, format: Format, layout: Layout, metadata: Metadata, options: SaveOptions
    ) -> None:
        self._file, self._format, self._metadata, self._options = file, format, metadata, options
        self._pixels = np.empty((layout.height, layout.width, layout.channels), np.uint8)
        self._done = 0

    def write(self, rows: Levels) -> None:
        """The next rows, (n, W, C) uint8."""
        self._pixels[self._done : self._done + len(rows)] = rows
        self._done += len(rows)

    def finish(self) -> None:
        """The end of the picture; all rows have been written."""
        image = as_image(self._pixels)
        encode(self._file, [image], self._format, self._metadata, self._options)


def as_image(channels: Levels) -> Image.Image:
    """(H, W, 1 to 4) uint8 as a PIL picture of mode L, LA, RGB or RGBA; 16-bit grey as I;16."""
    return Image.fromarray(channels[..., 0] if channels.shape[2] == 1 else channels)


def encode(
    file: BinaryIO,
    images: list[Image.Image],
    format: Format,
    metadata: Metadata,
    options: SaveOptions,
    **timing: object,
) -> None:
    """Write a picture, or the frames of an animation with their ``timing`` in Pillow's words."""
    plug_ins.load(format)
    if metadata.icc is not None and not (format.icc and (format.grey or images[0].mode in {"RGB", "RGBA"})):
        images = [to_srgb(image, metadata.icc) or image for image in images]
        metadata = Metadata(None, metadata.exif, metadata.xmp, metadata.dpi)
    encoded = io.BytesIO()  # straight to a file, Pillow does not notice when a full disk takes only half
    name = PILLOW_NAMES.get(format.name, format.name)
    images[0].save(encoded, name, **_described(format, metadata), **_settings(format, options), **timing)
    file.write(encoded.getbuffer())


def _described(format: Format, metadata: Metadata) -> dict[str, object]:
    """Metadata in the words of Pillow's encoders, as far as the format has room for it."""
    found: dict[str, object] = {}
    if format.icc:
        found["icc_profile"] = metadata.icc
    if format.exif and metadata.exif is not None:
        found["exif"] = b"Exif\0\0" + metadata.exif
    if format.xmp and metadata.xmp is not None:
        found["xmp"] = metadata.xmp
    if format.dpi and metadata.dpi is not None:
        found["dpi"] = metadata.dpi
    return found


def _settings(format: Format, options: SaveOptions) -> dict[str, object]:
    """The options in the words of Pillow's encoders."""
    quality = options.quality or format.quality
    match format.name:
        case "JPEG":
            return {"quality": quality, "subsampling": 0}
        case "WebP":
            # "exact" keeps the colours under transparent pixels, which the next enlargement may look at.
            return {"lossless": True, "exact": True} if options.lossless else {"quality": quality}
        case "AVIF" | "HEIC":
            return {"quality": quality}
        case "JPEG XL":
            return {"lossless": True} if options.lossless else {"quality": quality, "lossless": False}
    return {}
