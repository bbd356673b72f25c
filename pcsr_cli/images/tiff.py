"""Read TIFF with libvips, and write it row by row.

libvips decodes every TIFF except CIELAB, Zstandard and the kinds that ``segments.py`` decodes. Pillow reads CIELAB and
Zstandard. Pillow rounds 16-bit colour to 8 bits and does not open 16-bit grey with alpha. Its libtiff prints errors on
stderr.
"""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from PIL.ExifTags import Base

from pcsr_cli.images.exif import BYTE, LONG, LONG8, RATIONAL, SHORT, UNDEFINED, Directory, Exif, Value, read_exif
from pcsr_cli.images.formats import starts_like
from pcsr_cli.images.image import ImageData, Layout, Metadata, Pixels
from pcsr_cli.images.metadata import ICC, PER_INCH, PHOTOSHOP, RESOLUTION, XMP, exif_dpi, read_tiff_metadata, upright
from pcsr_cli.images.segments import BLACK_IS_ZERO, HORIZONTAL, RGB, as_numbers, decode_segments, segment_layout
from pcsr_cli.images.vips import (
    decode_with_vips,
    from_vips_pixels,
    open_with_vips,
    vips_errors,
    vips_layout,
)

if TYPE_CHECKING:
    import pyvips

STRIP_BYTES = 2**20
CLASSIC_BYTES = 2**32 - 2**26
"""Maximum bytes of pixels in a file with 32-bit offsets. Of the 4 GiB, 64 MiB are reserved for tags and metadata."""

HEADERS = {False: (42, 0), True: (43, 8, 0, 0)}
"""The numbers after the byte order in a TIFF and a BigTIFF; the last is the offset of the tags."""

SEGMENTS = ((Base.StripOffsets, Base.StripByteCounts), (Base.TileOffsets, Base.TileByteCounts))
"""Tags of the offsets and byte counts of strips and tiles."""

MANY_PAGES, MAX_PAGES = 1_000, 100_000
"""If a file has more than MANY_PAGES pages, libvips opens a copy with only the first page. Counting stops at
MAX_PAGES."""

CIELAB, ZSTANDARD = 8, 50000
SENSOR_DATA = {32803, 34892}
"""Kinds of pixels in raw files: a colour filter array, and linear data."""

IMAGE_SOURCE_DATA = 37724
UNCOMPRESSED, DEFLATE = 1, 8
UNASSOCIATED_ALPHA = 2
WITHOUT_UNIT = 1


def read_tags(file: BinaryIO) -> Mapping[int, Any] | None:
    """Read the tags of a TIFF or BigTIFF that ``read_tiff`` can decode. A value is a number or a tuple of numbers.

    Returns None for other files. Raises ValueError for damaged files."""
    if not starts_like(file, "TIFF"):
        return None
    exif = read_exif(file, skipped={Base.ImageResources, IMAGE_SOURCE_DATA, XMP, ICC})
    numbers = {tag: exif.numbers(value) for tag, value in exif.main.values.items()}
    tags = {tag: found[0] if len(found) == 1 else found for tag, found in numbers.items()}
    pillow_only = tags.get(Base.PhotometricInterpretation) == CIELAB or tags.get(Base.Compression) == ZSTANDARD
    return None if pillow_only else tags


def _read_head(file: BinaryIO) -> tuple[str, bool, int]:
    """Return the byte order in the notation of ``struct``, whether this is a BigTIFF, and where the first page is."""
    file.seek(0)
    head = file.read(16)
    endian, is_big = "<" if head.startswith(b"II") else ">", b"+" in head[2:4]
    return endian, is_big, struct.unpack_from(endian + ("Q" if is_big else "I"), head, 8 if is_big else 4)[0]


def _find_pages(file: BinaryIO) -> tuple[int, slice]:
    """Return the number of pages, at most ``MAX_PAGES``, and the place of the first page's pointer to the second."""
    endian, is_big, offset = _read_head(file)
    count, entry, pointer = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    places: dict[int, int] = {}
    while offset and offset not in places and len(places) < MAX_PAGES:
        file.seek(offset)
        entries = struct.unpack(endian + count, file.read(struct.calcsize(count)))[0]
        places[offset] = file.seek(entries * entry, io.SEEK_CUR)
        following = file.read(struct.calcsize(pointer))
        offset = struct.unpack(endian + pointer, following)[0] if len(following) == struct.calcsize(pointer) else 0
    first = next(iter(places.values()), 0)
    return len(places), slice(first, first + struct.calcsize(pointer))


def _open(file: BinaryIO, is_strict: bool = True) -> "pyvips.Image":
    """Open the first page with libvips. libvips reads the tags of every page, so the pages after the first are removed
    from a copy of a file with many pages."""
    pages, place = _find_pages(file)
    if pages > MANY_PAGES:
        file.seek(0)
        content = bytearray(file.read())
        content[place] = bytes(place.stop - place.start)
        file = io.BytesIO(content)
    return open_with_vips(file, is_strict)


def read_tiff(file: BinaryIO, tags: Mapping[int, Any], is_strict: bool = True) -> ImageData:
    """Read the first page of a TIFF, upright. Colours premultiplied by alpha are divided by alpha.

    Raises InputError for unsupported kinds of TIFF, ValueError for damage, MemoryError."""
    if is_strict:
        _check_segments(file, tags)
    metadata, orientation, notes = read_tiff_metadata(file)
    layout = segment_layout(tags, _has_alpha(tags))
    if layout is None:
        with vips_errors(is_strict):
            image = decode_with_vips(_open(file, is_strict), _has_alpha(tags), metadata.icc)
    else:
        pixels = decode_segments(file, tags, _read_head(file)[0])
        image = from_vips_pixels(pixels, layout, is_cmyk=False, icc=metadata.icc)
    notes = (*image.notes, *notes, *_pages_note(_find_pages(file)[0], tags))
    return upright(replace(image, metadata=replace(metadata, icc=image.metadata.icc), notes=notes), orientation)


def _pages_note(pages: int, tags: Mapping[int, Any]) -> tuple[str, ...]:
    more = " or more" if pages == MAX_PAGES else ""
    what = ", which is a reduced version of another" if _is_reduced(tags) else ""
    return (f"only the first of {pages:,}{more} pages was used{what}",) if pages > 1 else ()


def is_raw(file: BinaryIO, tags: Mapping[int, Any]) -> bool:
    """Return whether a TIFF is a camera's raw file, whose first image is a preview or the data of the sensor."""
    file.seek(8)
    return (
        Base.DNGVersion in tags
        or tags.get(Base.PhotometricInterpretation) in SENSOR_DATA
        or (_is_reduced(tags) and Base.SubIFDs in tags)
        or file.read(2) == b"CR"  # Canon's CR2
    )


def _is_reduced(tags: Mapping[int, Any]) -> bool:
    return bool(as_numbers(tags.get(Base.NewSubfileType, 0))[:1] > (0,) and tags[Base.NewSubfileType] & 1)


def _has_alpha(tags: Mapping[int, Any]) -> bool:
    return any(as_numbers(tags.get(Base.ExtraSamples)))  # zero for channels that are not alpha


def read_tiff_layout(file: BinaryIO, tags: Mapping[int, Any]) -> Layout:
    """Return the layout of ``read_tiff``'s image without decoding pixels. Raises the errors of ``read_tiff``."""
    layout = segment_layout(tags, _has_alpha(tags))
    if layout is not None:
        return layout
    with vips_errors():
        return vips_layout(_open(file), _has_alpha(tags))


def _check_segments(file: BinaryIO, tags: Mapping[int, Any]) -> None:
    """Raise ValueError if the file ends before its pixels, because libtiff would invent the missing pixels."""
    end = file.seek(0, io.SEEK_END)
    for offsets, sizes in SEGMENTS:
        segments = zip(as_numbers(tags.get(offsets)), as_numbers(tags.get(sizes)), strict=False)
        if any(offset + size > end for offset, size in segments):
            raise ValueError("the pixels end too early")


def write_tiff(
    file: BinaryIO, layout: Layout, rows: Iterable[Pixels], metadata: Metadata, compression: int | None = None
) -> None:
    """Write blocks of rows, (n, W, C) each, as a TIFF in strips, or as a BigTIFF if the pixels may exceed 4 GB.

    ``compression`` is a zlib level, 0 (none) to 9; None means 1. The file must be empty and seekable. The EXIF comes
    first, so that its maker note keeps its place, and the tags come last. Raises OSError if the disk is full."""
    level = 1 if compression is None else compression
    strip_rows = max(1, min(layout.height, STRIP_BYTES // layout.row_bytes))
    big = layout.height * layout.row_bytes > CLASSIC_BYTES
    exif = Exif() if metadata.exif is None else read_exif(metadata.exif)
    file.write(
        (b"II" if exif.order == "<" else b"MM") + struct.pack(exif.order + ("HHHQ" if big else "HI"), *HEADERS[big])
    )
    kind = LONG8 if big else LONG
    for tag, inner in exif.main.inner.items():
        exif.main.values[tag] = exif.value(kind, _append(file, exif, inner, big))
    offsets, sizes = [], []
    for strip in _strips(rows, strip_rows):
        offsets.append(file.tell())
        sizes.append(file.write(_compress(strip, level, exif.order)))
    main = _tags(exif, layout, metadata, strip_rows, level)
    main.values |= {Base.StripOffsets: exif.value(kind, *offsets), Base.StripByteCounts: exif.value(kind, *sizes)}
    place = _append(file, exif, main, big)
    file.seek(8 if big else 4)
    file.write(struct.pack(exif.order + ("Q" if big else "I"), place))


def _append(file: BinaryIO, exif: Exif, directory: Directory, big: bool) -> int:
    """Write a directory to the end of the file, and return its offset."""
    start = file.tell() + file.write(bytes(file.tell() % 2))
    place, content = exif.encode(directory, start, big)
    file.write(content)
    return place


def _tags(exif: Exif, layout: Layout, metadata: Metadata, strip_rows: int, level: int) -> Directory:
    """Return the tags of a TIFF except the tags that locate the strips."""
    values = {
        **exif.main.values,
        Base.ImageWidth: exif.value(LONG, layout.width),
        Base.ImageLength: exif.value(LONG, layout.height),
        Base.BitsPerSample: exif.value(SHORT, *[layout.depth] * layout.channels),
        Base.Compression: exif.value(SHORT, DEFLATE if level else UNCOMPRESSED),
        Base.PhotometricInterpretation: exif.value(SHORT, BLACK_IS_ZERO if layout.grey else RGB),
        Base.SamplesPerPixel: exif.value(SHORT, layout.channels),
        Base.RowsPerStrip: exif.value(LONG, strip_rows),
        Base.PlanarConfiguration: exif.value(SHORT, 1),
    }
    if level:
        values[Base.Predictor] = exif.value(SHORT, HORIZONTAL)
    if layout.alpha:
        values[Base.ExtraSamples] = exif.value(SHORT, UNASSOCIATED_ALPHA)
    dpi = metadata.dpi or (exif_dpi(exif) if metadata.aspect is None else None)
    if dpi is not None:
        for tag, side in zip(RESOLUTION, dpi, strict=True):
            values[tag] = exif.value(RATIONAL, round(side * 1000), 1000)
        values[Base.ResolutionUnit] = exif.value(SHORT, PER_INCH)
    elif metadata.aspect is not None:
        values |= {tag: exif.value(RATIONAL, side, 1) for tag, side in zip(RESOLUTION, metadata.aspect, strict=True)}
        values[Base.ResolutionUnit] = exif.value(SHORT, WITHOUT_UNIT)
    if metadata.iptc is not None:
        values[PHOTOSHOP] = Value(BYTE, metadata.iptc)
    if metadata.xmp is not None:
        values[XMP] = Value(BYTE, metadata.xmp)
    if metadata.icc is not None:
        values[ICC] = Value(UNDEFINED, metadata.icc)
    return Directory(values)


def _strips(rows: Iterable[Pixels], height: int) -> Iterator[Pixels]:
    """Regroup blocks of rows into strips of ``height`` rows, of which the last may be shorter."""
    waiting: list[Pixels] = []
    held = 0
    for block in rows:
        waiting.append(block)
        held += len(block)
        if held < height:
            continue
        joined = np.concatenate(waiting) if len(waiting) > 1 else block
        whole = held - held % height
        for top in range(0, whole, height):
            yield joined[top : top + height]
        waiting, held = [joined[whole:].copy()], held - whole
    if held:
        yield np.concatenate(waiting)


def _compress(strip: Pixels, level: int, order: Literal["<", ">"]) -> bytes:
    content = np.ascontiguousarray(strip)
    if level:
        content = content.copy()  # the horizontal predictor
        content[:, 1:] -= strip[:, :-1]
    content = content.astype(content.dtype.newbyteorder(order), copy=False)
    return zlib.compress(content.data, level) if level else content.tobytes()
