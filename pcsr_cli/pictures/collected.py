"""Formats that Pillow encodes: rows are collected, and the file is made of them at the end."""

import io
import struct
from typing import BinaryIO

import numpy as np
from PIL import Image

from pcsr_cli.pictures import plug_ins
from pcsr_cli.pictures.colour import is_of_grey, to_srgb
from pcsr_cli.pictures.formats import Format, SaveOptions
from pcsr_cli.pictures.picture import Layout, Levels, Metadata

EncodingError = (ValueError, struct.error, SyntaxError, RuntimeError)
"""What Pillow raises for a picture that a format cannot hold; besides OSError."""


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
    """Write a picture, or the frames of an animation with their ``timing`` in Pillow's words.

    ``metadata`` is what ``keepable`` has left. Where the format has no profile, or none of grey, the colours are
    converted by theirs."""
    plug_ins.load(format)
    described: dict[str, object] = {}
    if metadata.icc is not None:
        if "icc" in format.metadata and (format.grey or not is_of_grey(metadata.icc)):
            described["icc_profile"] = metadata.icc
        else:
            images = [to_srgb(image, metadata.icc) or image for image in images]
    if format.colours is not None:
        images = [_of_few_colours(image, format.colours) for image in images]
    if metadata.exif is not None:
        described["exif"] = b"Exif\0\0" + metadata.exif
    if metadata.xmp is not None:
        described["xmp"] = metadata.xmp
    if metadata.dpi is not None:
        described["dpi"] = metadata.dpi
    if len(images) > 1:
        timing = {**timing, "append_images": images[1:]}
    encoded = io.BytesIO()  # straight to a file, Pillow does not notice when a full disk takes only half
    images[0].save(encoded, format.pillow, **described, **_settings(format, options), **timing)
    file.write(encoded.getbuffer())


def _of_few_colours(image: Image.Image, colours: int) -> Image.Image:
    """A picture with a palette; where it is more clear than opaque, it has a last, transparent colour."""
    if image.mode == "L":
        return image
    if image.mode == "RGB":
        return image.quantize(colours)
    clear = image.getchannel("A").point([255] * 128 + [0] * 128)
    few = image.convert("RGB").quantize(colours - 1)
    few.paste(colours - 1, mask=clear)
    few.info["transparency"] = colours - 1
    return few


def _settings(format: Format, options: SaveOptions) -> dict[str, object]:
    """The options in the words of Pillow's encoders."""
    quality = options.quality or format.quality
    match format.name:
        case "JPEG":
            return {"quality": quality, "subsampling": 0}
        case "WebP":
            # "exact" keeps the colours under transparent pixels, which the next enlargement may look at.
            return {"lossless": True, "exact": True} if options.lossless else {"quality": quality}
        case "AVIF":
            return {"quality": quality, "subsampling": "4:4:4"}
        case "HEIC":
            return {"quality": quality}
        case "JPEG XL":
            return {"lossless": True} if options.lossless else {"quality": quality, "lossless": False}
        case "PNG" if options.compression is not None:
            return {"compress_level": options.compression}
    return {}
