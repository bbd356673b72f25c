"""Read image files: open them safely, choose the decoder, and turn the image upright.

libvips decodes TIFF, Pillow plug-ins decode HEIC and JPEG XL, and Pillow decodes the others. Damage that a decoder
reports is an error. If damage is accepted, libvips decodes the undamaged part."""

import hashlib
import io
import logging
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pcsr_cli.errors import InputError, PcsrError, StoreError
from pcsr_cli.images.exif import read_exif
from pcsr_cli.images.files import Fingerprint
from pcsr_cli.images.formats import (
    HEADS,
    PLUG_IN_FORMATS,
    RAW_SUFFIXES,
    Format,
    known_suffixes,
    load_plug_in,
    missing_plug_in,
    starts_like,
)
from pcsr_cli.images.image import ImageData, Layout, bands, to_8_bits
from pcsr_cli.images.jpeg import check_jpeg, open_jpeg
from pcsr_cli.images.jxl import CODESTREAM, JxlHeader, adjust_jxl, read_jxl_header
from pcsr_cli.images.metadata import ABOUT_THE_FILE, SWAPPED, read_metadata, read_orientation, upright
from pcsr_cli.images.modes import ROUNDED, from_pil, layout_of
from pcsr_cli.images.objects import ObjectPath
from pcsr_cli.images.png import PngParts, open_png, read_16_bits, read_png_size, split_png
from pcsr_cli.images.tiff import is_raw, read_tags, read_tiff, read_tiff_layout
from pcsr_cli.images.vips import check_gif, decode_with_vips, open_with_vips, vips_errors, vips_layout

if TYPE_CHECKING:
    import pyvips

READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF")
"""Pillow's names of the formats to read. Pillow reads further formats, some by running other programs."""

ANIMATED = ("GIF", "WEBP", "PNG")
"""Pillow's names of the formats whose frames can all be upscaled."""

MAX_PIXELS = 2 * (2**30 // 4 // 3)
"""Maximum number of pixels, which is Pillow's limit. Larger images may be decompression bombs: small files that fill
the memory."""

MAX_WIDTH = 2**26 - 8
"""Pillow's limit for a row of four channels. Beyond the limit, Pillow reports a lack of memory, and libvips damage."""

HEAD_BYTES = 2**20
JPEG_HEAD_BYTES = 2**24
AV1_HIGH_BITDEPTH = 0x40
JPEG_2000_SIZES = b"\xff\x4f\xff\x51"
"""The start of a JPEG 2000 codestream. Byte 42 has the bits of the first channel. Bytes 45, 48 and so on have the bits
of the other channels."""

RAW = re.compile(rb"FUJIFILMCCD-RAW|II(RO|RS|U\0)|MMOR|FOVb|\0MRM|....ftypcrx |II\x1a\0\0\0HEAPCCDR", re.DOTALL)
"""The first bytes of cameras' raw files that are not TIFFs."""

VIPS_METADATA = {"icc-profile-data": "icc_profile", "exif-data": "exif", "xmp-data": "xmp"}
"""The names of metadata in libvips, and the names in Pillow."""

HIDDEN_COLOURS = "the colours of fully transparent pixels were replaced by those of visible pixels"
"""The note on an image whose fully transparent pixels have several colours."""

UNSUPPORTED = re.compile(
    "support(?!ed marker)|cannot handle|not configured|not implemented|not a whole number", re.IGNORECASE
)
"""Messages of decoders about intact files of an unsupported kind."""

for library in ("PIL", "pyvips"):  # otherwise Python prints their log messages about damage
    logging.getLogger(library).addHandler(logging.NullHandler())


@contextmanager
def open_source(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    """Open a seekable file with an image. Raises InputError."""
    with reading_errors(source):
        if isinstance(source, ObjectPath):
            file: BinaryIO = fetch(source)
        elif isinstance(source, Path):
            if source.is_dir():
                raise InputError(f"{source} is a folder, not an image.", "Give one image file.")
            if source.exists() and not source.is_file():
                raise InputError(f"{source} is not a regular file.", "Give an image file, or - for standard input.")
            if not source.stat().st_size:
                raise InputError(f"{source} is empty.", "Copy or export the file again.")
            file = source.open("rb")
        else:
            file = source if source.seekable() else io.BytesIO(source.read())
    try:
        yield file
    finally:
        if file is not source:
            file.close()


class FetchedObject(io.BytesIO):
    """An object in memory, with its content and the name of its source."""

    def __init__(self, path: ObjectPath, data: bytes, version: int | str | None) -> None:
        super().__init__(data)
        self.name = str(path)
        self.content = Fingerprint(len(data), hashlib.sha256(data).hexdigest(), version)


def fetch(path: ObjectPath) -> FetchedObject:
    """Read an object whole. Raises InputError, FileNotFoundError."""
    try:
        before = path.fresh().state()
        if before.is_folder:
            raise InputError(f"{path} is a folder, not an image.", "Give one image file.")
        if not before.size:
            raise InputError(f"{path} is empty.", "Copy or export the file again.")
        data = path.read_bytes()
        after = path.fresh().state()
    except StoreError as error:
        raise InputError(error.sentence, error.next_step) from error
    if before != after or len(data) != after.size:
        raise InputError(f"{path} was changed while it was read.", "Run the command again.")
    return FetchedObject(path, data, after.version)


@contextmanager
def reading_errors(source: Path | BinaryIO, setting: str = "") -> Iterator[None]:
    """Turn any exception but MemoryError into an InputError that names the source.

    ``setting`` is empty, or the name of the setting that accepts damage."""
    name = source_name(source)
    try:
        yield
    except InputError as error:
        if name in error.sentence:
            raise
        raise error.within(name) from error
    except (PcsrError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise InputError(f"There is no file {name}.", "Check the path.") from error
    except PermissionError as error:
        raise InputError(f"{name} cannot be read: permission denied.", "Check the permissions of the file.") from error
    except ImportError as error:
        problem = f"{name} cannot be read: its decoder is not installed properly ({_describe(error)})."
        raise InputError(problem, "Run `pcsr doctor`.") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None and error.strerror:
            raise InputError(f"{name} cannot be read: {error.strerror.lower()}.", "Check the path.") from error
        if _is_unsupported(error):
            problem = f"{name} is of a kind that cannot be read: {_describe(error)}."
            raise InputError(problem, "Convert the file with another program, for example to PNG.") from error
        # Decoders raise errors of many types for damaged files: OSError, struct.error, zlib.error, KeyError...
        problem = f"{name} is truncated or damaged: {_describe(error)}."
        raise InputError(problem, "Copy or export the file again.", setting=setting) from error


def _is_unsupported(error: Exception) -> bool:
    return isinstance(error, NotImplementedError) or UNSUPPORTED.search(str(error)) is not None


def source_name(source: Path | BinaryIO) -> str:
    """Return the name of a source for messages."""
    if isinstance(source, Path):
        return str(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "standard input"


def _describe(error: Exception) -> str:
    if isinstance(error, struct.error) or isinstance(error.__cause__, struct.error):  # its message is about buffers
        return "the data end too early"
    message = " ".join(str(error).split()).split(". ")[0].rstrip(".")  # some decoders add advice for programmers
    return message if message and not isinstance(error, KeyError) else type(error).__name__


def open_with_pillow(file: BinaryIO, name: str) -> Image.Image:
    """Open a file with Pillow without decoding pixels.

    Unlike ``Image.open``, this function ignores the process-wide limit on pixels and tries known formats only. Raises
    InputError for other formats and for a format whose plug-in is not installed, other exceptions for damage."""
    file.seek(0)
    head = file.read(32)
    _load_plug_in(head, name)
    Image.init()
    failure: Exception | None = None
    for known in (*READABLE, *(format.pillow for format in PLUG_IN_FORMATS)):
        factory, accepts = Image.OPEN.get(known, (None, None))  # a build of Pillow may lack the format
        if factory is None or (accepts is not None and accepts(head) is not True):
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            failure = error
    if failure is not None:
        raise failure
    raise InputError(
        f"{name} is not an image of a known format.",
        f"Check the content of the file. Known formats: {', '.join(known_suffixes())}.",
    )


def open_described(file: BinaryIO, name: str, is_checked: bool) -> tuple[Image.Image, PngParts | None]:
    """Open a file with Pillow without decoding pixels. The metadata of a PNG is in its parts, not in the image.

    With ``is_checked``, the checksums of a PNG and the blocks of a GIF are tested, because Pillow ignores damage there.
    Raises the errors of ``open_with_pillow``, ``split_png`` and ``check_gif``."""
    if starts_like(file, "PNG"):
        parts = split_png(file, is_checked)
        return open_png(parts), parts
    if is_checked and starts_like(file, "GIF"):
        check_gif(file)
    return open_with_pillow(file, name), None


def _load_plug_in(head: bytes, name: str) -> None:
    """Load the plug-in for a file that starts with these bytes. Raises InputError if the plug-in is not installed."""
    plug_in = _plug_in_format(head)
    if plug_in is not None and not plug_in.installed:
        raise missing_plug_in(plug_in, InputError, f"{name} cannot be read: ")
    if plug_in is not None:
        load_plug_in(plug_in)


def _plug_in_format(head: bytes) -> Format | None:
    heic, jpeg_xl = PLUG_IN_FORMATS
    if head[4:8] == b"ftyp" and head[8:12] in {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}:
        return None if b"avif" in head or b"avis" in head else heic
    if head.startswith(HEADS["JPEG XL"]):
        return jpeg_xl
    return None


def check_size(name: str, width: int, height: int, allow_huge: bool) -> None:
    """Raise InputError for more than ``MAX_PIXELS`` unless ``allow_huge``, and for more than ``MAX_WIDTH``."""
    if width > MAX_WIDTH:
        raise InputError(
            f"{name} is {width:,} pixels wide, more than the limit of {MAX_WIDTH:,}.", "Turn the image, or cut it."
        )
    if width * height > MAX_PIXELS and not allow_huge:
        raise InputError(
            f"{name} has {width:,} x {height:,} pixels, more than the limit of {MAX_PIXELS:,}.",
            "Larger files may be decompression bombs.",
            setting="allow_huge",
        )


def read_image(source: Path | BinaryIO, allow_huge: bool = False, accept_damaged: bool = False) -> ImageData:
    """Read an image file, or the first frame of an animation, and turn it upright.

    ``allow_huge`` permits more than ``MAX_PIXELS``. With ``accept_damaged``, the part of a damaged file that can be
    decoded is read, and the image has a note. Raises InputError, MemoryError."""
    name = source_name(source)
    with open_source(source) as file, reading_errors(source, "" if accept_damaged else "accept_damaged"):
        try:
            image = _read(file, name, allow_huge)
        except (PcsrError, MemoryError, ImportError):
            raise
        except Exception as error:
            if not accept_damaged or _is_unsupported(error):
                raise
            image = _read_damaged(file, name, allow_huge, error)
    return replace(image, notes=(*image.notes, *_note_of_hidden_colours(image)))


def _read(file: BinaryIO, name: str, allow_huge: bool) -> ImageData:
    tags = _read_tags(file, name)
    if tags is not None:
        layout = read_tiff_layout(file, tags)
        check_size(name, layout.width, layout.height, allow_huge)
        return read_tiff(file, tags)
    jxl = None
    if starts_like(file, "JPEG XL"):
        jxl = _read_jxl_header(file, name, allow_huge)
    elif starts_like(file, "JPEG"):
        file = open_jpeg(file, name, allow_huge)
    elif starts_like(file, "PNG"):
        check_size(name, *read_png_size(file), allow_huge)
    try:
        image, parts = open_described(file, name, is_checked=True)
    except Image.DecompressionBombError:  # Pillow's limit cannot be changed for one WebP file
        return _read_with_vips(file, name, allow_huge, is_strict=True)
    check_size(name, image.width, image.height, allow_huge)
    if image.format in {"JPEG", "MPO"}:
        check_jpeg(file)
    try:
        decoded = _decode(file, image, parts)
        return decoded if jxl is None else adjust_jxl(decoded, jxl)
    except OSError:
        if image.format not in {"JPEG", "MPO"}:
            raise
        return _read_with_vips(file, name, allow_huge, is_strict=True)  # Pillow lacks arithmetic coding


def _read_jxl_header(file: BinaryIO, name: str, allow_huge: bool) -> JxlHeader:
    """Read the header and check the size, because the plug-in decodes all pixels when it opens a file."""
    _load_plug_in(CODESTREAM, name)
    header = read_jxl_header(file)
    check_size(name, header.layout.width, header.layout.height, allow_huge)
    return header


def _read_tags(file: BinaryIO, name: str) -> Mapping[int, Any] | None:
    """Return the result of ``read_tags``. Raises InputError for a camera's raw file, whose first image is a preview."""
    file.seek(0)
    head, tags = file.read(16), read_tags(file)
    has_suffix = PurePath(name).suffix.lower() in RAW_SUFFIXES and not head.startswith(b"\xff\xd8")
    if has_suffix or RAW.match(head) or (tags is not None and is_raw(file, tags)):
        problem = f"{name} is a camera's raw file, which pcsr does not develop."
        raise InputError(
            problem, "Export the photograph as TIFF with a raw converter, such as darktable or RawTherapee."
        )
    return tags


def _read_with_vips(file: BinaryIO, name: str, allow_huge: bool, is_strict: bool) -> ImageData:
    """Read a file, with the metadata that libvips finds. Raises ValueError for damage."""
    with vips_errors(is_strict):
        opened = open_with_vips(file, is_strict)
        check_size(name, opened.width, opened.height, allow_huge)
        metadata, orientation, notes = read_metadata(_described_by_vips(opened), file)
        image = decode_with_vips(opened, opened.hasalpha(), metadata.icc)
    metadata = replace(metadata, icc=image.metadata.icc)
    return upright(replace(image, metadata=metadata, notes=(*image.notes, *notes)), orientation)


def _described_by_vips(opened: "pyvips.Image") -> Image.Image:
    mode = {"cmyk": "CMYK", "b-w": "L", "grey16": "L"}.get(opened.interpretation, "RGB")
    described, fields = Image.new(mode, (1, 1)), set(opened.get_fields())
    described.info = {name: opened.get(field) for field, name in VIPS_METADATA.items() if field in fields}
    return described


def _read_damaged(file: BinaryIO, name: str, allow_huge: bool, error: Exception) -> ImageData:
    """Decode the part of a damaged file that libvips can read. Raises ``error`` if there is no such part."""
    try:
        tags = read_tags(file)
        image = (
            _read_with_vips(file, name, allow_huge, is_strict=False)
            if tags is None
            else read_tiff(file, tags, is_strict=False)
        )
    except (PcsrError, MemoryError):
        raise
    except Exception:  # as many types as in reading_errors
        raise error from None
    note = f"the file is damaged ({_describe(error)}), and only what could be decoded of it was used"
    return replace(image, notes=(note, *image.notes))


def _note_of_hidden_colours(image: ImageData) -> tuple[str, ...]:
    if image.alpha is None:
        return ()
    first = None
    for rows in bands(*image.size):
        hidden = image.rgb[rows][image.alpha[rows] == 0]
        first = hidden[0] if first is None and len(hidden) else first
        if (hidden != first).any():
            return (HIDDEN_COLOURS,)
    return ()


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read the colours of an image file for measurements and training, (H, W, 3) uint8. Pixels of 16 bits are rounded
    to 8 bits.

    Raises InputError."""
    return to_8_bits(read_image(path).rgb)


def read_pil(image: Image.Image) -> ImageData:
    """Read an open Pillow image and turn it upright. Raises InputError, and Pillow's errors about damage."""
    image.load()  # before the EXIF is read: in a PNG it may follow the pixels; load() also turns a TIFF upright
    return upright(from_pil(image), read_orientation(image))


def _decode(file: BinaryIO, image: Image.Image, parts: PngParts | None) -> ImageData:
    raw_mode = _16_bit_raw_mode(image)
    notes = (*_frames_note(image), *((ROUNDED,) if raw_mode is None and _is_rounded(image, file) else ()))
    if raw_mode is None:
        image.load()
    described = image if parts is None else parts.description
    grey = layout_of(image).grey if raw_mode is None else raw_mode.startswith("LA")
    metadata, orientation, notes_of_metadata = read_metadata(described, file, grey)
    if raw_mode is None:
        image.info["icc_profile"] = metadata.icc
        decoded = from_pil(image)
        if parts is None:
            metadata = replace(metadata, icc=decoded.metadata.icc)  # None if the colours were converted
    else:
        assert parts is not None, "only PNG has these raw modes"
        decoded = read_16_bits(parts.pixels, raw_mode, image.info.get("transparency"))
    notes = (*decoded.notes, *notes_of_metadata, *(() if parts is None else parts.notes), *notes)
    decoded = replace(decoded, metadata=metadata, notes=notes)
    return upright(decoded, orientation)


def _16_bit_raw_mode(image: Image.Image) -> str | None:
    """Return the raw mode of an open 16-bit PNG that Pillow would round to 8 bits, None for other images."""
    tile = getattr(image, "tile", ())
    raw_mode = tile[0].args if image.format == "PNG" and tile else None
    return raw_mode if raw_mode in {"RGB;16B", "RGBA;16B", "LA;16B"} else None


def _is_rounded(image: Image.Image, file: BinaryIO) -> bool:
    """Return whether Pillow rounds more than 8 bits a channel to 8."""
    if image.mode.startswith("I"):
        return False
    layouts = [tile.args for tile in getattr(image, "tile", ())]
    if image.format == "PPM":  # the arguments contain the number for white
        return any(isinstance(number, int) and number > 255 for layout in layouts for number in layout)
    if image.format == "TIFF" and any(";16" in str(layout) for layout in layouts):
        return True
    if image.info.get("bit_depth", 8) > 8:  # set by pillow-heif
        return True
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if image.format == "AVIF":
        at = head.find(b"av1C")
        return at >= 0 and len(head) > at + 6 and bool(head[at + 6] & AV1_HIGH_BITDEPTH)
    if image.format == "JPEG2000":
        at = head.find(JPEG_2000_SIZES)
        return at >= 0 and any(depth & 127 >= 8 for depth in head[at + 42 :: 3][: len(image.getbands())])
    return False


def _frames_note(image: Image.Image) -> tuple[str, ...]:
    frames = getattr(image, "n_frames", 1)
    if frames < 2 or image.format == "MPO":  # further images of an MPO are previews
        return ()
    if image.format in ANIMATED:
        return (f"only the first of {frames} frames was used; the frames option upscales all",)
    return (f"only the first of {frames} {'pages' if image.format == 'TIFF' else 'frames'} was used",)


def read_layout(source: Path | BinaryIO, allow_huge: bool = False) -> Layout:
    """Return the layout of ``read_image``'s image from the header alone.

    Raises the InputErrors of ``read_image``, except for damage after the header."""
    name = source_name(source)
    with open_source(source) as file, reading_errors(source):
        layout, orientation = _read_layout(file, name, allow_huge)
    check_size(name, layout.width, layout.height, allow_huge)
    return replace(layout, height=layout.width, width=layout.height) if orientation in SWAPPED else layout


def _read_layout(file: BinaryIO, name: str, allow_huge: bool) -> tuple[Layout, int]:
    """Return the layout of the decoded image, and the orientation to apply to it."""
    tags = _read_tags(file, name)
    if tags is not None:
        return read_tiff_layout(file, tags), read_exif(file, ABOUT_THE_FILE).orientation
    if starts_like(file, "JPEG XL"):
        return _read_jxl_header(file, name, allow_huge).layout, 1
    if starts_like(file, "JPEG"):
        file = open_jpeg(file, name, allow_huge, JPEG_HEAD_BYTES)
    try:
        image, parts = open_described(file, name, is_checked=False)
    except Image.DecompressionBombError:
        with vips_errors():
            opened = open_with_vips(file)
            return vips_layout(opened, opened.hasalpha()), read_orientation(_described_by_vips(opened))
    layout = layout_of(image)
    raw_mode = _16_bit_raw_mode(image)
    if raw_mode is not None:
        layout = replace(layout, depth=16, grey=raw_mode.startswith("LA"))
    return layout, read_orientation(image if parts is None else parts.description)
