"""Read the metadata of images, adjust it to the result, and apply the orientation."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image
from PIL.ExifTags import IFD, Base

from pcsr_cli.images.image import ImageData, Metadata, Pixels

ABOUT_THE_FILE = {
    *range(254, 260), 262, 263, 266, 273, *range(277, 282), 284, *range(288, 294), 297, 301, *range(317, 326), 330,
    *range(332, 344), 347, *range(512, 533), 700, 33723, 34377, 34675, 37724,
}  # fmt: skip
"""TIFF tags of the storage of pixels, and tags that have a field in ``Metadata``. Encoders write these tags and fields
themselves."""

EXIF_SIZES = {Base.ExifImageWidth: 1, Base.ExifImageHeight: 0}
XMP_SIZES = {rb"tiff:ImageWidth|exif:PixelXDimension": 1, rb"tiff:ImageLength|exif:PixelYDimension": 0}
"""Tags of the image's size, with their index in (height, width)."""

MAX_DPI = 1e6


def read_metadata(info: Mapping[Any, Any], get_exif: Callable[[], Image.Exif]) -> tuple[Metadata, int, tuple[str, ...]]:
    """The metadata of a file, its EXIF orientation (1 to 8), and notes on damaged metadata.

    ``info`` and ``get_exif`` are ``info`` and ``getexif`` of a Pillow image. The orientation in the EXIF is reset:
    apply it to the pixels with ``upright``. The preview in EXIF is dropped."""
    notes: tuple[str, ...] = ()
    orientation, exif = 1, None
    try:
        tags = get_exif()  # Pillow raises errors about damage only on the first call
        orientation = read_orientation(lambda: tags)
        exif = _without_file_tags(tags)
        _resize_exif(exif, (1, 1))  # raises if this will fail for the result
    except Exception:  # Pillow raises errors of many types for damaged tags
        exif, notes = None, ("the EXIF is damaged and was dropped",)
    dpi = read_dpi(info.get("dpi"))
    if orientation >= 5 and dpi is not None:
        dpi = dpi[1], dpi[0]
    return Metadata(_bytes(info.get("icc_profile")), exif, _xmp(info), dpi), orientation, notes


def read_orientation(get_exif: Callable[[], Image.Exif]) -> int:
    """The EXIF orientation, 1 to 8, or 1 if the orientation is missing or damaged."""
    try:
        found = get_exif().get(Base.Orientation, 1)
    except Exception:  # Pillow raises errors of many types for damaged tags
        return 1
    return found if found in range(1, 9) else 1


def _without_file_tags(tags: Image.Exif) -> bytes | None:
    for tag in [tag for tag in tags if tag in ABOUT_THE_FILE]:
        del tags[tag]
    for tag in (IFD.Exif, IFD.GPSInfo):
        if tag in tags and not tags.get_ifd(tag):
            del tags[tag]
    if Base.Orientation in tags:
        tags[Base.Orientation] = 1
    if not len(tags):
        return None
    tags.bigtiff = False
    return tags.tobytes().removeprefix(b"Exif\0\0")


def _xmp(info: Mapping[Any, Any]) -> bytes | None:
    found = info.get("xmp", info.get("XML:com.adobe.xmp"))
    xmp = _bytes(found.encode("utf-8", "replace") if isinstance(found, str) else found)
    if xmp is None:
        return None
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp.rstrip(b"\0"))


def read_dpi(value: Any) -> tuple[float, float] | None:
    """Return a resolution (x, y) as floats, or None if the resolution is missing, damaged or implausible."""
    try:
        across, down = (float(side) for side in value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (across, down) if 1 < across < MAX_DPI and 1 < down < MAX_DPI else None  # 1 stands for an unknown resolution


def _bytes(value: object) -> bytes | None:
    return bytes(value) if isinstance(value, bytes | bytearray) and value else None


def resize_metadata(metadata: Metadata, height: int, width: int) -> Metadata:
    """Set the sizes in EXIF and XMP to those of the result."""
    size, xmp = (height, width), metadata.xmp
    if xmp is not None:
        for names, side in XMP_SIZES.items():
            xmp = re.sub(rb"((?:" + names + rb")(?:=[\"']|>))\d+", rb"\g<1>%d" % size[side], xmp)
    return replace(metadata, exif=_resize_exif(metadata.exif, size), xmp=xmp)


def _resize_exif(exif: bytes | None, size: tuple[int, int]) -> bytes | None:
    if exif is None:
        return None
    tags = load_exif(exif)
    if IFD.Exif in tags:  # get_ifd would create it
        inner = tags.get_ifd(IFD.Exif)
        inner.update({tag: size[side] for tag, side in EXIF_SIZES.items() if tag in inner})
    return tags.tobytes().removeprefix(b"Exif\0\0")


def load_exif(exif: bytes) -> Image.Exif:
    """Parse EXIF bytes into Pillow's tags."""
    tags = Image.Exif()
    tags.load(exif)
    return tags


SWAPPED, ROWS_REVERSED, COLUMNS_REVERSED = {5, 6, 7, 8}, {3, 4, 7, 8}, {2, 3, 6, 7}
"""EXIF orientations that need these steps, in this order."""


def upright(image: ImageData, orientation: int) -> ImageData:
    """Turn and mirror an image by the EXIF orientation (1 to 8) of its file."""
    if orientation == 1:
        return image
    alpha = None if image.alpha is None else _turn(image.alpha, orientation)
    return replace(image, rgb=_turn(image.rgb, orientation), alpha=alpha)


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    turned = pixels.swapaxes(0, 1) if orientation in SWAPPED else pixels
    turned = turned[::-1] if orientation in ROWS_REVERSED else turned
    return np.ascontiguousarray(turned[:, ::-1] if orientation in COLUMNS_REVERSED else turned)
