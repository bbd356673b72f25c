"""The formats of results: what each can hold, which options it has, and which one a name asks for."""

import importlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import PurePath

from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.images.image import Layout, Metadata


@dataclass(frozen=True)
class SaveOptions:
    """How to write: ``quality`` 1 to 100 for lossy formats, ``lossless`` for those that can be either,
    ``compression`` 0 (fast) to 9 (small) for PNG and TIFF, ``strip`` to leave all metadata out but the colour
    profile, without which colours would shift. None and False are the format's own way."""

    quality: int | None = None
    lossless: bool = False
    compression: int | None = None
    strip: bool = False


@dataclass(frozen=True)
class Format:
    """What a format of files can hold.

    ``longest`` side and ``largest`` area in pixels, ``heaviest`` in bytes of pixels; ``deep`` if 16 bits a channel;
    ``streamed`` if rows go to the file as they come; ``quality`` its usual one, where there is one to choose;
    ``lossless`` is "always", "on request" or "never"; ``colours`` how many at most; ``metadata`` which of its fields it
    keeps, ``longest_exif`` and ``longest_xmp`` in bytes; ``plug_in`` the package that Pillow needs for it, ``module``
    its name in Python, ``pillow_name`` Pillow's for the format."""

    name: str
    suffixes: tuple[str, ...]
    alpha: bool = True
    deep: bool = False
    grey: bool = True
    streamed: bool = False
    longest: int | None = None
    largest: int | None = None
    heaviest: int | None = None
    quality: int | None = None
    lossless: str = "never"
    compression: bool = False
    animated: bool = False
    colours: int | None = None
    metadata: tuple[str, ...] = ()
    longest_exif: int | None = None
    longest_xmp: int | None = None
    plug_in: str = ""
    module: str = ""
    pillow_name: str = ""

    @property
    def pillow(self) -> str:
        """What Pillow calls it."""
        return self.pillow_name or self.name.upper()

    @property
    def installed(self) -> bool:
        """Whether files of this format can be read and written here."""
        return not self.module or find_spec(self.module) is not None


FORMATS = (
    Format(
        "PNG",
        (".png", ".apng"),
        deep=True,
        streamed=True,
        lossless="always",
        compression=True,
        animated=True,
        metadata=("icc", "exif", "xmp", "dpi"),
    ),
    Format(
        "JPEG",
        (".jpg", ".jpeg"),
        alpha=False,
        longest=65_500,
        quality=95,
        metadata=("icc", "exif", "xmp", "dpi"),
        longest_exif=65_500,
        longest_xmp=65_500,
    ),
    Format(
        "WebP",
        (".webp",),
        grey=False,
        longest=16_383,
        quality=95,
        lossless="on request",
        animated=True,
        metadata=("icc", "exif", "xmp"),
    ),
    Format(
        "TIFF",
        (".tif", ".tiff"),
        deep=True,
        streamed=True,
        lossless="always",
        compression=True,
        metadata=("icc", "exif", "xmp", "dpi"),
    ),
    Format("BMP", (".bmp",), alpha=False, heaviest=2**32 - 2**20, lossless="always", metadata=("dpi",)),
    Format(
        "AVIF",
        (".avif",),
        grey=False,
        longest=32_768,
        largest=16_384**2,
        quality=90,
        metadata=("icc", "exif", "xmp"),
    ),
    Format("GIF", (".gif",), longest=65_535, animated=True, colours=256),
    Format(
        "HEIC",
        (".heic", ".heif"),
        grey=False,
        longest=16_384,
        quality=90,
        metadata=("icc", "exif", "xmp"),
        plug_in="pillow-heif",
        module="pillow_heif",
        pillow_name="HEIF",
    ),
    Format(
        "JPEG XL",
        (".jxl",),
        quality=95,
        lossless="on request",
        metadata=("exif", "xmp"),  # its plug-in writes no profile
        plug_in="pillow-jxl-plugin",
        module="pillow_jxl",
        pillow_name="JXL",
    ),
)
"""Every format a result can have."""

PNG = FORMATS[0]
READ_ONLY = (".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".dib", ".jfif")
"""Suffixes of pictures that are read but never written."""


def known_suffixes() -> tuple[str, ...]:
    """The suffixes of pictures that can be read and written here, with their dots."""
    return tuple(suffix for format in FORMATS if format.installed for suffix in format.suffixes)


def readable_suffixes() -> tuple[str, ...]:
    """The suffixes of files in a folder that are taken for pictures, those included whose plug-in is not installed:
    that is said when they are read."""
    return (*(suffix for format in FORMATS for suffix in format.suffixes), *READ_ONLY)


def choose_format(output: PurePath | None, name: str | None = None) -> Format:
    """The format called ``name`` (as "png" or "jpeg xl"; a suffix will do), or else that of the output's suffix.

    ``output`` is None for a stream, which is a PNG if nobody says otherwise. Raises UsageError for an unknown format
    and for one whose plug-in is not installed."""
    if name is None and output is None:
        return PNG
    asked = (name or "").lower().lstrip(".") if name is not None else output.suffix.lower().lstrip(".")  # type: ignore[union-attr]
    for format in FORMATS:
        if asked in {format.name.lower(), format.name.lower().replace(" ", ""), *(s[1:] for s in format.suffixes)}:
            if not format.installed:
                raise UsageError(
                    f"{format.name} needs a plug-in that is not installed.", f"Run: pip install {format.plug_in}."
                )
            return format
    known = ", ".join(known_suffixes())
    if name is not None:
        names = known.replace(".", "")
        raise UsageError(f"There is no output format {name}.", f"Use one of {names}.")
    assert output is not None
    raise RefusedOutputError(
        f"The output format of {output.name!r} is unknown.", f"Use one of {known}, or say --format."
    )


def check_options(format: Format, options: SaveOptions) -> None:
    """Refuse options that mean nothing to a format. Raises UsageError."""
    if options.quality is not None and not 1 <= options.quality <= 100:
        raise UsageError(f"A quality of {options.quality} is out of range.", "Give a number from 1 to 100.")
    if options.compression is not None and not 0 <= options.compression <= 9:
        raise UsageError(
            f"A compression of {options.compression} is out of range.", "Give a number from 0 (fast) to 9 (small)."
        )
    if options.quality is not None and format.quality is None:
        others = _named(f for f in FORMATS if f.quality)
        raise UsageError(f"{format.name} has no quality to choose.", f"Leave --quality out, or write {others}.")
    if options.lossless and format.lossless == "never":
        others = _named(f for f in FORMATS if f.lossless != "never")
        raise UsageError(f"{format.name} cannot be lossless.", f"Leave --lossless out, or write {others}.")
    if options.lossless and options.quality is not None:
        raise UsageError("A lossless file has no quality to choose.", "Leave one of them out.")
    if options.compression is not None and not format.compression:
        others = _named(f for f in FORMATS if f.compression)
        raise UsageError(f"{format.name} has no compression to choose.", f"Leave --compression out, or write {others}.")


def _named(formats: Iterable[Format]) -> str:
    return ", ".join(format.name for format in formats if format.installed)


def fit(layout: Layout, format: Format, metadata: Metadata | None = None) -> tuple[Layout, tuple[str, ...]]:
    """The layout a result gets in a format, and notes on what is lost of it and of ``metadata``.

    16 bits become 8 where a format has only these. To be asked before computing. Raises RefusedOutputError,
    naming the formats that can, where it cannot hold as many pixels or the transparency."""
    fitting = layout
    notes: tuple[str, ...] = ()
    if layout.depth == 16 and not format.deep:
        fitting, notes = (
            replace(layout, depth=8),
            (f"{format.name} has 8 bits a channel: the picture's 16 were rounded",),
        )
    if format.colours is not None and not (layout.grey and not layout.alpha):
        notes = (*notes, f"{format.name} has {format.colours} colours")
    size = f"{layout.width}x{layout.height}"
    able = " or ".join(other.suffixes[0] for other in FORMATS if other.streamed)
    if format.longest is not None and max(layout.height, layout.width) > format.longest:
        raise RefusedOutputError(
            f"{format.name} holds at most {format.longest:,} pixels a side, not {size}.", f"Write a {able}."
        )
    if layout.alpha and not format.alpha:
        clear = ", ".join(
            other.suffixes[0] for other in FORMATS if other.alpha and other.installed and _holds(other, layout)
        )
        raise RefusedOutputError(f"{format.name} cannot hold the picture's transparency.", f"Write one of {clear}.")
    if not _holds(format, layout):
        raise RefusedOutputError(f"{format.name} cannot hold as much as {size} pixels.", f"Write a {able}.")
    return fitting, (*notes, *keepable(metadata or Metadata(), format)[1])


def check_animated(format: Format) -> None:
    """Refuse, for an animation, formats that cannot move. Raises RefusedOutputError."""
    if not format.animated:
        able = _named(f for f in FORMATS if f.animated)
        raise RefusedOutputError(f"{format.name} holds one frame only.", f"Write {able}, or leave --frames out.")


def keepable(metadata: Metadata, format: Format) -> tuple[Metadata, tuple[str, ...]]:
    """What of a picture's metadata a format can hold, and notes on what it cannot.

    A profile always stays: where a format has none, the colours are converted by it when they are written."""
    exif, xmp = metadata.exif, metadata.xmp
    notes: list[str] = []
    if metadata.icc is not None and "icc" not in format.metadata:
        notes.append(f"{format.name} is written without a profile: the colours were converted to sRGB")
    if exif is not None and ("exif" not in format.metadata or len(exif) > (format.longest_exif or math.inf)):
        exif, notes = None, [*notes, f"{format.name} cannot hold the EXIF"]
    if xmp is not None and ("xmp" not in format.metadata or len(xmp) > (format.longest_xmp or math.inf)):
        xmp, notes = None, [*notes, f"{format.name} cannot hold the XMP"]
    dpi = metadata.dpi if "dpi" in format.metadata else None
    return Metadata(metadata.icc, exif, xmp, dpi), tuple(notes)


def _holds(format: Format, layout: Layout) -> bool:
    heavy = layout.height * layout.row_bytes
    return (
        max(layout.height, layout.width) <= (format.longest or math.inf)
        and layout.height * layout.width <= (format.largest or math.inf)
        and heavy <= (format.heaviest or math.inf)
    )


PLUG_IN_FORMATS = tuple(format for format in FORMATS if format.module)
"""HEIC and JPEG XL."""


def load(format: Format) -> None:
    """Make Pillow know a format whose plug-in is installed."""
    if not format.module:
        return
    module = importlib.import_module(format.module)  # which is how the one for JPEG XL makes itself known
    if format.pillow == "HEIF":
        module.register_heif_opener()
