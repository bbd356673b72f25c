"""Picture files into memory: upright, in straight RGB or grey, 8 or 16 bits as the file has them."""

from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

from pcsr_cli.errors import InputError
from pcsr_cli.pictures.formats import known_suffixes
from pcsr_cli.pictures.libvips import is_better_read, is_rounded, read_pixels
from pcsr_cli.pictures.metadata import read_metadata, read_orientation, read_tags
from pcsr_cli.pictures.modes import from_pil
from pcsr_cli.pictures.orientation import upright
from pcsr_cli.pictures.picture import Picture, to_8_bits
from pcsr_cli.pictures.png_metadata import without_pixels
from pcsr_cli.pictures.sources import (
    ANIMATIONS,
    check_size,
    is_tiff,
    open_if_known,
    opened,
    reading_told,
    source_name,
)

TURNED_BY_DECODER = {"HEIF", "JXL"}
"""Pillow's names of the formats in which EXIF's orientation is not what counts."""

XMP = 700
PER_INCH = 2
"""A TIFF's tag, and its number for a unit of resolution."""


def read_picture(source: Path | BinaryIO, allow_huge: bool = False) -> Picture:
    """Read a picture file, upright (its EXIF orientation applied); of an animation the first frame.

    ``allow_huge`` reads more pixels than are safe to open unasked. Raises InputError, MemoryError."""
    name = source_name(source)
    with opened(source) as file, reading_told(source):
        image = open_if_known(file, name)
        if image is None and is_tiff(file):
            return _read_unknown_tiff(file, name, allow_huge)
        if image is None:
            known = ", ".join(known_suffixes())
            raise InputError(f"{name} is not a picture of a known format.", f"Known: {known}.")
        check_size(name, image.width, image.height, allow_huge)
        return _read(file, image)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """The colours of a picture file for measuring and training, (H, W, 3) uint8: 16 bits are rounded to 8.

    Raises InputError."""
    return to_8_bits(read_picture(path).rgb)


def read_pil(image: Image.Image) -> Picture:
    """A picture that somebody opened with PIL, upright. Raises InputError, and what PIL does of damage."""
    image.load()  # a TIFF is turned by that, and a PNG may say only then how it is to be
    return upright(from_pil(image), 1 if image.format in TURNED_BY_DECODER else read_orientation(image.getexif))


def _read(file: BinaryIO, image: Image.Image) -> Picture:
    by_libvips = is_better_read(image)
    rounded = not by_libvips and is_rounded(image, file)
    frames = getattr(image, "n_frames", 1)
    if not by_libvips:
        image.load()  # first: a PNG's metadata may come after the pixels, and Pillow turns a TIFF itself
    described = without_pixels(file) if image.format == "PNG" and by_libvips else image
    metadata, orientation, notes = read_metadata(described.info, described.getexif)
    if by_libvips:
        assert image.format is not None
        picture = read_pixels(file, image.format, getattr(image, "tag_v2", {}))
        picture = replace(picture, metadata=metadata)
    else:
        picture = from_pil(image)  # whose profile may have been used up
        picture = replace(picture, metadata=replace(metadata, icc=picture.metadata.icc))
    notes = (*picture.notes, *notes, *_of_frames(image, frames))
    if rounded:
        notes = (*notes, "more than 8 bits a channel were read as 8")
    return upright(replace(picture, notes=notes), 1 if image.format in TURNED_BY_DECODER else orientation)


def _read_unknown_tiff(file: BinaryIO, name: str, allow_huge: bool) -> Picture:
    """A TIFF that Pillow does not know, such as one of 16-bit grey with alpha."""
    tags = read_tags(file)
    check_size(name, int(tags.get(Base.ImageWidth, 0)), int(tags.get(Base.ImageLength, 0)), allow_huge)
    picture = read_pixels(file, "TIFF", tags)
    info = {"icc_profile": tags.get(Base.InterColorProfile), "xmp": tags.get(XMP)}
    if tags.get(Base.ResolutionUnit, PER_INCH) == PER_INCH:
        info["dpi"] = (tags.get(Base.XResolution), tags.get(Base.YResolution))
    metadata, orientation, notes = read_metadata(info, lambda: tags)
    return upright(replace(picture, metadata=metadata, notes=notes), orientation)


def _of_frames(image: Image.Image, frames: int) -> tuple[str, ...]:
    if frames < 2 or image.format == "MPO":  # whose other pictures are previews
        return ()
    if image.format in ANIMATIONS:
        return (f"only the first of {frames} frames was used: --frames enlarges them all",)
    return (f"only the first of {frames} {'pages' if image.format == 'TIFF' else 'frames'} was used",)
