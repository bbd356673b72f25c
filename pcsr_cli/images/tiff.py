"""Read TIFF with libvips, and write it row by row with tifffile.

libvips decodes every TIFF except CIELAB, which only Pillow reads. Pillow rounds 16-bit colour to 8 bits, does not open
16-bit grey with alpha, and its libtiff prints errors on stderr. tifffile needs imagecodecs for LZW, JPEG and fax
compression. Only libvips' TIFF loader is called. Loaders that libvips marks as unfit for untrusted files are blocked.
"""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pcsr_cli.errors import InputError
from pcsr_cli.images.image import ImageData, Layout, Metadata, Pixels, from_channels, to_8_bits
from pcsr_cli.images.metadata import ABOUT_THE_FILE, load_exif, read_dpi, read_metadata, upright
from pcsr_cli.images.modes import ROUNDED, from_pil, unsupported_numbers

if TYPE_CHECKING:
    import pyvips

SIGNATURES = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
"""The first bytes of TIFF and BigTIFF."""

STRIP_BYTES = 2**20
CLASSIC_BYTES = 2**32 - 2**26
"""Maximum bytes of pixels in a file with 32-bit offsets. The remaining 64 MiB are for everything else."""

SEGMENTS = ((Base.StripOffsets, Base.StripByteCounts), (324, 325))
"""Tags of the offsets and byte counts of strips and tiles."""

CIELAB = 8
EXTRA_SAMPLES = 338
XMP = 700
DEFLATE, HORIZONTAL = 8, 2
UNASSOCIATED_ALPHA = 2
RESOLUTION_TAGS = {Base.XResolution, Base.YResolution, Base.ResolutionUnit}
POINTERS = {tag - 1: tag for tag in (IFD.Exif, IFD.GPSInfo)}
"""Tags that point to directories, by their placeholder codes."""

PER_INCH = 2
UNITS = {PER_INCH: 1.0, 3: 2.54}
"""Units of resolution: TIFF's numbers for inch and centimetre, and the number of each per inch."""


def is_tiff(file: BinaryIO) -> bool:
    """Whether a file starts like a TIFF or BigTIFF."""
    file.seek(0)
    return file.read(4) in SIGNATURES


def read_tags(file: BinaryIO) -> Image.Exif | None:
    """Read the tags of a TIFF or BigTIFF that ``read_tiff`` can decode. Returns None for other files.

    Raises exceptions of many types for damaged files."""
    if not is_tiff(file):
        return None
    file.seek(0)
    head = file.read(16)
    tags = Image.Exif()
    tags.endian = "<" if head.startswith(b"II") else ">"
    tags.bigtiff = b"+" in head[2:4]
    offset = struct.unpack_from(tags.endian + ("Q" if tags.bigtiff else "I"), head, 8 if tags.bigtiff else 4)[0]
    tags.load_from_fp(file, offset)
    return None if tags.get(Base.PhotometricInterpretation) == CIELAB else tags


def read_tiff(file: BinaryIO, tags: Image.Exif) -> ImageData:
    """Read the first page of a TIFF, upright. Colours premultiplied by alpha are divided by alpha.

    Raises InputError for unsupported number types, ValueError for damage, MemoryError."""
    _check_segments(file, tags)
    with _libvips_errors():
        opened = _open(file)
        layout = _layout(opened, tags)
        pixels: Pixels = opened.numpy().reshape(opened.height, opened.width, opened.bands)
        pages = opened.get("n-pages") if opened.get_typeof("n-pages") else 1
    info = {"icc_profile": tags.get(Base.InterColorProfile), "xmp": tags.get(XMP), "dpi": _dpi(tags)}
    if info["dpi"] is None:
        for tag in RESOLUTION_TAGS.intersection(tags):
            del tags[tag]
    metadata, orientation, notes = read_metadata(info, lambda: tags)
    notes = (*notes, *((f"only the first of {pages} pages was used",) if pages > 1 else ()))
    if opened.interpretation == "cmyk":
        ink = Image.frombytes("CMYK", (layout.width, layout.height), to_8_bits(pixels[..., :4]).tobytes())
        ink.info["icc_profile"] = metadata.icc
        image, metadata = from_pil(ink), replace(metadata, icc=None)
        notes = (*image.notes, *notes, *((ROUNDED,) if pixels.itemsize > 1 else ()))
    else:
        image = from_channels(pixels, layout.grey, layout.alpha)
    return upright(replace(image, metadata=metadata, notes=notes), orientation)


def _dpi(tags: Image.Exif) -> tuple[float, float] | None:
    """Return the resolution in dots per inch, or None if the resolution is missing, damaged or without a unit."""
    factor = UNITS.get(tags.get(Base.ResolutionUnit, PER_INCH))
    dpi = read_dpi((tags.get(Base.XResolution), tags.get(Base.YResolution)))
    return None if factor is None or dpi is None else (dpi[0] * factor, dpi[1] * factor)


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

    ``compression`` is a zlib level, 0 (none) to 9; None means 1. The strips are compressed here, because tifffile needs
    imagecodecs for the predictor. The file must be seekable. Raises OSError if the disk is full."""
    from tifffile import FileHandle, TiffWriter

    level = 1 if compression is None else compression
    strip_rows = max(1, min(layout.height, STRIP_BYTES // layout.row_bytes))
    big = layout.height * layout.row_bytes > CLASSIC_BYTES
    tags = Image.Exif() if metadata.exif is None else load_exif(metadata.exif)
    x, y = metadata.dpi or _dpi(tags) or (0, 0)
    with TiffWriter(FileHandle(file, name="output"), bigtiff=big, byteorder="<", shaped=False) as writer:
        extra = _extra_tags(file, tags, metadata.xmp, big)
        writer.write(
            (_compress(strip, level) for strip in _strips(rows, strip_rows)),
            shape=(layout.height, layout.width, *((layout.channels,) if layout.channels > 1 else ())),
            dtype=np.uint8 if layout.depth == 8 else np.uint16,
            photometric="minisblack" if layout.grey else "rgb",
            planarconfig="contig",
            extrasamples=(UNASSOCIATED_ALPHA,) if layout.alpha else None,
            rowsperstrip=strip_rows,
            compression=DEFLATE if level else None,
            predictor=HORIZONTAL if level else None,
            resolution=((round(x * 1000), 1000), (round(y * 1000), 1000)) if x else None,
            resolutionunit=PER_INCH if x else None,
            iccprofile=metadata.icc,
            extratags=extra,
            software=False,
            metadata=None,
        )
    if metadata.exif is not None:
        _restore_codes(file)


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


def _compress(strip: Pixels, level: int) -> bytes:
    content = np.ascontiguousarray(strip, dtype=strip.dtype.newbyteorder("<"))
    if not level:
        return content.tobytes()
    differences = content.copy()  # the horizontal predictor
    differences[:, 1:] -= content[:, :-1]
    return zlib.compress(differences.data, level)


def _extra_tags(
    file: BinaryIO, tags: Image.Exif, xmp: bytes | None, big: bool
) -> list[tuple[int, int, int, bytes, bool]]:
    """Return XMP and EXIF as tags for tifffile: (code, type, count, value, whether for the first page only).

    The EXIF and GPS directories are written to the end of the file. tifffile does not write tags that point to them, so
    these tags get placeholder codes, which ``_restore_codes`` replaces."""
    from tifffile import TIFF

    extra = [] if xmp is None else [(XMP, 1, len(xmp), xmp, True)]
    plain = ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    for tag in set(tags) - ABOUT_THE_FILE - RESOLUTION_TAGS:
        if tag in POINTERS.values():
            inner = ImageFileDirectory_v2(b"II+\0" + bytes(12) if big else b"II*\0" + bytes(4))
            for key, value in tags.get_ifd(tag).items():
                inner[key] = tags.get_ifd(key) if key == IFD.Interop else value
            offset = file.seek(0, io.SEEK_END)
            offset += file.write(bytes(offset % 2))
            file.write(inner.tobytes(offset))
            pointer = struct.pack("<Q" if big else "<I", offset)
            extra.append((tag - 1, 16 if big else 4, 1, pointer, True))
        else:
            plain[tag] = tags[tag]
    encoded = plain.tobytes(0)
    for entry in range(2, 2 + 12 * struct.unpack_from("<H", encoded)[0], 12):
        tag, kind, count, offset = struct.unpack_from("<HHII", encoded, entry)
        size = count * struct.calcsize(TIFF.DATA_FORMATS[kind])
        start = offset if size > 4 else entry + 8
        extra.append((tag, kind, count, encoded[start : start + size], True))
    return extra


def _restore_codes(file: BinaryIO) -> None:
    """Replace the placeholder codes in the finished file."""
    from tifffile import FileHandle, TiffFile

    with TiffFile(FileHandle(file, name="output", offset=0)) as written:
        entries = {code: written.pages.first.tags.get(code) for code in POINTERS}
    for code, entry in entries.items():
        if entry is not None:
            file.seek(entry.offset)
            file.write(struct.pack("<H", POINTERS[code]))
