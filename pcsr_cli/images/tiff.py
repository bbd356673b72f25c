"""Read TIFF with libvips, and write it row by row.

libvips decodes every TIFF except CIELAB, which only Pillow reads. Pillow rounds 16-bit colour to 8 bits, does not open
16-bit grey with alpha, and its libtiff prints errors on stderr. Only libvips' TIFF loader is called. Loaders that
libvips marks as unfit for untrusted files are blocked.
"""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from pcsr_cli.errors import InputError
from pcsr_cli.images.exif import BYTE, LONG, LONG8, RATIONAL, SHORT, UNDEFINED, Directory, Exif, Value, read_exif
from pcsr_cli.images.image import ImageData, Layout, Metadata, Pixels, from_channels, to_8_bits
from pcsr_cli.images.metadata import ICC, PER_INCH, RESOLUTION, XMP, exif_dpi, read_tiff_metadata, upright
from pcsr_cli.images.modes import ROUNDED, from_pil, unsupported_numbers

if TYPE_CHECKING:
    import pyvips

SIGNATURES = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
"""The first bytes of TIFF and BigTIFF."""

STRIP_BYTES = 2**20
CLASSIC_BYTES = 2**32 - 2**26
"""Maximum bytes of pixels in a file with 32-bit offsets. The remaining 64 MiB are for everything else."""

HEADERS = {False: (42, 0), True: (43, 8, 0, 0)}
"""The numbers after the byte order in a TIFF and a BigTIFF; the last is the offset of the tags."""

SEGMENTS = ((Base.StripOffsets, Base.StripByteCounts), (324, 325))
"""Tags of the offsets and byte counts of strips and tiles."""

CIELAB = 8
IMAGE_SOURCE_DATA = 37724
EXTRA_SAMPLES = 338
UNCOMPRESSED, DEFLATE = 1, 8
HORIZONTAL = 2
BLACK_IS_ZERO, RGB = 1, 2
UNASSOCIATED_ALPHA = 2


def is_tiff(file: BinaryIO) -> bool:
    """Whether a file starts like a TIFF or BigTIFF."""
    file.seek(0)
    return file.read(4) in SIGNATURES


def read_tags(file: BinaryIO) -> Mapping[int, Any] | None:
    """Read the tags about the pixels of a TIFF or BigTIFF that ``read_tiff`` can decode: a number, or several.

    Returns None for other files. Raises ValueError for damaged files."""
    if not is_tiff(file):
        return None
    exif = read_exif(file, skipped={Base.ImageResources, IMAGE_SOURCE_DATA, XMP, ICC})
    numbers = {tag: exif.numbers(value) for tag, value in exif.main.values.items()}
    tags = {tag: found[0] if len(found) == 1 else found for tag, found in numbers.items()}
    return None if tags.get(Base.PhotometricInterpretation) == CIELAB else tags


def read_tiff(file: BinaryIO, tags: Mapping[int, Any]) -> ImageData:
    """Read the first page of a TIFF, upright. Colours premultiplied by alpha are divided by alpha.

    Raises InputError for unsupported number types, ValueError for damage, MemoryError."""
    _check_segments(file, tags)
    with _libvips_errors():
        opened = _open(file)
        layout = _layout(opened, tags)
        pixels: Pixels = opened.numpy().reshape(opened.height, opened.width, opened.bands)
        pages = opened.get("n-pages") if opened.get_typeof("n-pages") else 1
    metadata, orientation, notes = read_tiff_metadata(file)
    notes = (*notes, *((f"only the first of {pages} pages was used",) if pages > 1 else ()))
    if opened.interpretation == "cmyk":
        ink = Image.frombytes("CMYK", (layout.width, layout.height), to_8_bits(pixels[..., :4]).tobytes())
        ink.info["icc_profile"] = metadata.icc
        image, metadata = from_pil(ink), replace(metadata, icc=None)
        notes = (*image.notes, *notes, *((ROUNDED,) if pixels.itemsize > 1 else ()))
    else:
        image = from_channels(pixels, layout.grey, layout.alpha)
    return upright(replace(image, metadata=metadata, notes=notes), orientation)


def read_tiff_layout(file: BinaryIO, tags: Mapping[int, Any]) -> Layout:
    """Return the layout of ``read_tiff``'s image without decoding pixels. Raises the errors of ``read_tiff``."""
    with _libvips_errors():
        return _layout(_open(file), tags)


def _layout(image: "pyvips.Image", tags: Mapping[int, Any]) -> Layout:
    if image.format not in {"uchar", "ushort"}:
        raise unsupported_numbers(image.format in {"float", "double"})
    depth = 16 if image.format == "ushort" else 8
    if image.interpretation == "cmyk":
        return Layout(image.height, image.width)
    grey = image.interpretation in {"b-w", "grey16"}
    if not grey and image.interpretation not in {"rgb", "rgb16", "srgb"}:
        raise InputError(f"Images of mode {image.interpretation} are not supported.", "Convert the image to RGB.")
    extra = tags.get(EXTRA_SAMPLES, ())  # zero for channels that are not alpha
    alpha = image.bands > (1 if grey else 3) and any(extra if isinstance(extra, tuple) else (extra,))
    return Layout(image.height, image.width, grey, alpha, depth)


def _check_segments(file: BinaryIO, tags: Mapping[int, Any]) -> None:
    """Raise ValueError if the file ends before its pixels, because libtiff would invent the missing pixels."""
    end = file.seek(0, io.SEEK_END)
    for offsets, sizes in SEGMENTS:
        segments = zip(_integers(tags.get(offsets)), _integers(tags.get(sizes)), strict=False)
        if any(offset + size > end for offset, size in segments):
            raise ValueError("the pixels end too early")


def _integers(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, tuple) else (value,)
    return tuple(number for number in values if isinstance(number, int))


def _open(file: BinaryIO) -> "pyvips.Image":
    """Open the file as a libvips image without reading pixels."""
    import pyvips

    pyvips.block_untrusted_set(True)
    options = {"access": "sequential", "fail_on": "truncated"}
    if isinstance(file, io.BufferedReader) and isinstance(file.name, str):
        return pyvips.Image.tiffload(file.name, **options)
    file.seek(0)
    return pyvips.Image.tiffload_buffer(file.read(), **options)


@contextmanager
def _libvips_errors() -> Iterator[None]:
    """Turn libvips' errors about damage into ValueError."""
    import pyvips

    try:
        yield
    except pyvips.Error as error:
        if "out of memory" in str(error):
            raise MemoryError(str(error)) from error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ValueError(lines[-1] if lines else "the pixels cannot be decoded") from error


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
    for tag, inner in exif.main.inner.items():
        exif.main.values[tag] = exif.value(LONG, _append(file, exif, inner, big))
    offsets, sizes = [], []
    for strip in _strips(rows, strip_rows):
        offsets.append(file.tell())
        sizes.append(file.write(_compress(strip, level, exif.order)))
    main = _tags(exif, layout, metadata, strip_rows, level)
    kind = LONG8 if big else LONG
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
    """The tags of a TIFF except those of the strips."""
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
        values[EXTRA_SAMPLES] = exif.value(SHORT, UNASSOCIATED_ALPHA)
    dpi = metadata.dpi or exif_dpi(exif)
    if dpi is not None:
        for tag, side in zip(RESOLUTION, dpi, strict=True):
            values[tag] = exif.value(RATIONAL, round(side * 1000), 1000)
        values[Base.ResolutionUnit] = exif.value(SHORT, PER_INCH)
    if metadata.xmp is not None:
        values[XMP] = Value(BYTE, metadata.xmp)
    if metadata.icc is not None:
        values[ICC] = Value(UNDEFINED, metadata.icc)
    return Directory(values)


def _strips(rows: Iterable[Pixels], height: int) -> Iterator[Pixels]:
    """Regroup blocks of rows into strips of ``height`` rows; the last may be shorter."""
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
