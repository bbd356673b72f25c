"""Read the metadata of images, adjust it to the result, and apply the orientation."""

import io
import math
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from pcsr_cli.images import xmp
from pcsr_cli.images.colour import (
    CHROMATICITIES,
    COLOUR_SPACE,
    HDR,
    STATES_SRGB,
    TRANSFER_FUNCTION,
    WHITE_POINT,
    from_cicp,
    from_exif,
    hdr_of_profile,
    make_profile,
)
from pcsr_cli.images.containers import C2PA, RawMetadata, find_metadata, iptc_resource, lasting_resources
from pcsr_cli.images.exif import (
    ASCII,
    INTEROP,
    LONG,
    MAKER_NOTE,
    MAX_EXIF,
    ORIENTATION,
    RATIONAL,
    SELF_CONTAINED,
    SHORT,
    Directory,
    Exif,
    Value,
    read_exif,
)
from pcsr_cli.images.image import ImageData, Metadata, Pixels, list_names
from pcsr_cli.images.modes import CONVERTED_MODES, GREY_MODES

ICC, XMP, IPTC, PHOTOSHOP, SOFTWARE = 34675, 700, 33723, 34377, 305
ABOUT_THE_FILE = {
    *range(254, 260), 262, 263, 266, 273, *range(277, 282), 284, *range(288, 294), 297, 301, *range(317, 326), 330,
    *range(332, 344), 347, *range(512, 533), XMP, IPTC, PHOTOSHOP, ICC, 37724,
}  # fmt: skip
"""TIFF tags about the storage of pixels, and tags that have a field in ``Metadata``. Encoders write these tags
themselves."""

LOST_TAGS = {
    frozenset({33550, 33922, 34264, 34735, 34736, 34737}): "the georeference of the pixels",
    frozenset({52545}): C2PA,
}
"""TIFF tags that do not describe a result."""

PHOTOMETRIC, GREY, CONVERTED = 262, {(0,), (1,)}, {(5,), (8,)}
"""TIFF's tag of the kind of colours, the values of the tag for grey, and its values for kinds that are converted to
sRGB."""

RESOLUTION = (282, 283)
RESOLUTION_UNIT = 296
PER_INCH = 2
UNITS: Mapping[float, float] = {PER_INCH: 1.0, 3: 2.54}
"""Units of resolution: TIFF's numbers for inch and centimetre, and the number of each per inch."""

PHOTO_SIZE, FOCAL_PLANE_RESOLUTION, SUBJECT = (0xA002, 0xA003), (0xA20E, 0xA20F), (0x9214, 0xA214)
"""EXIF tags whose values are in pixels: the size (x, y), the resolution on the sensor (x, y), and places of the
subject."""

UPRIGHT_WHEN_DECODED = {"HEIF", "JXL", "TIFF"}
"""Pillow's names of the formats whose decoders apply the orientation of the file (irot and imir, codestream, or tag).
In formats that are not listed, the orientation is in the EXIF, or else in the XMP. Pillow turns irot and imir of an
AVIF into EXIF."""

MAX_DPI = 1e6
MAX_ASPECT = 2**16


def read_metadata(
    image: Image.Image, file: BinaryIO, grey: bool | None = None
) -> tuple[Metadata, int, tuple[str, ...]]:
    """Return the metadata of an open Pillow image, the orientation to apply with ``upright``, and notes on dropped
    metadata.

    ``file`` is the image's file. ``grey`` is whether the decoded pixels are grey. If ``grey`` is None, the mode of the
    image is used instead. The metadata describes the upright image. The preview in EXIF is dropped."""
    if image.format == "TIFF":
        metadata, _, tiff_notes = read_tiff_metadata(file)
        return metadata, 1, tiff_notes
    raw, notes, exif = find_metadata(image, file), [], None
    if image.format == "AVIF" and raw.exif:  # Pillow encodes the EXIF anew
        raw.exif = image._decoder.get_info()[4] if hasattr(image, "_decoder") else raw.exif
    if raw.exif:
        try:
            exif = read_exif(raw.exif)
        except ValueError:
            notes.append("the EXIF is damaged and was dropped")
    aspect = _read_aspect(image.info)
    metadata = Metadata(
        raw.icc,
        xmp=raw.xmp,
        dpi=None if aspect else read_dpi(image.info.get("dpi")) or (exif_dpi(exif) if exif else None),
        text=tuple(raw.text),
        iptc=raw.iptc,
        extended_xmp=raw.extended_xmp,
        aspect=aspect,
    )
    if grey is None:
        grey = image.mode in GREY_MODES
    if image.mode not in CONVERTED_MODES:
        metadata = _with_colours(metadata, raw, exif, grey, notes)
    return _upright_metadata(metadata, exif, read_orientation(image), raw.lost, notes)


def _with_colours(metadata: Metadata, raw: RawMetadata, exif: Exif | None, grey: bool, notes: list[str]) -> Metadata:
    """Add a profile for a colour space that is stated without a profile. HDR and unknown colour spaces are noted.

    Of several statements, the first in this order counts: profile, cICP or nclx, another statement, EXIF."""
    icc, cicp = metadata.icc, raw.cicp
    hdr = (HDR.get(cicp[1]) if cicp else None) or (hdr_of_profile(icc) if icc else None)
    if hdr is not None:
        notes.append(f"the image is HDR ({hdr}), and its values were enlarged without a conversion")
    if cicp and cicp[1] in HDR:
        return replace(metadata, cicp=bytes((cicp[0] & 255, cicp[1], 0, 1)))
    if icc is not None:
        return metadata
    colours = from_cicp(cicp) if cicp else raw.colours or (from_exif(exif) if exif else None)
    if colours is not None and not colours.is_srgb:
        icc = make_profile(colours, grey)
    if icc is None and (cicp if colours is None else not colours.is_srgb):
        notes.append("the colour space that the file states is unknown, and the result states none")
    return replace(metadata, icc=icc)


def read_tiff_metadata(file: BinaryIO) -> tuple[Metadata, int, tuple[str, ...]]:
    """Return the metadata of a TIFF as ``read_metadata`` returns it. Raises ValueError for a damaged file."""
    used = {XMP, ICC, IPTC, PHOTOSHOP, PHOTOMETRIC, WHITE_POINT, CHROMATICITIES, TRANSFER_FUNCTION}
    exif = read_exif(file, ABOUT_THE_FILE - used)
    icc, packet, iptc, photoshop = (
        exif.main.values.get(tag, Value(ASCII, b"")).content for tag in (ICC, XMP, IPTC, PHOTOSHOP)
    )
    resources = lasting_resources(photoshop) or lasting_resources(iptc_resource(iptc))
    dpi = exif_dpi(exif)
    x, y = (exif.numbers(exif.main.values.get(tag)) for tag in RESOLUTION)
    without_unit = {"aspect": (x[0] * y[1], y[0] * x[1])} if len(x) == len(y) == 2 and dpi is None else {}
    if dpi is None:
        exif.main.drop({*RESOLUTION, RESOLUTION_UNIT})
    lost = [name for tags, name in LOST_TAGS.items() if exif.main.values.keys() & tags]
    exif.main.drop(set().union(*LOST_TAGS))
    metadata = Metadata(icc or None, None, packet or None, dpi, iptc=resources, aspect=_read_aspect(without_unit))
    notes: list[str] = []
    kind = exif.numbers(exif.main.values.get(PHOTOMETRIC))
    if kind not in CONVERTED:
        metadata = _with_colours(metadata, RawMetadata(), exif, kind in GREY, notes)
    if metadata.icc is None and TRANSFER_FUNCTION in exif.main.values:
        lost.append("the transfer function")
    return _upright_metadata(metadata, exif, exif.orientation, lost, notes)


def _upright_metadata(
    metadata: Metadata, exif: Exif | None, orientation: int, lost: list[str], notes: list[str]
) -> tuple[Metadata, int, tuple[str, ...]]:
    """Add the EXIF to the metadata, and adjust all metadata to the upright image. ``lost`` names the metadata that is
    not carried."""
    block, packet, dpi, aspect = None, metadata.xmp, metadata.dpi, metadata.aspect
    if exif is not None:
        if exif.damaged:
            notes.append("damaged tags of the EXIF were dropped")
        if _adjust_exif(exif, orientation):
            lost.append("the maker note in the EXIF (valid only at its place in the file)")
        block = exif.tobytes() if exif.main.values or exif.main.inner else None
    if packet is not None:
        packet, properties = xmp.true_of_result(packet, orientation > 1)
        lost.extend(properties)
    if orientation in SWAPPED:
        dpi, aspect = dpi and (dpi[1], dpi[0]), aspect and (aspect[1], aspect[0])
    if lost:
        notes.append(f"the result lacks {list_names(dict.fromkeys(lost))}")
    return replace(metadata, exif=block, xmp=packet, dpi=dpi, aspect=aspect), orientation, tuple(notes)


def _adjust_exif(exif: Exif, orientation: int) -> bool:
    """Adjust the EXIF to the upright image. Returns whether the maker note had to be dropped."""
    main, photo = exif.main, exif.photo
    main.drop(ABOUT_THE_FILE | {ORIENTATION})
    if orientation > 1:
        photo.drop(SUBJECT)
    if orientation in SWAPPED:
        for directory, (x, y) in ((main, RESOLUTION), (photo, PHOTO_SIZE), (photo, FOCAL_PLANE_RESOLUTION)):
            _swap(directory, x, y)
    note = photo.values.get(MAKER_NOTE)
    if note is None or note.offset < MAX_EXIF or note.content.startswith(SELF_CONTAINED):
        return False
    photo.drop({MAKER_NOTE})
    return True


def _swap(directory: Directory, first: int, second: int) -> None:
    values = {second: directory.values.get(first), first: directory.values.get(second)}
    directory.drop(values)
    directory.values.update({tag: value for tag, value in values.items() if value is not None})


def read_orientation(image: Image.Image) -> int:
    """Return the orientation, 1 to 8, that is to be applied to the decoded pixels of an open Pillow image."""
    if image.format in UPRIGHT_WHEN_DECODED and not getattr(image, "jpeg", False):  # a JPEG in JPEG XL is not turned
        return 1
    raw = find_metadata(image, io.BytesIO())
    try:
        exif = read_exif(raw.exif or b"")
    except ValueError:
        exif = Exif()
    if ORIENTATION in exif.main.values or image.format == "AVIF":
        return exif.orientation
    return xmp.orientation(raw.xmp or b"")


def _read_aspect(info: Mapping[Any, Any]) -> tuple[int, int] | None:
    """Return the resolution (x, y) without a unit. Return None if the resolution is missing or damaged, or if the
    pixels are square."""
    aspect: Any = info.get("aspect") or (info.get("jfif_density") if info.get("jfif_unit") == 0 else None)
    if aspect is None and "pixel_aspect_ratio" in info:  # of HEIC: width and height of a pixel
        aspect = info["pixel_aspect_ratio"][::-1]
    try:
        across, down = (int(side) for side in aspect)
        across, down = across // math.gcd(across, down), down // math.gcd(across, down)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if across != down and 0 < across < MAX_ASPECT and 0 < down < MAX_ASPECT else None


def read_dpi(value: Any) -> tuple[float, float] | None:
    """Return a resolution (x, y) as floats, or None if the resolution is missing, damaged or implausible."""
    try:
        across, down = (float(side) for side in value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (across, down) if 1 < across < MAX_DPI and 1 < down < MAX_DPI else None  # 1 stands for an unknown resolution


def exif_dpi(exif: Exif) -> tuple[float, float] | None:
    """Return the resolution in dots per inch by the tags of a TIFF, or None if the resolution is missing, damaged or
    without a unit."""
    values = exif.main.values
    unit = exif.numbers(values.get(RESOLUTION_UNIT)) or (PER_INCH,)
    sides = (exif.numbers(values.get(tag)) for tag in RESOLUTION)
    dpi = read_dpi([side[0] / side[1] if len(side) == 2 and side[1] else 0 for side in sides])
    factor = UNITS.get(unit[0])
    return None if factor is None or dpi is None else (dpi[0] * factor, dpi[1] * factor)


def resize_metadata(
    metadata: Metadata,
    height: int,
    width: int,
    software: str | None = None,
    dpi: tuple[float, float] | None = None,
    is_converted: bool = False,
) -> Metadata:
    """Set the sizes in EXIF and XMP to the size of the result. ``software`` and ``dpi`` are added to the EXIF.

    ``is_converted`` is whether the colours are converted to sRGB."""
    exif = Exif() if metadata.exif is None else read_exif(metadata.exif)
    _resize_photo(exif, (width, height))
    if is_converted and COLOUR_SPACE in exif.photo.values:
        exif.photo.values[COLOUR_SPACE] = exif.value(SHORT, STATES_SRGB)
        exif.photo.inner.pop(INTEROP, None)  # it may state Adobe RGB
    if software is not None:
        earlier = exif.main.values.get(SOFTWARE, Value(ASCII, b"")).content.partition(b"pcsr ")[0].strip(b"\0 ;")
        joined = b"; ".join([*([earlier] if earlier else []), software.encode("utf-8", "replace")])
        exif.main.values[SOFTWARE] = Value(ASCII, joined + b"\0")
    if dpi is not None and not exif_dpi(exif):
        resolution = {
            tag: exif.value(RATIONAL, round(side * 1000), 1000) for tag, side in zip(RESOLUTION, dpi, strict=True)
        }
        exif.main.values |= {**resolution, RESOLUTION_UNIT: exif.value(SHORT, PER_INCH)}
    return replace(
        metadata,
        exif=exif.tobytes() if exif.main.values or exif.main.inner else None,
        xmp=None if metadata.xmp is None else xmp.resized(metadata.xmp, height, width),
    )


def _resize_photo(exif: Exif, size: tuple[int, int]) -> None:
    """Adjust the tags whose values are in pixels to a size (x, y). Tags that cannot be scaled are dropped."""
    values = exif.photo.values
    old = [exif.numbers(values.get(tag)) for tag in PHOTO_SIZE]
    known = all(side and side[0] > 0 for side in old)
    factors = [new / side[0] for new, side in zip(size, old, strict=True)] if known else []
    for tag in (*SUBJECT, *FOCAL_PLANE_RESOLUTION):
        value = values.pop(tag, None)
        if value is None or not known:
            continue
        numbers = list(exif.numbers(value))
        with suppress(ValueError, OverflowError, struct.error):  # damage, or a number too large for its type
            if tag in SUBJECT:
                numbers = [round(number * factors[place % 2]) for place, number in enumerate(numbers)]
            else:
                numbers[0] = round(numbers[0] * factors[FOCAL_PLANE_RESOLUTION.index(tag)])
            values[tag] = exif.value(value.type, *numbers)
    values.update({tag: exif.value(LONG, side) for tag, side in zip(PHOTO_SIZE, size, strict=True) if tag in values})


SWAPPED, ROWS_REVERSED, COLUMNS_REVERSED = {5, 6, 7, 8}, {3, 4, 7, 8}, {2, 3, 6, 7}
"""EXIF orientations that need each step, in the order of the steps."""


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
