"""Files opened as pictures: which decoder, how large, and what went wrong in one sentence."""

import io
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

from pcsr_cli.errors import InputError, PcsrError
from pcsr_cli.images import formats as plug_ins
from pcsr_cli.images.formats import Format, known_suffixes
from pcsr_cli.images.image import ImageData, Layout, to_8_bits
from pcsr_cli.images.metadata import TURNS, read_metadata, read_orientation, read_tags, upright, without_pixels
from pcsr_cli.images.modes import from_pil, layout_of
from pcsr_cli.images.vips import is_better_read, is_rounded, read_header, read_pixels

READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF")
"""Pillow's names of the formats that are read. It knows more, some of which run other programs on a file."""

ANIMATIONS = ("GIF", "WEBP", "PNG")
"""Those whose frames can all be enlarged."""

for decoder in ("PIL", "pyvips"):  # else Python prints what they log about damage
    logging.getLogger(decoder).addHandler(logging.NullHandler())

MOST_PIXELS = 2 * (2**30 // 4 // 3)
"""Above this Pillow takes a file for a bomb: a few bytes that unpack into more than there is memory."""


@contextmanager
def open_source(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    """A seekable file to read a picture from. Raises InputError."""
    with reading_errors(source):
        if isinstance(source, Path) and source.is_dir():
            raise InputError(f"{source} is a folder, not a picture.", "Give one picture file.")
        if isinstance(source, Path) and source.exists() and not source.is_file():
            raise InputError(f"{source} is not a regular file.", "Give a picture file, or - for standard input.")
        if isinstance(source, Path) and not source.stat().st_size:
            raise InputError(f"{source} is empty.", "Copy or export it again.")
        if isinstance(source, Path):
            file: BinaryIO = source.open("rb")
        else:
            file = source if source.seekable() else io.BytesIO(source.read())
    try:
        yield file
    finally:
        if file is not source:
            file.close()


@contextmanager
def reading_errors(source: Path | BinaryIO) -> Iterator[None]:
    """What goes wrong in the block, except for MemoryError, is an InputError about this source."""
    name = source_name(source)
    try:
        yield
    except (PcsrError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise InputError(f"There is no file {name}.", "Check the path.") from error
    except PermissionError as error:
        raise InputError(f"{name} may not be read.", "Check its permissions.") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None and error.strerror:
            raise InputError(f"{name} cannot be read: {error.strerror.lower()}.", "Check the path.") from error
        # Decoders answer damaged files with whatever they trip over: OSError, struct.error, zlib.error, KeyError...
        raise InputError(f"{name} is truncated or damaged: {_plain(error)}.", "Copy or export it again.") from error


def source_name(source: Path | BinaryIO) -> str:
    """What to call a source in a sentence."""
    if isinstance(source, Path):
        return str(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "standard input"


def _plain(error: Exception) -> str:
    if isinstance(error, struct.error):  # whose words are about buffers
        return "its data end too early"
    message = " ".join(str(error).split()).split(". ")[0].rstrip(".")  # some decoders go on with advice to programmers
    return message if message and not isinstance(error, KeyError) else type(error).__name__


def open_if_known(file: BinaryIO, name: str) -> Image.Image | None:
    """A file as PIL opens it, its pixels not yet read; None where PIL does not know it.

    Like ``Image.open``, without its limit on pixels: that is one for the whole process, and no argument. InputError
    where the file asks for a plug-in that is not installed."""
    file.seek(0)
    head = file.read(32)
    _make_known(head, name)
    Image.init()
    for known in (*READABLE, *(format.pillow for format in plug_ins.PLUG_IN_FORMATS)):
        factory, accepts = Image.OPEN.get(known, (None, None))  # a Pillow may be built without some
        if factory is None or (accepts is not None and accepts(head) is not True):
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
    return None


def is_tiff(file: BinaryIO) -> bool:
    """Whether a file begins as TIFF and BigTIFF do."""
    file.seek(0)
    return file.read(4) in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


def check_size(name: str, width: int, height: int, allow_huge: bool) -> None:
    """Refuse more pixels than are safe unless ``allow_huge``. Raises InputError."""
    if width * height > MOST_PIXELS and not allow_huge:
        raise InputError(
            f"{name} claims {width:,} x {height:,} pixels, more than the {MOST_PIXELS:,} that are safe to open "
            "unasked.",
            "If you trust it, upscale and plan open it with --allow-huge.",
        )


def _make_known(head: bytes, name: str) -> None:
    """Load the plug-in that a file asks for by its first bytes. Raises InputError where it is not installed."""
    format = _of_plug_in(head)
    if format is None:
        return
    if not format.installed:
        raise InputError(
            f"{name} is {format.name}, which needs a plug-in that is not installed.",
            f"Run: pip install {format.plug_in}.",
        )
    plug_ins.load(format)


def _of_plug_in(head: bytes) -> Format | None:
    heic, jpeg_xl = plug_ins.PLUG_IN_FORMATS
    if head[4:8] == b"ftyp" and head[8:12] in {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}:
        return None if b"avif" in head or b"avis" in head else heic
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a")):
        return jpeg_xl
    return None


TURNED_BY_DECODER = {"HEIF", "JXL"}
"""Pillow's names of the formats in which EXIF's orientation is not what counts."""

XMP = 700
PER_INCH = 2
"""A TIFF's tag, and its number for a unit of resolution."""


def read_image(source: Path | BinaryIO, allow_huge: bool = False) -> ImageData:
    """Read a picture file, upright (its EXIF orientation applied); of an animation the first frame.

    ``allow_huge`` reads more pixels than are safe to open unasked. Raises InputError, MemoryError."""
    name = source_name(source)
    with open_source(source) as file, reading_errors(source):
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
    return to_8_bits(read_image(path).rgb)


def read_pil(image: Image.Image) -> ImageData:
    """A picture that somebody opened with PIL, upright. Raises InputError, and what PIL does of damage."""
    image.load()  # a TIFF is turned by that, and a PNG may say only then how it is to be
    return upright(from_pil(image), 1 if image.format in TURNED_BY_DECODER else read_orientation(image.getexif))


def _read(file: BinaryIO, image: Image.Image) -> ImageData:
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


def _read_unknown_tiff(file: BinaryIO, name: str, allow_huge: bool) -> ImageData:
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


def read_layout(path: Path, allow_huge: bool = False) -> Layout:
    """The layout of a picture as ``read_image`` would give it, upright. Raises InputError as that does, but for
    damage behind the header."""
    with open_source(path) as file, reading_errors(path):
        image = open_if_known(file, str(path))
        if image is not None:
            check_size(str(path), image.width, image.height, allow_huge)
            layout, orientation = _of_known(file, image)
        elif is_tiff(file):
            layout, orientation = _of_unknown_tiff(file)
            check_size(str(path), layout.width, layout.height, allow_huge)
        else:
            known = ", ".join(known_suffixes())
            raise InputError(f"{path} is not a picture of a known format.", f"Known: {known}.")
    swap = TURNS[orientation][0]
    return replace(layout, height=layout.width, width=layout.height) if swap else layout


def _of_known(file: BinaryIO, image: Image.Image) -> tuple[Layout, int]:
    """The layout as the decoder gives it, and the orientation in which that lies."""
    assert image.format is not None
    if is_better_read(image):
        layout = read_header(file, image.format, getattr(image, "tag_v2", {}))
    else:
        layout = layout_of(image)
        if image.format in {*TURNED_BY_DECODER, "TIFF"}:  # which Pillow turns itself
            return layout, 1
    described = without_pixels(file) if image.format == "PNG" else image
    return layout, read_orientation(described.getexif)


def _of_unknown_tiff(file: BinaryIO) -> tuple[Layout, int]:
    tags = read_tags(file)
    layout = read_header(file, "TIFF", tags)
    return layout, read_orientation(lambda: tags)
