"""Pictures on disk: read into arrays, written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from pcsr_cli.errors import InputError, OutputError, RefusedOutputError

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

LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}
WITHOUT_ALPHA = {"JPEG", "BMP"}
SAVE_OPTIONS: dict[str, dict[str, int]] = {
    "PNG": {"compress_level": 4},
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
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a picture.", "Give one picture file.")
    try:
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            deep = _is_deep(image)
            image.load()
            picture = from_pil(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.", "Check the path.") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read.", "Check its permissions.") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a picture of a known format.", f"Known: {', '.join(FORMATS)}.") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large to be safe: {error}.", "Cut it into parts.") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
        raise InputError(f"{path} is truncated or damaged: {error}.", "Copy or export it again.") from error
    notes = [*picture.notes]
    if frames > 1:
        notes.append(f"only the first of {frames} frames was used")
    if deep:
        notes.append("16 bits a channel were read as 8")
    return Picture(picture.rgb, picture.alpha, picture.grey, picture.icc, tuple(notes))


def from_pil(image: Image.Image) -> Picture:
    """The pixels of a PIL picture of any 8-bit mode. InputError for 16-bit grey and float ones, and for empty ones."""
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
    pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    alpha = np.ascontiguousarray(pixels[..., 3]) if has_alpha else None
    return Picture(np.ascontiguousarray(pixels[..., :3]), alpha, grey, icc, notes)


def to_pil(picture: Picture) -> Image.Image:
    """The picture as PIL has it: mode L, LA, RGB or RGBA."""
    channels = [picture.rgb[..., index] for index in range(1 if picture.grey else 3)]
    if picture.alpha is not None:
        channels.append(picture.alpha)
    image = Image.fromarray(channels[0] if len(channels) == 1 else np.stack(channels, axis=-1))
    if picture.icc is not None:
        image.info["icc_profile"] = picture.icc
    return image


def check_output(output: Path, source: Path | None, overwrite: bool) -> None:
    """Refuse, before any work, an output that cannot or must not be written.

    Raises RefusedOutputError for an unknown format, an existing file (unless ``overwrite``), or the input itself;
    OutputError where the folder is missing or not writable.
    """
    if output.suffix.lower() not in FORMATS:
        raise RefusedOutputError(
            f"The output format of {output.name!r} is unknown.", f"Use one of {', '.join(FORMATS)}."
        )
    if output.is_dir():
        raise RefusedOutputError(f"The output {output} is a folder.", "Give the name of a file in it.")
    if source is not None and source.exists() and output.exists() and output.samefile(source):
        raise RefusedOutputError("The output is the input.", "Give the result another name.")
    if output.exists() and not overwrite:
        raise RefusedOutputError(f"{output} exists already.", "Choose another name, or say --overwrite.")
    with written_whole(output):
        pass


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


def write_picture(output: Path, picture: Picture, text: Mapping[str, str]) -> None:
    """Write a picture in the format of its suffix, whole or not at all; ``text`` goes into PNG text chunks.

    Raises OutputError.
    """
    name = FORMATS[output.suffix.lower()]
    image = to_pil(picture)
    with written_whole(output) as temporary:
        if name == "PNG":
            chunks = PngImagePlugin.PngInfo()
            for key, value in text.items():
                chunks.add_itxt(key, value)
            image.save(temporary, name, pnginfo=chunks, icc_profile=picture.icc, **SAVE_OPTIONS[name])
        else:
            image.save(temporary, name, icc_profile=picture.icc, **SAVE_OPTIONS.get(name, {}))
        os.replace(temporary, output)  # noqa: PTH105 - atomic on every system, which rename() is not


@contextmanager
def written_whole(output: Path) -> Iterator[Path]:
    """A temporary file beside ``output``, to be moved over it when it is whole; gone afterwards in any case.

    Raises OutputError where the folder is missing, read-only or full.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{output.stem[:40]}-", suffix=".part", dir=output.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written: {_reason(error)}.", "Choose a folder that exists and can be written."
        ) from error
    temporary = Path(name)
    try:
        _give_usual_mode(temporary)
        yield temporary
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {_reason(error)}.", "Free space, or choose another.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _give_usual_mode(path: Path) -> None:
    """Temporary files are private; the result should be as readable as any new file."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _is_deep(image: Image.Image) -> bool:
    """Whether Pillow is about to read 16-bit colour as 8-bit, which it does without a word."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()) if len(tile) > 3 and image.mode != "I;16")
