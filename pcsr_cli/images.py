"""Pictures on disk: read into arrays, written whole or not at all."""

import io
import math
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pcsr_cli.errors import InputError, OutputError, RefusedOutputError
from pcsr_cli.files import put_in_place, written_whole
from pcsr_cli.png import write_png

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""Output formats by suffix."""

READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF")
"""Input formats. Pillow knows more, some of which run other programs on what they are given."""

LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}
LARGEST_FILE = {"TIFF": 2**32 - 2**20, "BMP": 2**32 - 2**20}
"""Bytes of pixels a format can count, with room for its header."""

WITHOUT_ALPHA = {"JPEG", "BMP"}
SAVE_OPTIONS: dict[str, dict[str, int]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
}


@dataclass(frozen=True)
class Picture:
    """A picture in memory: ``rgb`` (H, W, 3) uint8, ``alpha`` (H, W) uint8 or None.

    ``grey`` tells that the file had one colour channel (the three of ``rgb`` are equal), ``icc`` is its colour
    profile, ``notes`` what reading it changed."""

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None = None
    grey: bool = False
    icc: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.rgb.shape[0], self.rgb.shape[1]


def read_picture(path: Path) -> Picture:
    """Read a picture file, upright (its EXIF orientation applied). Raises InputError."""
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a picture.", "Give one picture file.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd metadata and on large sizes, neither of which matters here
            return _decode(path)
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.", "Check the path.") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read.", "Check its permissions.") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a picture of a known format.", f"Known: {', '.join(FORMATS)}.") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large to be safe: {error}", "Cut it into parts.") from error
    except (InputError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error
        # Decoders answer damaged files with whatever they trip over: OSError, struct.error, zlib.error, KeyError...
        raise InputError(f"{path} is truncated or damaged: {error}.", "Copy or export it again.") from error


def _decode(path: Path) -> Picture:
    Image.init()
    readable = [name for name in READABLE if name in Image.OPEN]  # a Pillow may be built without some
    with Image.open(path, formats=readable) as image:
        frames = getattr(image, "n_frames", 1)
        deep = _is_deep(image)
        image.load()
        picture = from_pil(ImageOps.exif_transpose(image))
    notes = [*picture.notes]
    if frames > 1:
        notes.append(f"only the first of {frames} frames was used")
    if deep:
        notes.append("16 bits a channel were read as 8")
    return replace(picture, notes=tuple(notes))


def from_pil(image: Image.Image) -> Picture:
    """The pixels of a PIL picture of any 8-bit mode. InputError for 16-bit grey and float ones, and for empty ones."""
    if image.mode == "La":  # the one mode that converts to a single other
        image = image.convert("LA")
    if image.mode.startswith(("I", "F")):
        raise InputError(f"Pictures of mode {image.mode} are not supported yet.", "Convert it to 8 bits a channel.")
    if not image.width or not image.height:
        raise InputError("The picture has no pixels.")
    icc = image.info.get("icc_profile")
    notes: tuple[str, ...] = ()
    has_alpha = image.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in image.info
    if image.mode in {"CMYK", "YCbCr", "LAB", "HSV"}:
        notes = (f"{image.mode} was converted to RGB",)
        icc = None
    grey = image.mode in {"1", "L", "LA", "La"}
    try:
        pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    except ValueError as error:
        raise InputError(f"Pictures of mode {image.mode} are not supported.", "Convert it to RGB.") from error
    alpha = np.ascontiguousarray(pixels[..., 3]) if has_alpha else None
    return Picture(np.ascontiguousarray(pixels[..., :3]), alpha, grey, icc, notes)


def to_pil(picture: Picture) -> Image.Image:
    """The picture as PIL has it: mode L, LA, RGB or RGBA."""
    channels = _channels(picture)
    image = Image.fromarray(channels[..., 0] if channels.shape[2] == 1 else channels)
    if picture.icc is not None:
        image.info["icc_profile"] = picture.icc
    return image


def _channels(picture: Picture) -> NDArray[np.uint8]:
    """The channels a file has, (H, W, 1 to 4): grey or RGB, then alpha."""
    colour = picture.rgb[..., :1] if picture.grey else picture.rgb
    return colour if picture.alpha is None else np.concatenate((colour, picture.alpha[..., None]), axis=2)


def check_output(output: Path, source: Path | None, overwrite: bool) -> None:
    """Refuse, before any work, an output that cannot or must not be written.

    Raises RefusedOutputError for an unknown format, an existing file (unless ``overwrite``), or the input itself;
    OutputError where the folder is missing or not writable.
    """
    if output.suffix.lower() not in FORMATS:
        raise RefusedOutputError(
            f"The output format of {output.name!r} is unknown.", f"Use one of {', '.join(FORMATS)}."
        )
    try:
        _check_free(output, source, overwrite)
    except OSError as error:  # such as a name that is too long
        raise OutputError(f"{output} cannot be written: {error.strerror}.", "Choose another name.") from error
    with written_whole(output):
        pass


def _check_free(output: Path, source: Path | None, overwrite: bool) -> None:
    if output.is_dir():
        raise RefusedOutputError(f"The output {output} is a folder.", "Give the name of a file in it.")
    if source is not None and source.exists() and output.exists() and output.samefile(source):
        raise RefusedOutputError("The output is the input.", "Give the result another name.")
    if output.exists() and not overwrite:
        raise RefusedOutputError(f"{output} exists already.", "Choose another name, or say --overwrite.")


def check_fits(output: Path, size: tuple[int, int], alpha: bool) -> None:
    """Refuse a format that cannot hold a result of (height, width). Raises RefusedOutputError."""
    name = FORMATS[output.suffix.lower()]
    longest = LONGEST_SIDE.get(name)
    if longest is not None and max(size) > longest:
        raise RefusedOutputError(
            f"{name} holds at most {longest:,} pixels a side, not {size[1]}x{size[0]}.", "Write a .png or .tif."
        )
    if alpha and name in WITHOUT_ALPHA:
        raise RefusedOutputError(f"{name} cannot hold the picture's transparency.", "Write a .png, .webp or .tif.")
    if size[0] * size[1] * (4 if alpha else 3) > LARGEST_FILE.get(name, math.inf):
        raise RefusedOutputError(f"{name} cannot hold as much as {size[1]}x{size[0]} pixels.", "Write a .png.")


def write_picture(output: Path, picture: Picture, text: Mapping[str, str]) -> None:
    """Write a picture in the format of its suffix, whole or not at all; ``text`` goes into PNG text chunks.

    Raises OutputError.
    """
    name = FORMATS[output.suffix.lower()]
    if name == "PNG":
        with written_whole(output) as temporary:
            with temporary.open("wb") as file:
                write_png(file, _channels(picture), text, picture.icc)
            put_in_place(temporary, output)
        return
    encoded = io.BytesIO()  # straight to a file, Pillow does not notice when a full disk takes only half
    try:
        to_pil(picture).save(encoded, name, icc_profile=picture.icc, **SAVE_OPTIONS.get(name, {}))
    except (OSError, ValueError, struct.error) as error:
        raise OutputError(f"{output} cannot be written as {name}: {error}.", "Write a .png.") from error
    with written_whole(output) as temporary:
        temporary.write_bytes(encoded.getbuffer())
        put_in_place(temporary, output)


def _is_deep(image: Image.Image) -> bool:
    """Whether Pillow is about to read 16-bit colour as 8-bit, which it does without a word."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()) if len(tile) > 3 and image.mode != "I;16")
