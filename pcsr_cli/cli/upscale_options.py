"""The options of ``pcsr upscale`` and their conversion into a request. The short help has the common options only."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pcsr_cli.cli import options
from pcsr_cli.cli.config import Command
from pcsr_cli.cli.options import OUTPUT, ROUTING, check_exclusive, option
from pcsr_cli.engine.rules import parse_allowance
from pcsr_cli.errors import UsageError
from pcsr_cli.jobs.cluster import check_address
from pcsr_cli.jobs.find import DEFAULT_TEMPLATE
from pcsr_cli.jobs.target import Target, make_target

if TYPE_CHECKING:
    from pcsr_cli.jobs.request import Request

ADVANCED = "Advanced"
MANY = "Several images"
MAPS = "Routing maps and masks"
SIZE = "Size of the result"
"""Panels of the help."""

COMMON = (
    "paths", "scale", "output", "model", "overwrite", "format", "quality", "device", "threads", "recursive", "name",
    "skip_existing", "frames", "preview", "verbose", "quiet", "json", "width", "height", "fit", "megapixels", "print",
)  # fmt: skip
"""The parameters that come first in the help, in order. The short help has no others, except ``help_all``."""


SHORT = {
    "paths": "Enlarge images or folders to OUT, or beside IN.",
    "scale": "Enlarge by this factor, from 1.",
    "model": "Use auto, a name, a folder or a file.",
    "quality": "Set the quality of lossy formats, 1-100.",
    "device": "Compute on auto, cpu, cuda or mps.",
    "recursive": "Include subfolders.",
    "name": "Name results, as {stem}_x{scale}{suffix}.",
    "skip_existing": "Keep existing results.",
    "frames": "Enlarge all frames of an animation.",
    "preview": "Draw a detail in the terminal.",
    "verbose": "Print all figures.",
    "fit": "Enlarge to fit into a box: 3840x2160.",
    "print": "Enlarge for a print: A4, 60x40cm@300dpi.",
    "help_all": "Show all: routing, maps, tiles, memory.",
}
"""Texts of the short help that fit one line of a terminal with 80 columns."""


class ShortHelp(Command):
    """A command whose --help has the common options on one screen. --help-all has all options, in panels."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        if not ctx.params.get("help_all"):
            for parameter in self.params:
                parameter.hidden = parameter.name not in {*COMMON, "help_all"}  # type: ignore[attr-defined]
                parameter.help = SHORT.get(str(parameter.name), parameter.help)  # type: ignore[attr-defined]
                parameter.show_envvar = False  # type: ignore[attr-defined]
                parameter.show_default = parameter.name == "scale"  # type: ignore[attr-defined]
                if parameter.rich_help_panel not in {SIZE, ADVANCED}:  # type: ignore[attr-defined]
                    parameter.rich_help_panel = None  # type: ignore[attr-defined]
        self.params.sort(key=lambda parameter: (*COMMON, parameter.name).index(parameter.name))
        super().format_help(ctx, formatter)


def _print_all_options(context: typer.Context, wanted: bool) -> None:
    if wanted:
        context.params["help_all"] = True
        sys.stdout.write(context.get_help())
        raise typer.Exit


OPTIONAL_VALUES = {"--wrap": ("x|y|xy", "xy"), "--ray": (r"auto|local|[^/]+:\d+", "local")}
"""The options whose value may be omitted, with a pattern of their values and the value that is then meant."""


def complete_values(arguments: Sequence[str]) -> list[str]:
    """Add the value to each option of ``OPTIONAL_VALUES`` that is given without one."""
    completed = list(arguments)
    for number, (name, value) in enumerate(pairwise([*arguments, ""])):
        pattern, meant = OPTIONAL_VALUES.get(name, ("", ""))
        if meant and not re.fullmatch(pattern, value):
            completed[number] = f"{name}={meant}"
    return completed


def _side(name: str, help: str) -> Any:
    return option(name, help, SIZE, min=1, metavar="N")


@dataclass(frozen=True)
class Options(options.Common):
    """The options of ``upscale``."""

    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IN... [OUT]",
            help="Enlarge images, folders or 'patterns*' to the file or folder OUT, or beside IN.",
            show_default=False,
        ),
    ] = None
    input: Annotated[list[str] | None, option("--input", "Enlarge this as well.", short="-i", hidden=True)] = None
    output: Annotated[str | None, option("--output", "Write to this file or folder.", short="-o", metavar="OUT")] = None
    overwrite: options.Overwrite = False
    frames: Annotated[bool, option("--frames", "Enlarge all frames of a GIF, WebP or PNG animation.")] = False
    accept_damaged: Annotated[bool, option("--accept-damaged", "Enlarge the readable part of damaged images.")] = False
    strength: Annotated[float, option("--strength", "Mix with the bicubic result, from 0 (only bicubic) to 1.")] = 1.0
    wrap: Annotated[
        Literal["x", "y", "xy"] | None,
        option("--wrap", "Enlarge a texture that repeats along x, y or both (xy, or no value)."),
    ] = None
    verbose: Annotated[
        bool, option("--verbose", "Print all figures of one image, or a line for each of several.", short="-v")
    ] = False
    quiet: options.Quiet = False
    quality: Annotated[int | None, option("--quality", "Set the quality of lossy formats, 1 to 100.", OUTPUT)] = None
    lossless: Annotated[bool, option("--lossless", "Write lossless WebP, AVIF or JPEG XL.", OUTPUT)] = False
    compression: Annotated[
        int | None, option("--compression", "Compress PNG and TIFF, 0 (fast) to 9 (small).", OUTPUT)
    ] = None
    strip: Annotated[bool, option("--strip", "Remove all metadata except the colour profile.", OUTPUT)] = False
    background: Annotated[
        str | None, option("--background", "Replace transparency by this colour in formats without it.", OUTPUT)
    ] = None
    width: Annotated[int | None, _side("--width", "Enlarge to this width in pixels.")] = None
    height: Annotated[int | None, _side("--height", "Enlarge to this height in pixels.")] = None
    long_edge: Annotated[int | None, _side("--long-edge", "Enlarge until the longer side has these pixels.")] = None
    short_edge: Annotated[int | None, _side("--short-edge", "Enlarge until the shorter side has these pixels.")] = None
    fit: Annotated[
        str | None, option("--fit", "Enlarge to fit into this box, such as 3840x2160.", SIZE, metavar="WxH")
    ] = None
    megapixels: Annotated[
        float | None, option("--megapixels", "Enlarge to this many million pixels.", SIZE, metavar="N")
    ] = None
    print: Annotated[
        str | None, option("--print", "Enlarge for a print, such as A4 or 60x40cm@300dpi.", SIZE, metavar="SIZE")
    ] = None
    if_larger: Annotated[
        Literal["skip", "copy", "shrink"],
        option("--if-larger", "Skip, copy or shrink images that already have the size.", SIZE),
    ] = "copy"
    budget: Annotated[
        str | None,
        option("--budget", "Spend this share of the original network's GFLOPs (60%) or this amount (50G).", ROUTING),
    ] = None
    out_dir: Annotated[str | None, option("--out-dir", "Write all results to this folder.", MANY, metavar="DIR")] = None
    name: Annotated[
        str | None,
        option("--name", "Name results with {stem}, {name}, {suffix} and {scale}.", MANY, default=DEFAULT_TEMPLATE),
    ] = None
    skip_existing: Annotated[bool, option("--skip-existing", "Keep existing results and skip their images.", MANY)] = (
        False
    )
    fail_fast: Annotated[bool, option("--fail-fast", "Stop at the first image that fails.", MANY)] = False
    shard: Annotated[
        str | None, option("--shard", "Enlarge only part I of N, for N runs on any machines.", MANY, metavar="I/N")
    ] = None
    from_list: Annotated[
        str | None,
        option("--from-list", "Enlarge the images that this file lists, one a line; - is stdin.", MANY, metavar="FILE"),
    ] = None
    ray: Annotated[
        str | None,
        option(
            "--ray",
            "Enlarge on a Ray cluster at HOST:PORT; no value starts one on this machine.",
            MANY,
            metavar="ADDRESS",
        ),
    ] = None
    cpus_per_worker: Annotated[
        int | None,
        option(
            "--cpus-per-worker", "Give each worker of --ray this many cores.", MANY, min=1, metavar="N", default="1"
        ),
    ] = None
    fan_out: Annotated[
        bool, option("--fan-out", "Spread the results over 65,536 folders, by a hash of their paths.", MANY)
    ] = False
    jobs: Annotated[
        int | None,
        option(
            "--jobs",
            "Read up to this many images ahead, and write as many at the same time.",
            MANY,
            min=0,
            max=64,
            metavar="N",
            default="1",
        ),
    ] = None
    preview: Annotated[bool, option("--preview", "Draw a detail before and after in the terminal.", MAPS)] = False
    map: Annotated[
        Path | None, option("--map", "Draw the routing of each pixel to a .png or .npy file.", MAPS, metavar="FILE")
    ] = None
    map_style: Annotated[
        Literal["overlay", "mask", "difficulty", "data"] | None,
        option(
            "--map-style",
            "Draw an overlay, a mask of branches, difficulty (p_heavy in colours) or data (in 16 bits).",
            MAPS,
            metavar="STYLE",
            default="overlay",
        ),
    ] = None
    force_heavy: Annotated[
        Path | None, option("--force-heavy", "Make pixels heavy where this image is bright.", MAPS, metavar="MASK")
    ] = None
    force_light: Annotated[
        Path | None, option("--force-light", "Make pixels light where this image is bright.", MAPS, metavar="MASK")
    ] = None
    help_all: Annotated[
        bool,
        option(
            "--help-all",
            "Show all options: routing (--adm, --budget), maps, tiles, memory.",
            ADVANCED,
            callback=_print_all_options,
            is_eager=True,
        ),
    ] = False

    @property
    def of_one_image(self) -> dict[str, bool]:
        """Whether each option for a map or a mask of a single image is given."""
        files = {"--map": self.map, "--force-heavy": self.force_heavy, "--force-light": self.force_light}
        return {flag: file is not None for flag, file in files.items()}

    @property
    def of_folders(self) -> dict[str, bool]:
        """Whether each option that needs a folder for the results is given."""
        return {"--shard": self.shard is not None, "--fan-out": self.fan_out, "--ray": self.ray is not None}

    def check(self) -> None:
        """Raise UsageError for options that exclude or need each other."""
        options.check_output_mode(self.json, self.quiet)
        check_exclusive({"--preview": self.preview, "--verbose": self.verbose, "--quiet": self.quiet})
        check_exclusive({"--overwrite": self.overwrite, "--skip-existing": self.skip_existing})
        for flag, value in {"--jobs": self.jobs, "--threads": self.threads}.items():
            check_exclusive({"--ray": self.ray is not None, flag: value is not None})
        if self.cpus_per_worker is not None and self.ray is None:
            raise UsageError("--cpus-per-worker needs --ray.", "Add --ray, or use --threads.")
        if self.ray is not None:
            check_address(self.ray)
        for flag, given in self.of_one_image.items():
            check_exclusive({"--frames": self.frames, flag: given})
        if self.map is None and self.map_style is not None:
            raise UsageError("--map-style needs --map.", "Give the file of the map with --map FILE.")

    def choose_target(self, scale_source: object) -> Target | None:
        """Return the requested size of the result, None for a scale. ``scale_source`` is Click's source of the scale,
        such as COMMANDLINE.

        Raises UsageError."""
        sizes = ("width", "height", "long_edge", "short_edge", "fit", "megapixels", "print")
        given = {name: value for name in sizes if (value := getattr(self, name)) is not None}
        check_exclusive(
            {
                "--scale": getattr(scale_source, "name", "") == "COMMANDLINE",
                **{"--" + name.replace("_", "-"): True for name in given},
            }
        )
        for name, value in given.items():
            return make_target(name, value)
        return None

    def make_request(self, target: Target | None) -> "Request":
        """Return the request. Raises UsageError, RefusedOutputError."""
        from pcsr_cli.images.formats import SaveOptions
        from pcsr_cli.jobs.request import Request, request_map

        refine = options.choose_refine(self.refine, self.no_refine, self.scale)
        by_scale = target is not None and self.refine is None and not self.no_refine
        return Request(
            scale=self.scale,
            target=target,
            if_larger=self.if_larger,
            background=self._choose_background(),
            strength=self.strength,
            wrap=self.wrap,
            routing=options.choose_routing(self.threshold, self.k, self.adm, self.budget),
            allowance=None if self.budget is None else parse_allowance(self.budget),
            refine=None if by_scale else refine,
            tile=options.choose_tile(self.tile),
            memory=options.choose_memory(self.memory),
            format=self.format,
            save=SaveOptions(self.quality, self.lossless, self.compression, self.strip),
            allow_huge=self.allow_huge,
            accept_damaged=self.accept_damaged,
            frames=self.frames,
            force_heavy=self.force_heavy,
            force_light=self.force_light,
            map=None if self.map is None else request_map(self.map, self.map_style, self.overwrite),
        )

    def _choose_background(self) -> tuple[int, int, int] | None:
        if self.background is None:
            return None
        from pcsr_cli.images.modes import parse_colour

        return parse_colour(self.background)
