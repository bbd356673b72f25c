"""What is asked for: how pictures are enlarged and written, from where to where, in which format."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pcsr_cli.engine.routing import Allowance, Routing
from pcsr_cli.images.formats import FORMATS, Format, SaveOptions, check_options, choose_format
from pcsr_cli.jobs.maps import MapRequest

OF_FRAMES = {"GIF", "APNG"}
"""Formats made for animations; of a single picture they are not the best."""


@dataclass(frozen=True)
class Request:
    """How pictures are enlarged and written, the same for all of a run.

    ``routing`` is None for the model's usual one, or with ``allowance`` for what that pays for; ``format`` by name is
    None to go by the output's suffix; ``frames`` are all of an animation's instead of the first. A map and masks are of
    a single picture."""

    scale: float = 4.0
    routing: Routing | None = None
    allowance: Allowance | None = None
    refine: int = field(kw_only=True)
    tile: int | None = None
    memory: int | None = None
    format: str | None = None
    save: SaveOptions = field(default_factory=SaveOptions)
    allow_huge: bool = False
    frames: bool = False
    map: MapRequest | None = None
    force_heavy: Path | None = None
    force_light: Path | None = None


@dataclass(frozen=True)
class Job:
    """One image to upscale: its file or stream, the file or stream of its result, and whether that may be replaced."""

    source: Path | BinaryIO
    output: Path | BinaryIO
    replace: bool = False


def suffix_of(source: Path, format: str | None, frames: bool = False) -> str:
    """The suffix of a picture's result: of the format asked for by name, else the picture's own, else .png.

    Raises UsageError for an unknown format."""
    if format is not None:
        return choose_format(None, format).suffixes[0]
    able = [known for known in FORMATS if known.installed and (frames or known.name not in OF_FRAMES)]
    kept = {suffix for known in able for suffix in known.suffixes}
    return source.suffix if source.suffix.lower() in kept else ".png"


def format_of(output: Path | BinaryIO, request: Request) -> Format:
    """The format of a result. Raises UsageError where there is none, or it does not have the options asked for."""
    format = choose_format(output if isinstance(output, Path) else None, request.format)
    check_options(format, request.save)
    return format
