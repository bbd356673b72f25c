"""A request: how to upscale and write images, and the input and output of each job."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from pcsr_cli.engine.rules import Adaptive, Allowance, Budget, Routing
from pcsr_cli.errors import InputError, RefusedOutputError, UsageError
from pcsr_cli.images.formats import FORMATS, Format, SaveOptions, check_options, choose_format
from pcsr_cli.jobs.target import LargerPolicy, Target

if TYPE_CHECKING:  # these modules import torch, and a wrong path or option is found without it
    from pcsr_cli.engine.wrap import Axes

ANIMATION_FORMATS = {"GIF", "APNG"}
"""Formats for animations. By default, a still image is not written in a format for animations."""


Style = Literal["overlay", "mask", "difficulty", "data"]


@dataclass(frozen=True)
class MapRequest:
    """The request of a map: its file, its style, and whether to replace an existing file.

    ``overlay`` is the result with heavy pixels tinted, ``mask`` the branches in grey, ``difficulty`` p_heavy in
    colours, ``data`` p_heavy as numbers: float32 in a .npy, 16 bits in a .png."""

    output: Path
    style: Style
    replace: bool = False

    @property
    def is_npy(self) -> bool:
        """Whether the map is an array of numbers and not an image."""
        return self.output.suffix.lower() == ".npy"

    @property
    def needs_p_heavy(self) -> bool:
        """Whether the map shows p_heavy and not only branches."""
        return self.style in {"difficulty", "data"}


def request_map(output: Path, style: Style | None, replace: bool = False) -> MapRequest:
    """Check a request. Without a style, a .npy holds data and a .png an overlay.

    Raises RefusedOutputError, UsageError."""
    suffix = output.suffix.lower()
    if suffix == ".npy":
        if style not in {None, "data"}:
            raise UsageError(f"A .npy map holds p_heavy as numbers and has no style {style}.", "Write a .png.")
        return MapRequest(output, "data", replace)
    if suffix != ".png":
        raise RefusedOutputError(f"Cannot write a map as {output.name!r}.", "Use .png, or .npy for p_heavy as numbers.")
    return MapRequest(output, style or "overlay", replace)


@dataclass(frozen=True)
class Request:
    """How to upscale and write the images of a run.

    ``target`` replaces ``scale`` by a scale for each image. ``if_larger`` applies to images that are at least as large
    as the target. ``routing`` None means the model's default, or the budget in ``allowance``. ``refine`` None means the
    default of the scale. ``format`` None means the format of the output's suffix. ``frames`` upscales all frames of an
    animation instead of the first. ``background`` (8-bit RGB) replaces transparency in formats without it. ``strength``
    mixes the result with a bicubic one, from 0 (only bicubic) to 1. ``wrap`` tiles an image in one or both directions,
    at an integer scale and with a routing by fixed cuts. ``map`` and the masks need a single image."""

    scale: float = 4.0
    target: Target | None = None
    if_larger: LargerPolicy = "copy"
    routing: Routing | None = None
    allowance: Allowance | None = None
    refine: int | None = field(kw_only=True)
    tile: int | None = None
    memory: int | None = None
    format: str | None = None
    save: SaveOptions = field(default_factory=SaveOptions)
    allow_huge: bool = False
    accept_damaged: bool = False
    frames: bool = False
    background: tuple[int, int, int] | None = None
    strength: float = 1.0
    wrap: "Axes | None" = None
    map: MapRequest | None = None
    force_heavy: Path | None = None
    force_light: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UsageError(f"Invalid strength {self.strength:g}.", "Use a number from 0 (bicubic) to 1.")
        if self.wrap and (self.map or self.force_heavy or self.force_light):
            raise UsageError("A wrapped image has no maps and masks.", "Remove one of the options.", setting="wrap")
        if self.wrap and (self.allowance or isinstance(self.routing, Adaptive | Budget)):
            raise UsageError("ADM and budgets cannot route a wrapped image.", "Use a threshold.", setting="wrap")

    @property
    def label(self) -> str:
        """The scale or the target, for names of files."""
        return f"{self.scale:g}" if self.target is None else self.target.label

    def scale_of(self, size: tuple[int, int]) -> float:
        """Return the scale for an image of (height, width). For a target it may be below 1."""
        return self.scale if self.target is None else self.target.scale(size)

    def is_reached(self, size: tuple[int, int]) -> bool:
        """Return whether an image of (height, width) is at least as large as the target."""
        from pcsr_cli.engine.grid import hr_size

        scale = self.scale_of(size)
        return self.target is not None and (scale < 1 or hr_size(size, scale) == size)


@dataclass(frozen=True)
class Job:
    """One image to upscale. Source and output are files or streams. ``replace`` permits replacing the output.

    ``path`` is the path of the source in the searched folder."""

    source: Path | BinaryIO
    output: Path | BinaryIO
    replace: bool = False
    path: Path = Path()


def is_skipped(source: Path | BinaryIO, request: Request) -> bool:
    """Return whether the request skips an image that already is large enough.

    An image that cannot be read is not skipped."""
    if request.target is None or request.if_larger != "skip":
        return False
    from pcsr_cli.images.read import read_layout

    with suppress(InputError):
        layout = read_layout(source, request.allow_huge)
        return request.is_reached((layout.height, layout.width))
    return False


def suffix_of(source: Path, format: str | None, frames: bool = False) -> str:
    """Return the suffix of a result. ``format`` gives the suffix. Without ``format``, the result has the suffix of
    ``source``, or .png if pcsr cannot write that format.

    Raises UsageError for an unknown format."""
    if format is not None:
        return choose_format(None, format).suffixes[0]
    usable = [known for known in FORMATS if known.installed and (frames or known.name not in ANIMATION_FORMATS)]
    kept = {suffix for known in usable for suffix in known.suffixes}
    return source.suffix if source.suffix.lower() in kept else ".png"


def format_of(output: Path | BinaryIO, request: Request) -> Format:
    """Return the format of a result. Raises UsageError for an unknown format or unsupported options."""
    format = choose_format(output if isinstance(output, Path) else None, request.format)
    check_options(format, request.save)
    return format
