"""The output formats, their limits and options. Choose a format by name or suffix."""

import importlib
import math
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import PurePath
from typing import TYPE_CHECKING, BinaryIO

from pcsr_cli.errors import PcsrError, RefusedOutputError, UsageError
from pcsr_cli.images import xmp

if TYPE_CHECKING:  # these modules import numpy, and an unknown format is found without it
    from pcsr_cli.images.image import Layout, Metadata


@dataclass(frozen=True)
class SaveOptions:
    """Options of the encoders. The value None or False means the format's default.

    ``quality`` is 1 to 100 for lossy formats. ``lossless`` is for formats with both modes. ``compression`` is 0 (fast)
    to 9 (small) for PNG and TIFF. ``strip`` removes all metadata except the colour profile: without the profile,
    colours would shift."""

    quality: int | None = None
    lossless: bool = False
    compression: int | None = None
    strip: bool = False


@dataclass(frozen=True)
class Format:
    """The capabilities of a format.

    ``max_side`` and ``max_area`` are in pixels. ``max_bytes`` is the maximum size of the uncompressed pixels. ``deep``
    formats hold 16 bits per channel. ``streamed`` formats are written row by row. ``quality`` is the default quality,
    None for a format without this option. ``lossless`` is "always", "on request" or "never". ``max_colours`` limits a
    palette. ``metadata`` names the fields of ``Metadata`` to keep, or "comment" for text with this keyword only.
    ``max_block`` is the maximum size of a block of metadata, such as EXIF, in bytes. ``plug_in`` is the package that
    Pillow needs. ``module`` is the Python module of the plug-in. ``pillow_name`` is Pillow's name of the format if that
    differs from ``name``."""

    name: str
    suffixes: tuple[str, ...]
    alpha: bool = True
    deep: bool = False
    grey: bool = True
    streamed: bool = False
    max_side: int | None = None
    max_area: int | None = None
    max_bytes: int | None = None
    quality: int | None = None
    lossless: str = "never"
    compression: bool = False
    animated: bool = False
    max_colours: int | None = None
    metadata: tuple[str, ...] = ()
    max_block: float = math.inf
    plug_in: str = ""
    module: str = ""
    pillow_name: str = ""

    @property
    def pillow(self) -> str:
        """Pillow's name of the format."""
        return self.pillow_name or self.name.upper()

    @property
    def installed(self) -> bool:
        """Whether this installation can read and write the format."""
        return not self.module or find_spec(self.module) is not None


BLOCKS = ("icc", "exif", "xmp")
MORE = (*BLOCKS, "dpi", "aspect", "iptc")

# fmt: off
FORMATS = (
    Format("PNG", (".png", ".apng"), deep=True, streamed=True, lossless="always", compression=True, animated=True,
           metadata=(*MORE, "text", "cicp")),
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), alpha=False, max_side=65_500, quality=95,
           metadata=(*MORE, "comment", "extended_xmp"), max_block=64_000),
    Format("WebP", (".webp",), grey=False, max_side=16_383, quality=95, lossless="on request", animated=True,
           metadata=BLOCKS),
    Format("TIFF", (".tif", ".tiff"), deep=True, streamed=True, lossless="always", compression=True,
           metadata=MORE),
    Format("BMP", (".bmp",), alpha=False, max_bytes=2**32 - 2**20, lossless="always", metadata=("dpi",)),
    Format("AVIF", (".avif",), grey=False, max_side=32_768, max_area=16_384**2, quality=90, metadata=BLOCKS),
    Format("GIF", (".gif",), max_side=65_535, animated=True, max_colours=256, metadata=("comment",)),
    Format("HEIC", (".heic", ".heif", ".hif"), grey=False, max_side=16_384, quality=90, metadata=BLOCKS,
           plug_in="pillow-heif", module="pillow_heif", pillow_name="HEIF"),
    Format("JPEG XL", (".jxl",), quality=95, lossless="on request", metadata=("exif", "xmp"),  # it writes no profile
           plug_in="pillow-jxl-plugin", module="pillow_jxl", pillow_name="JXL"),
)
# fmt: on
"""All output formats."""

BLOCK_NAMES = {
    "exif": "the EXIF",
    "xmp": "the XMP",
    "extended_xmp": "the extended XMP",
    "iptc": "the IPTC",
    "cicp": "the statement that the image is HDR",
    "aspect": "the pixel aspect ratio",
}
"""The names that notes use for the fields of ``Metadata``."""

HEADS = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "WebP": (b"RIFF",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "GIF": (b"GIF8",),
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a"),
}
"""The first bytes of files: of TIFF and BigTIFF in both byte orders, of JPEG XL codestreams and containers."""

LIMITED = {"exif", "xmp", "iptc"}
PNG = FORMATS[0]
PLUG_IN_FORMATS = tuple(format for format in FORMATS if format.module)
"""Formats that need a plug-in."""

RAW_SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef",
    ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
"""Suffixes of cameras' raw files, which are refused."""

READ_ONLY = (
    ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".mpo", ".heics", ".heifs", ".avifs", ".ppm", ".pgm", ".pbm",
    ".pnm", ".dib",
)  # fmt: skip
"""Suffixes of formats that can be read but not written."""


def starts_like(file: BinaryIO, *formats: str) -> bool:
    """Return whether a file starts like the files of one of these formats."""
    file.seek(0)
    return file.read(12).startswith(tuple(head for name in formats for head in HEADS[name]))


def known_suffixes() -> tuple[str, ...]:
    """Return the suffixes, with dots, of the formats that this installation can read and write."""
    return tuple(suffix for format in FORMATS if format.installed for suffix in format.suffixes)


def readable_suffixes() -> tuple[str, ...]:
    """Return the suffixes of files in a folder that count as images, including formats whose plug-in is not
    installed."""
    return (*(suffix for format in FORMATS for suffix in format.suffixes), *READ_ONLY)


def choose_format(output: PurePath | None, name: str | None = None) -> Format:
    """Return the format with this ``name`` ("png", "jpeg xl", or a suffix), or else the format of the output's suffix.

    A stream (``output`` None) gets PNG by default. Raises UsageError for an unknown name and for a format whose
    plug-in is not installed, RefusedOutputError for an unknown suffix."""
    if name is not None:
        key = name.lower().lstrip(".")
    elif output is not None:
        key = output.suffix.lower().lstrip(".")
    else:
        return PNG
    for format in FORMATS:
        names = {format.name.lower(), format.name.lower().replace(" ", ""), *(s[1:] for s in format.suffixes)}
        if key in names:
            if not format.installed:
                raise missing_plug_in(format)
            return format
    known = ", ".join(known_suffixes())
    if output is None or name is not None:
        raise UsageError(f"Unknown output format {name!r}.", f"Use one of {known.replace('.', '')}.")
    raise RefusedOutputError(
        f"The suffix of {output.name!r} is not that of a known format.", f"Use one of {known}.", setting="format"
    )


def missing_plug_in(format: Format, kind: type[PcsrError] = UsageError, prefix: str = "") -> PcsrError:
    """Return the error for a format whose plug-in is not installed."""
    return kind(f"{prefix}{format.name} needs a plug-in that is not installed.", f"Run: pip install {format.plug_in}.")


def check_options(format: Format, options: SaveOptions) -> None:
    """Raise UsageError for options that are out of range or that the format does not have."""
    if options.quality is not None and not 1 <= options.quality <= 100:
        raise UsageError(f"Invalid quality {options.quality}.", "Use a number from 1 to 100.")
    if options.compression is not None and not 0 <= options.compression <= 9:
        raise UsageError(f"Invalid compression {options.compression}.", "Use a number from 0 (fast) to 9 (small).")
    if options.lossless and options.quality is not None:
        raise UsageError("Lossless files have no quality setting.", "Use one of the two options.")
    wanted = {
        "quality": (options.quality is not None, [f for f in FORMATS if f.quality]),
        "lossless": (options.lossless, [f for f in FORMATS if f.lossless != "never"]),
        "compression": (options.compression is not None, [f for f in FORMATS if f.compression]),
    }
    for name, (is_set, formats) in wanted.items():
        if is_set and format not in formats:
            raise UsageError(f"{format.name} has no {name} setting.", f"Write {_names(formats)}.", setting=name)


def check_animated(format: Format) -> None:
    """Raise RefusedOutputError for formats without animation."""
    if not format.animated:
        others = _names([f for f in FORMATS if f.animated])
        raise RefusedOutputError(f"{format.name} holds only one frame.", f"Write {others}.", setting="frames")


def _names(formats: list[Format]) -> str:
    *names, last = [format.name for format in formats if format.installed]
    return f"{', '.join(names)} or {last}" if names else last


def fit(layout: "Layout", format: Format, metadata: "Metadata | None" = None) -> "tuple[Layout, tuple[str, ...]]":
    """Return the layout of a result in a format, and notes on what the pixels and ``metadata`` lose.

    Pixels of 16 bits become 8 bits if the format holds only 8. Raises RefusedOutputError, with the names of suitable
    formats, if there are too many pixels or if the format lacks transparency. Call this function before computing."""
    fitting = layout
    notes: tuple[str, ...] = ()
    if layout.depth == 16 and not format.deep:
        fitting = replace(layout, depth=8)
        notes = (f"16 bits a channel were rounded to 8, which is all that {format.name} holds",)
    if format.max_colours is not None and not (layout.grey and not layout.alpha):
        notes = (*notes, f"{format.name} has {format.max_colours} colours")
    size = f"{layout.width}x{layout.height}"
    large = " or ".join(other.suffixes[0] for other in FORMATS if other.streamed)
    if format.max_side is not None and max(layout.height, layout.width) > format.max_side:
        raise RefusedOutputError(
            f"{format.name} holds at most {format.max_side:,} pixels per side, not {size}.", f"Write a {large}."
        )
    if layout.alpha and not format.alpha:
        others = (other for other in FORMATS if other.alpha and other.installed and _holds(other, layout))
        suffixes = ", ".join(other.suffixes[0] for other in others)
        raise RefusedOutputError(
            f"{format.name} has no transparency, but the image has.", f"Write one of {suffixes}.", setting="background"
        )
    if not _holds(format, layout):
        raise RefusedOutputError(f"{format.name} cannot hold {size} pixels.", f"Write a {large}.")
    return fitting, notes if metadata is None else (*notes, *keepable(metadata, format, layout.grey)[1])


def holds_profile(format: Format, icc: bytes) -> bool:
    """Return whether a format can hold this profile."""
    return "icc" in format.metadata and (format.grey or icc[16:20] != b"GRAY")


def keepable(metadata: "Metadata", format: Format, grey: bool = False) -> "tuple[Metadata, tuple[str, ...]]":
    """Return the metadata that a format can hold, and notes on the lost metadata. ``grey`` is whether the image is
    grey.

    The profile is always kept. If the format cannot hold a profile, the encoder uses the profile to convert the
    colours."""
    from pcsr_cli.images.image import list_names
    from pcsr_cli.images.modes import is_convertible

    kept, notes, lost = metadata, [], []
    if metadata.icc is not None and not holds_profile(format, metadata.icc):
        if is_convertible(metadata.icc, grey):
            notes.append(f"the colours were converted to sRGB, because {format.name} is written without this profile")
        else:
            notes.append("the profile was dropped, because it is damaged or for another kind of colours")
    for name, description in BLOCK_NAMES.items():
        block = getattr(metadata, name)
        too_long = name in LIMITED and block is not None and len(block) > format.max_block
        if block is not None and (name not in format.metadata or too_long):
            kept = replace(kept, **{name: None})  # type: ignore[arg-type]
            lost.append(description)
    if "text" not in format.metadata:
        comments = [(key, text) for key, text in metadata.text if key == "Comment" and "comment" in format.metadata]
        kept = replace(kept, text=tuple(pair for pair in comments if len(pair[1].encode()) <= format.max_block))
        if keys := [key for key, text in metadata.text if (key, text) not in kept.text]:
            lost.append(f"the text ({list_names(keys)})")
    if kept.xmp is not None and metadata.extended_xmp is not None and kept.extended_xmp is None:
        kept = replace(kept, xmp=xmp.without_extension(kept.xmp))
    if lost:
        notes.append(f"{format.name} cannot hold {', '.join(lost)}")
    return replace(kept, dpi=metadata.dpi if "dpi" in format.metadata else None), tuple(notes)


def _holds(format: Format, layout: "Layout") -> bool:
    return (
        max(layout.height, layout.width) <= (format.max_side or math.inf)
        and layout.height * layout.width <= (format.max_area or math.inf)
        and layout.height * layout.row_bytes <= (format.max_bytes or math.inf)
    )


def load_plug_in(format: Format) -> None:
    """Register the installed plug-in of a format with Pillow. Nothing happens for formats without a plug-in."""
    if not format.module:
        return
    module = importlib.import_module(format.module)  # the plug-in for JPEG XL registers itself
    if format.pillow == "HEIF":
        module.register_heif_opener()
