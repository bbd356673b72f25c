"""Options that commands share, in one place, and how they become the library's objects."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pcsr_cli.cli.console import print_message, require_stdout
from pcsr_cli.errors import UsageError

if TYPE_CHECKING:
    from pcsr_cli.engine.device import Precision
    from pcsr_cli.engine.routing import Routing
    from pcsr_cli.model.registry import LoadedModel, Registry

SMALLEST_TILE = 8
"""LR pixels; smaller tiles are mostly halo, and of a large picture there would be millions."""

MODEL = "auto, a registry name, user/repo[@revision], a folder, a .safetensors or a .pth."

WHICH = "Model"
RESULTS = "Results"
ROUTING = "How much is spent"
MACHINE = "Where and how it is computed"


def complete_model(incomplete: str) -> list[tuple[str, str]]:
    """The models whose names begin so, for a shell to offer, with a word on each."""
    from pcsr_cli.errors import PcsrError
    from pcsr_cli.model.registry import own_registry_path

    try:
        entries = tuple(load_registry(own_registry_path()).entries.values())
    except PcsrError:  # nothing to be told while somebody types
        entries = ()
    offered = [("auto", "the best there is"), *((entry.name, str(entry.scales)) for entry in entries)]
    return [(name, said) for name, said in offered if name.startswith(incomplete)]


Model = Annotated[str, typer.Option("--model", "-m", help=MODEL, autocompletion=complete_model, rich_help_panel=WHICH)]
RegistryFile = Annotated[
    Path | None,
    typer.Option("--registry", help="A weights.toml of your own, added to the packaged one.", rich_help_panel=WHICH),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold", help="Heavy where p_heavy is above this, 0 to 1. [default: 0.5]", rich_help_panel=ROUTING
    ),
]
Tradeoff = Annotated[
    float | None,
    typer.Option("--k", help="Trade quality for cost: larger is cheaper, -1 to 2.", rich_help_panel=ROUTING),
]
Adaptive = Annotated[
    bool, typer.Option("--adm", help="Let ADM decide from the whole picture.", rich_help_panel=ROUTING)
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget", help="Spend just so much: 60% of the original's GFLOPs, 50G, or 8s.", rich_help_panel=ROUTING
    ),
]
Refine = Annotated[
    int | None,
    typer.Option(
        "--refine",
        help="Smooth a light pixel with at least this many heavy neighbours (#h), 0 to 9. [default: 1 from x3, else 9]",
        rich_help_panel=ROUTING,
    ),
]
NoRefine = Annotated[bool, typer.Option("--no-refine", help="Leave light pixels as they are.", rich_help_panel=ROUTING)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=MACHINE)]
Tile = Annotated[
    str,
    typer.Option("--tile", help="Tile side in LR pixels, or auto. The result is the same.", rich_help_panel=MACHINE),
]
PrecisionName = Annotated[
    Literal["auto", "fp32", "fp16", "bf16"],
    typer.Option("--precision", help="auto is fp32: the published numbers.", rich_help_panel=MACHINE),
]
Memory = Annotated[
    str,
    typer.Option(
        "--memory", help="What ADM may keep of its first pass: auto, or such as 512M or 2G.", rich_help_panel=MACHINE
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results that exist already.", rich_help_panel=RESULTS)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def choose_routing(threshold: float | None, k: float | None, adm: bool, budget: str | None = None) -> "Routing | None":
    """The routing asked for, None if none was, or a budget. Raises UsageError for more than one."""
    from pcsr_cli.engine import routing

    given = {"--threshold": threshold, "--k": k, "--adm": adm or None, "--budget": budget}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) > 1:
        options = " and ".join(chosen)
        raise UsageError(f"{options} exclude each other.", "Give one of them.")
    if adm:
        return routing.Adaptive()
    if k is not None:
        return routing.Tradeoff(k)
    return None if threshold is None else routing.Threshold(threshold)


def check_arguments(arguments: Sequence[str]) -> None:
    """Raise UsageError for an empty argument, such as a variable without a value: it would name the current folder."""
    for before, argument in pairwise(["", *arguments]):
        if not argument:
            what = before if before.startswith("--") else "An argument"
            raise UsageError(f"{what} is empty.", "Say what is meant; the current folder is a dot.")
        if re.fullmatch(r"--[a-z-]+=", argument):
            what = argument.removesuffix("=")
            raise UsageError(f"{what} is empty.", "Say what is meant; the current folder is a dot.")


def choose_refine(refine: int | None, no_refine: bool, scale: float) -> int:
    """The paper's #h, the usual one of the scale if none is asked for. Raises UsageError."""
    from pcsr_cli.engine.refine import NEVER, usual_refine

    check_apart({"--refine": refine is not None, "--no-refine": no_refine})
    if refine is None:
        return NEVER if no_refine else usual_refine(scale)
    if not 0 <= refine <= NEVER:
        raise UsageError(
            f"--refine {refine} is out of range.", f"Choose 0 (smooth all light pixels) to {NEVER} (none)."
        )
    return refine


def choose_tile(tile: str) -> int | None:
    """The tile side, None for auto. Raises UsageError."""
    if tile == "auto":
        return None
    if not tile.isdecimal() or len(tile) > 9 or int(tile) < SMALLEST_TILE:
        raise UsageError(
            f"--tile {tile[:20]} is no size.", f"Give auto or a number of LR pixels from {SMALLEST_TILE}, such as 256."
        )
    return int(tile)


def choose_memory(memory: str) -> int | None:
    """A budget in bytes, None for auto. Raises UsageError."""
    if memory == "auto":
        return None
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([KMGT]?)", memory.upper())
    if found is None:
        raise UsageError(f"--memory {memory[:20]} is no amount.", "Give auto, or a number with M or G, such as 512M.")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2] or " "))


def load_registry(own: Path | None) -> "Registry":
    """The packaged registry with the user's own file, the one given or the one in its usual place."""
    from pcsr_cli.model import registry

    return registry.load_registry(own or registry.own_registry_path())


def check_talk(json: bool, quiet: bool) -> None:
    """Raise UsageError where a command is to say everything and nothing, or a document nowhere."""
    check_apart({"--json": json, "--quiet": quiet})
    if json:
        require_stdout()


def check_apart(given: Mapping[str, bool]) -> None:
    """Raise UsageError where more than one of some options is given."""
    chosen = [name for name, value in given.items() if value]
    if len(chosen) > 1:
        options = " and ".join(chosen)
        raise UsageError(f"{options} exclude each other.", "Give one of them.")


def load_model(
    model: str, device: str, precision: "Precision", registry: Path | None, scale: float, quiet: bool
) -> "LoadedModel":
    """The model asked for; what the user should know of how it was chosen is said. Raises as ``models.load_model``."""
    from pcsr_cli import api

    loaded = api.load_model(model, device, precision, load_registry(registry), scale=scale, show_progress=not quiet)
    if not quiet:
        for note in loaded.notes:
            print_message(f"Note: {note}.")
    return loaded
