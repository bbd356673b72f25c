"""Files opened as pictures: which decoder, how large, and what went wrong in one sentence."""

import io
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from pcsr_cli.errors import InputError, PcsrError
from pcsr_cli.pictures import plug_ins
from pcsr_cli.pictures.formats import Format

READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF")
"""Pillow's names of the formats that are read. It knows more, some of which run other programs on a file."""

ANIMATIONS = ("GIF", "WEBP", "PNG")
"""Those whose frames can all be enlarged."""

for decoder in ("PIL", "pyvips"):  # else Python prints what they log about damage
    logging.getLogger(decoder).addHandler(logging.NullHandler())

MOST_PIXELS = 2 * (2**30 // 4 // 3)
"""Above this Pillow takes a file for a bomb: a few bytes that unpack into more than there is memory."""


@contextmanager
def opened(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    """A seekable file to read a picture from. Raises InputError."""
    with reading_told(source):
        if isinstance(source, Path) and source.is_dir():
            raise InputError(f"{source} is a folder, not a picture.", "Give one picture file.")
        if isinstance(source, Path) and source.exists() and not source.is_file():
            raise InputError(f"{source} is no ordinary file.", "Give a picture file, or - for standard input.")
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
def reading_told(source: Path | BinaryIO) -> Iterator[None]:
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
    for known in (*READABLE, *(format.pillow for format in plug_ins.FORMATS)):
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
    heic, jpeg_xl = plug_ins.FORMATS
    if head[4:8] == b"ftyp" and head[8:12] in {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}:
        return None if b"avif" in head or b"avis" in head else heic
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a")):
        return jpeg_xl
    return None
