"""A request: how to upscale and write images, and the input and output of each job."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pcsr_cli.engine.routing import Allowance, Routing
from pcsr_cli.images.formats import FORMATS, Format, SaveOptions, check_options, choose_format
from pcsr_cli.jobs.maps import MapRequest

ANIMATION_FORMATS = {"GIF", "APNG"}
"""Formats for animations. By default, a still image is not written in a format for animations."""


@dataclass(frozen=True)
class Request:
    """How to upscale and write the images of a run.

    ``routing`` None means the model's default, or the budget in ``allowance``. ``format`` None means the format of the
    output's suffix. ``frames`` upscales all frames of an animation instead of the first. ``map`` and the masks need a
    single image."""

    scale: float = 4.0
    routing: Routing | None = None
    allowance: Allowance | None = None
    refine: int = field(kw_only=True)
    tile: int | None = None
    memory: int | None = None
    format: str | None = None
    save: SaveOptions = field(default_factory=SaveOptions)
    allow_huge: bool = False
    accept_damaged: bool = False
    frames: bool = False
    map: MapRequest | None = None
    force_heavy: Path | None = None
    force_light: Path | None = None


@dataclass(frozen=True)
class Job:
    """One image to upscale. Source and output are files or streams. ``replace`` permits replacing the output."""

    source: Path | BinaryIO
    output: Path | BinaryIO
    replace: bool = False


def suffix_of(source: Path, format: str | None, frames: bool = False) -> str:
    """Return the suffix of a result: that of ``format``, else of ``source`` if pcsr writes that format, else .png.

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
