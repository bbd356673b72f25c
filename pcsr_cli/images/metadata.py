"""What goes with a picture from file to file: profile, EXIF, XMP and resolution, made true of the result."""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import IFD, Base

from pcsr_cli.images.image import ImageData, Metadata
from pcsr_cli.images.png import SIGNATURE

ABOUT_THE_FILE = {
    *range(254, 260), 262, 263, 266, 273, *range(277, 282), 284, *range(288, 294), 297, 301, *range(317, 326), 330,
    *range(332, 344), 347, *range(512, 533), 700, 33723, 34377, 34675, 37724,
}  # fmt: skip
"""TIFF tags that tell how the pixels are stored, or hold what is carried over otherwise: they are the writer's."""

EXIF_WIDTHS = {Base.ExifImageWidth: 1, Base.ExifImageHeight: 0}
XMP_SIZES = {
    b"tiff:ImageWidth": 1,
    b"tiff:ImageLength": 0,
    b"exif:PixelXDimension": 1,
    b"exif:PixelYDimension": 0,
}
"""Tags of the size, and whether they tell (height, width)[0] or [1]."""

MOST_DOTS = 1e6


def read_metadata(info: Mapping[Any, Any], tags_of: Callable[[], Image.Exif]) -> tuple[Metadata, int, tuple[str, ...]]:
    """What a file says about its picture, its EXIF orientation (1 to 8), and notes on what could not be kept.

    ``info`` and ``tags_of`` are a PIL picture's ``info`` and ``getexif``. The orientation is taken out: the pixels are
    to be turned by ``orientation.upright``. The preview in EXIF is dropped."""
    notes: tuple[str, ...] = ()
    orientation, exif = 1, None
    try:
        tags = tags_of()  # once: PIL tells of damage only the first time
        orientation = read_orientation(lambda: tags)
        exif = _without_the_file(tags)
        _of_size(exif, (1, 1))  # what cannot be brought up to date is damaged, too
    except Exception:  # whatever a parser trips over in damaged tags
        exif, notes = None, ("its EXIF is damaged and was left out",)
    dpi = _dpi(info)
    if orientation >= 5 and dpi is not None:
        dpi = dpi[1], dpi[0]
    return Metadata(_bytes(info.get("icc_profile")), exif, _xmp(info), dpi), orientation, notes


def read_orientation(tags_of: Callable[[], Image.Exif]) -> int:
    """The EXIF orientation, 1 to 8, of what has ``tags_of`` for its ``getexif``; 1 where it tells none."""
    try:
        found = tags_of().get(Base.Orientation, 1)
    except Exception:  # whatever a parser trips over in damaged tags
        return 1
    return found if found in range(1, 9) else 1


def read_tags(file: BinaryIO) -> Image.Exif:
    """The tags of a TIFF or BigTIFF. Raises what damage leads to."""
    file.seek(0)
    head = file.read(16)
    tags = Image.Exif()
    tags.endian = "<" if head.startswith(b"II") else ">"
    tags.bigtiff = b"+" in head[2:4]
    place = struct.unpack_from(tags.endian + ("Q" if tags.bigtiff else "I"), head, 8 if tags.bigtiff else 4)[0]
    tags.load_from_fp(file, place)
    return tags


def _without_the_file(tags: Image.Exif) -> bytes | None:
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
    xmp = xmp.rstrip(b"\0")
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp)


def _dpi(info: Mapping[Any, Any]) -> tuple[float, float] | None:
    try:
        across, down = (float(side) for side in info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (across, down) if 1 < across < MOST_DOTS and 1 < down < MOST_DOTS else None  # 1: a TIFF without a unit


def _bytes(value: object) -> bytes | None:
    return bytes(value) if isinstance(value, bytes | bytearray) and value else None


def of_size(metadata: Metadata, height: int, width: int) -> Metadata:
    """The same for a picture of another size: what EXIF and XMP say about it is brought up to date."""
    size, xmp = (height, width), metadata.xmp
    if xmp is not None:
        for name, side in XMP_SIZES.items():
            xmp = re.sub(rb"(" + name + rb"(?:=[\"']|>))\d+", rb"\g<1>%d" % size[side], xmp)
    return replace(metadata, exif=_of_size(metadata.exif, size), xmp=xmp)


def _of_size(exif: bytes | None, size: tuple[int, int]) -> bytes | None:
    if exif is None:
        return None
    tags = _load(exif)
    if IFD.Exif in tags:  # to ask for it makes it
        inner = tags.get_ifd(IFD.Exif)
        inner.update({tag: size[side] for tag, side in EXIF_WIDTHS.items() if tag in inner})
    return tags.tobytes().removeprefix(b"Exif\0\0")


def directories(exif: bytes | None) -> dict[int, Any]:
    """EXIF as tags for a TIFF's directory, those of Exif and GPS as dictionaries of their own."""
    if exif is None:
        return {}
    tags = _load(exif)
    found = {tag: tags[tag] for tag in tags if tag not in ABOUT_THE_FILE}
    for tag in (IFD.Exif, IFD.GPSInfo):
        if tag in found:
            found[tag] = dict(tags.get_ifd(tag))
    return found


def _load(exif: bytes) -> Image.Exif:
    tags = Image.Exif()
    tags.load(exif)
    return tags


_Level = TypeVar("_Level", bound=np.generic)

TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
"""For each orientation, whether rows and columns change places, and then whether rows and columns run backwards."""


def upright(picture: ImageData, orientation: int) -> ImageData:
    """A picture whose file says EXIF's ``orientation`` (1 to 8), as it is to be seen."""
    if orientation == 1:
        return picture
    alpha = None if picture.alpha is None else _turned(picture.alpha, orientation)
    return replace(picture, rgb=_turned(picture.rgb, orientation), alpha=alpha)


def _turned(pixels: NDArray[_Level], orientation: int) -> NDArray[_Level]:
    swap, down, across = TURNS[orientation]
    turned = pixels.swapaxes(0, 1) if swap else pixels
    turned = turned[::-1] if down else turned
    return np.ascontiguousarray(turned[:, ::-1] if across else turned)


DESCRIBING = {b"iCCP", b"eXIf", b"iTXt", b"zTXt", b"tEXt", b"pHYs"}


def without_pixels(file: BinaryIO) -> Image.Image:
    """A picture of one pixel that says of itself what a PNG file says, loaded. Raises what damage leads to."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixel = _chunk(b"IDAT", zlib.compress(b"\0\0"))
    image = Image.open(io.BytesIO(b"".join((SIGNATURE, header, *_describing(file), pixel, _chunk(b"IEND", b"")))))
    image.load()
    return image


def _describing(file: BinaryIO) -> Iterator[bytes]:
    """The chunks that describe, as they are."""
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in DESCRIBING:
            yield head + file.read(length + 4)
        else:
            file.seek(length + 4, io.SEEK_CUR)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
