"""Options that several commands share, and the conversion of their values into objects of the library."""

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pcsr_cli.cli.console import print_message, require_stdout
from pcsr_cli.engine import rules
from pcsr_cli.errors import HubError, UsageError

if TYPE_CHECKING:
    from pcsr_cli.engine.device import Precision
    from pcsr_cli.jobs.choice import ModelChoice
    from pcsr_cli.model.registry import LoadedModel, Registry

MIN_TILE = 8
"""The minimum side of a tile in LR pixels. Smaller tiles consist mostly of halo, and a large image would have millions
of tiles."""

MODEL = "Model"
OUTPUT = "Output"
ROUTING = "Routing"
DEVICE = "Device and memory"
"""Panels of the help."""


def examples(*commands: str) -> str:
    """Return a help epilog with examples, each a command line with a comment."""
    return "\n\n".join(["[bold]Examples[/bold]", *commands])


def option(
    name: str, help: str, panel: str | None = None, *, short: str = "", default: str | bool = True, **settings: Any
) -> Any:
    """Declare an option in a panel of the help. ``default`` describes a default value that depends on other options."""
    names = (name, short) if short else (name,)
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=default, **settings)


SYNONYMS = {
    "outdir": "out-dir",
    "output-dir": "out-dir",
    "force": "overwrite",
    "yes": "overwrite",
    "outscale": "scale",
    "factor": "scale",
    "zoom": "scale",
    "ext": "format",
    "output-format": "format",
    "longest-side": "long-edge",
    "silent": "quiet",
    "tile-size": "tile",
    "num-threads": "threads",
}
"""Names that other programs give to our options."""

ADVICE = {
    "gpu": "Use --device cuda.",
    "cuda": "Use --device cuda.",
    "cpu": "Use --device cpu.",
    "gpu-id": "Use --device cuda:0.",
    "fp16": "Use --precision fp16.",
    "half": "Use --precision fp16.",
    "fp32": "Use --precision fp32.",
    "size": "Use --scale 2 for twice the width and height, or --fit 3840x2160.",
    "resize": "Use --scale 2 for twice the width and height, or --fit 3840x2160.",
    "resolution": "Use --fit 3840x2160.",
    "4k": "Use --fit 3840x2160.",
    "8k": "Use --fit 7680x4320.",
    "dpi": "Use --print 60x40cm@300dpi.",
    "suffix": "Use --name '{stem}-large{suffix}'.",
    "in-place": "pcsr keeps the image and writes a new file.",
    "keep-metadata": "pcsr keeps the metadata unless --strip is given.",
    "no-overwrite": "pcsr replaces results only with --overwrite.",
    "denoise": "pcsr removes no noise. Use a program for noise first.",
    "noise": "pcsr removes no noise. Use a program for noise first.",
    "deblur": "pcsr removes no blur.",
    "sharpen": "pcsr has no such filter. Sharpen the result with another program.",
    "face-enhance": "pcsr invents no faces.",
    "dry-run": "Use `pcsr plan`.",
    "enlarge": "Use `pcsr upscale`.",
    "convert": "Use `pcsr upscale`.",
    "list": "Use `pcsr models`.",
    "list-models": "Use `pcsr models`.",
    "download": "Use `pcsr models fetch`.",
    "version": "Use `pcsr --version`.",
    "help": "Use `pcsr --help`.",
}
"""The next step for an option or a command that pcsr does not have."""


def usual_name(name: str) -> str:
    """Return pcsr's name for an option or command. ``name`` may have underscores, or may be a name from another
    program."""
    name = name.replace("_", "-")
    return SYNONYMS.get(name, name)


def advice(arguments: Sequence[str]) -> str:
    """Return the next step for an unknown command or option, or an empty text. The values of options are not
    searched."""
    for argument in (*arguments[:1], *(one for one in arguments if one.startswith("-"))):
        if (found := ADVICE.get(usual_name(argument.lstrip("-").partition("=")[0]))) is not None:
            return found
    return ""


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the dataclass of options among the parameters of a command by its fields, so that Typer adds each
    field."""
    own = dict(inspect.signature(command).parameters)
    name = next(name for name, parameter in own.items() if is_dataclass(parameter.annotation))
    group = own.pop(name).annotation
    shared = inspect.signature(group).parameters

    def run(**values: object) -> None:
        command(**{name: group(**{field: values.pop(field) for field in shared})}, **values)

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own.values(), *shared.values())
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = command.__doc__
    return run


def complete_model(incomplete: str) -> list[tuple[str, str]]:
    """Return the models whose names start with ``incomplete``, each with its scales, for shell completion."""
    from pcsr_cli.errors import PcsrError
    from pcsr_cli.model.registry import own_registry_path

    try:
        entries = tuple(load_registry(own_registry_path()).entries.values())
    except PcsrError:  # an error message would disturb the command line being typed
        entries = ()
    models = [("auto", "the best available model"), *((entry.name, str(entry.scales)) for entry in entries)]
    return [(name, text) for name, text in models if name.startswith(incomplete)]


Model = Annotated[
    str,
    option(
        "--model",
        "Use auto, a name, user/repo@revision, a folder or a file.",
        MODEL,
        short="-m",
        autocompletion=complete_model,
        envvar="PCSR_MODEL",
    ),
]
SourceName = Annotated[
    str, option("--source", "Choose the model for clean, jpeg or jpeg=75 sources; auto examines the file.", MODEL)
]
RegistryFile = Annotated[
    Path | None, option("--registry", "Add the models of this weights.toml to the packaged ones.", MODEL)
]


def parse_scale(text: object) -> float:
    """Return the number in ``2``, ``2x`` or ``x2``. Raises UsageError, ScaleError."""
    from pcsr_cli.model.spec import check_scale

    try:
        scale = float(re.sub(r"^x|x$", "", str(text).strip().lower()))
    except ValueError as error:
        raise UsageError(f"Invalid --scale {str(text)[:20]}.", "Use a number such as 2, 2x or 2.5.") from error
    check_scale(scale)
    return scale


def scale_option(help: str) -> Any:
    """Declare the option for the scale."""
    return option("--scale", help, short="-s", parser=parse_scale, metavar="NUMBER")


Scale = Annotated[float, scale_option("Enlarge by this factor, any real number from 1.")]
Threshold = Annotated[
    float | None, option("--threshold", "Make pixels heavy if p_heavy is above this, 0 to 1.", ROUTING, default="0.5")
]
Tradeoff = Annotated[float | None, option("--k", "Trade quality for compute, -1 to 2; larger is cheaper.", ROUTING)]
Adaptive = Annotated[bool, option("--adm", "Let ADM choose the routing from the whole image.", ROUTING)]
Refine = Annotated[
    int | None,
    option(
        "--refine",
        "Smooth light pixels with at least this many heavy neighbours, 0 to 9.",
        ROUTING,
        default="1 at x3 and above, else 9",
    ),
]
NoRefine = Annotated[bool, option("--no-refine", "Do not smooth light pixels.", ROUTING)]
Device = Annotated[str, option("--device", "Compute on auto, cpu, cuda, cuda:1 or mps.", DEVICE)]


def set_threads(threads: int | None) -> int | None:
    """Set the number of threads before torch is imported, and return it."""
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    return threads


Threads = Annotated[
    int | None,
    option(
        "--threads",
        "Use this many threads of the CPU.",
        DEVICE,
        min=1,
        metavar="N",
        default="all",
        callback=set_threads,
    ),
]
Tile = Annotated[str, option("--tile", "Set the tile side in LR pixels, or auto; the result is the same.", DEVICE)]
PrecisionName = Annotated[
    Literal["auto", "fp32", "fp16", "bf16"], option("--precision", "Compute in this precision; auto is fp32.", DEVICE)
]
Memory = Annotated[
    str, option("--memory", "Limit the memory for features of ADM and budgets, such as 2G, or auto.", DEVICE)
]
Overwrite = Annotated[bool, option("--overwrite", "Replace existing results.", short="-y")]
FormatName = Annotated[
    str | None, option("--format", "Write this format, such as png.", OUTPUT, short="-f", default="by the suffix")
]
AllowHuge = Annotated[bool, option("--allow-huge", "Read images with more pixels than the safe limit.")]
Recursive = Annotated[bool, option("--recursive", "Include subfolders and keep their structure.", short="-r")]
Json = Annotated[bool, option("--json", "Print one JSON document on stdout.")]
Quiet = Annotated[bool, option("--quiet", "Print errors only.", short="-q")]


@dataclass(frozen=True)
class Engine:
    """The options of all commands that run a model on whole images."""

    model: Model = "auto"
    refine: Refine = None
    no_refine: NoRefine = False
    device: Device = "auto"
    threads: Threads = None
    tile: Tile = "auto"
    precision: PrecisionName = "auto"
    registry: RegistryFile = None
    json: Json = False

    def check_engine(self, scale: float) -> None:
        """Check the options that need neither the model nor the device.

        Raises UsageError, DeviceError, UnknownModelError, RegistryError."""
        rules.check_device_name(self.device)
        choose_tile(self.tile)
        choose_refine(self.refine, self.no_refine, scale)
        check_models([self.model], self.registry)

    def load_model(self, scale: float, quiet: bool, lossy: bool = False) -> "LoadedModel":
        """Load the model. Raises the errors of ``api.load_model``."""
        return load_model(self.model, self.device, self.precision, self.registry, scale, quiet, lossy)


@dataclass(frozen=True)
class Common(Engine):
    """The options that ``upscale`` and ``plan`` share."""

    scale: Scale = 4.0
    source_kind: SourceName = "auto"
    threshold: Threshold = None
    k: Tradeoff = None
    adm: Adaptive = False
    memory: Memory = "auto"
    format: FormatName = None
    allow_huge: AllowHuge = False
    recursive: Recursive = False

    def check_engine(self, scale: float) -> None:
        """Check the options that need no model and no device. Raises the errors of ``Engine.check_engine``."""
        super().check_engine(scale)
        choose_routing(self.threshold, self.k, self.adm)
        choose_memory(self.memory)

    def choose_models(self, quiet: bool) -> "ModelChoice":
        """Return the models to choose from, which are loaded later. Raises UsageError, RegistryError."""
        from pcsr_cli.images.source import parse_source
        from pcsr_cli.jobs.choice import ModelChoice

        kind = parse_source(self.source_kind)
        if kind is not None and self.model != "auto":
            raise UsageError(f"--source has no effect on --model {self.model}.", "Remove one of these options.")
        known = load_registry(self.registry)
        has_lossy = self.model == "auto" and known.has_lossy(self.scale)
        if kind is not None and kind.lossy and not has_lossy:
            raise UsageError(f"No model for lossy sources is registered at x{self.scale:g}.", "Remove --source.")

        def load(lossy: bool) -> "LoadedModel":
            own = (name for name in choice.kept if name in known.entries and known.entries[name].lossy == lossy)
            if self.model != "auto" or (name := next(own, None)) is None:
                return self.load_model(self.scale, quiet, lossy)
            try:
                model = replace(self, model=name).load_model(self.scale, quiet)
            except HubError as error:
                step = f"The folder has results of {name}. Use another folder, or choose a model with --model."
                raise HubError(error.sentence, step) from error
            if not quiet and [name] != [entry.name for entry in known.trained(self.scale, lossy)[:1]]:
                images = ("lossy images" if lossy else "images that are not lossy") if has_lossy else "images"
                print_message(f"Note: the folder has results of {name}, so all {images} get it. See --model.")
            return model

        choice = ModelChoice(load, has_lossy, kind)
        return choice


def choose_routing(
    threshold: float | None, k: float | None, adm: bool, budget: str | None = None
) -> rules.Routing | None:
    """Return the requested routing, or None if no routing or a budget is requested.

    Raises UsageError if more than one of the options is given."""
    check_exclusive(
        {"--threshold": threshold is not None, "--k": k is not None, "--adm": adm, "--budget": budget is not None}
    )
    if adm:
        return rules.Adaptive()
    if k is not None:
        return rules.Tradeoff(k)
    return None if threshold is None else rules.Threshold(threshold)


def choose_refine(refine: int | None, no_refine: bool, scale: float) -> int:
    """Return the requested #h of the paper, or the default for the scale. Raises UsageError."""
    check_exclusive({"--refine": refine is not None, "--no-refine": no_refine})
    if refine is None:
        return rules.NEVER if no_refine else rules.usual_refine(scale)
    if not 0 <= refine <= rules.NEVER:
        raise UsageError(
            f"--refine {refine} is out of range.", f"Use 0 (smooth all light pixels) to {rules.NEVER} (none)."
        )
    return refine


def choose_tile(tile: str) -> int | None:
    """Return the tile side in LR pixels, or None for auto. Raises UsageError."""
    if tile == "auto":
        return None
    if not tile.isdecimal() or len(tile) > 9 or int(tile) < MIN_TILE:
        raise UsageError(
            f"Invalid --tile {tile[:20]}.", f"Use auto or a number of LR pixels from {MIN_TILE}, such as 256."
        )
    return int(tile)


def choose_memory(memory: str) -> int | None:
    """Return the memory limit in bytes, or None for auto. Raises UsageError."""
    if memory == "auto":
        return None
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([KMGT]?)", memory.upper())
    if match is None:
        raise UsageError(f"Invalid --memory {memory[:20]}.", "Use auto, or a number with M or G, such as 512M.")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2] or " "))


def check_no_empty_argument(arguments: Sequence[str]) -> None:
    """Raise UsageError for an empty argument, such as an unset shell variable, because an empty path means the current
    folder."""
    for before, argument in pairwise(["", *arguments]):
        if not argument or re.fullmatch(r"--[a-z-]+=", argument):
            option = argument.removesuffix("=") or (before if before.startswith("--") else "")
            raise UsageError(f"{option or 'An argument'} is empty.", "Give a value; the current folder is a dot (.).")


def check_output_mode(json: bool, quiet: bool) -> None:
    """Raise UsageError if both --json and --quiet are given, or if stdout is closed with --json."""
    check_exclusive({"--json": json, "--quiet": quiet})
    if json:
        require_stdout()


def check_exclusive(given: Mapping[str, bool]) -> None:
    """Raise UsageError if more than one of the options is given."""
    chosen = [name for name, value in given.items() if value]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} exclude each other.", "Use one of these options.")


def load_registry(own: Path | None) -> "Registry":
    """Return the packaged registry with the user's file: ``own``, or the file in the default place."""
    from pcsr_cli.model import registry

    return registry.load_registry(own or registry.own_registry_path())


def check_models(references: Sequence[str], registry: Path | None) -> None:
    """Check the names of models before torch is imported. Raises UnknownModelError, RegistryError."""
    from pcsr_cli.model.registry import check_reference

    known = load_registry(registry)
    for reference in references:
        check_reference(reference, known)


def load_model(
    model: str,
    device: str,
    precision: "Precision",
    registry: Path | None,
    scale: float,
    quiet: bool,
    lossy: bool = False,
) -> "LoadedModel":
    """Load a model and print the notes on how it was chosen. Raises the errors of ``api.load_model``."""
    from pcsr_cli.model.registry import check_reference

    known = load_registry(registry)
    check_reference(model, known)
    from pcsr_cli import api

    notify = None if quiet else print_message
    loaded = api.load_model(model, device, precision, known, scale=scale, notify=notify, lossy=lossy)
    if not quiet:
        for note in loaded.notes:
            print_message(f"Note: {note}.")
    return loaded
