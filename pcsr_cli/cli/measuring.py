"""What ``bench``, ``sweep`` and ``report`` share: options, what comes before any work, and how it goes pair by pair."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pcsr_cli.cli import options
from pcsr_cli.cli.console import print_message, progress_bar
from pcsr_cli.errors import InputError, OutputError
from pcsr_cli.images.files import reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcsr_cli.engine.device import Precision
    from pcsr_cli.evaluate.dataset import Pair, PairFiles, SkippedImage
    from pcsr_cli.evaluate.originals import LoadedOriginal
    from pcsr_cli.model.registry import LoadedModel

Measured = TypeVar("Measured")

THRESHOLDS = "0:1:0.05"
"""The cuts of a curve, if nobody says otherwise."""

Pictures = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[IMAGE|FOLDER...]", help="HR pictures, folders of them. [default: the one that ships]"),
]
Scale = Annotated[
    float, typer.Option("--scale", "-s", help="How many times larger: a whole number, or any with --no-reference.")
]
OriginalPath = Annotated[
    Path | None, typer.Option("--original", help="Weights of the original network, .pth or .safetensors.")
]
LrPath = Annotated[
    Path | None, typer.Option("--lr", help="The LR pictures: a folder of the same names, or one for one picture.")
]
NoReference = Annotated[
    bool, typer.Option("--no-reference", help="The pictures are LR: compare with all heavy instead of with HR.")
]
Luma = Annotated[bool, typer.Option("--luma", help="PSNR of luma instead of RGB (SSIM is of luma always).")]
CsvFile = Annotated[
    Path | None,
    typer.Option("--csv", metavar="FILE", help="Also write the rows as CSV.", rich_help_panel=options.RESULTS),
]


def find_sources(
    pictures: "Sequence[Path] | None", scale: float, lr: Path | None, no_reference: bool
) -> "tuple[PairFiles, ...]":
    """What is to be measured, by default the picture that ships. Raises as ``check_scale`` and ``find_pairs``."""
    from pcsr_cli.api import check_scale
    from pcsr_cli.evaluate.dataset import demo_image, find_pairs

    check_scale(scale)
    return find_pairs(pictures or [demo_image()], scale, lr, no_reference)


def check_results(results: "Iterable[Path | None]", sources: "Sequence[PairFiles]", overwrite: bool) -> None:
    """Refuse files that cannot or must not be written: pictures to measure never. Raises as ``check_outputs``."""
    from pcsr_cli.images.files import check_outputs

    read = [file for source in sources for file in (source.hr, source.lr) if file is not None]
    check_outputs([result for result in results if result is not None], read, overwrite)


def load(
    model: str,
    original: Path | None,
    device: str,
    precision: "Precision",
    registry: Path | None,
    scale: float,
    quiet: bool,
) -> "tuple[LoadedModel, LoadedOriginal | None]":
    """The model, and the original network where its weights are given. Raises as loading does."""
    from pcsr_cli.engine.device import resolve_device, resolve_precision
    from pcsr_cli.evaluate.originals import load_original

    where = resolve_device(device)
    resolve_precision(precision, where)
    given = None if original is None else load_original(original, where)
    return options.load_model(model, device, precision, registry, scale, quiet), given


def make_folder(folder: Path) -> None:
    """Make a folder to write into. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {reason(error)}.", "Choose another.") from error


def each_pair(
    label: str,
    sources: "Sequence[PairFiles]",
    scale: float,
    silent: bool,
    measure: "Callable[[Pair, Callable[[float], None]], Measured]",
    paper: bool = False,
) -> "tuple[list[Measured], tuple[SkippedImage, ...]]":
    """Measure pair by pair; a broken one is named and skipped. ``paper`` cuts them as ``load_pair`` does.

    Raises InputError if none is left.
    """
    from pcsr_cli.evaluate.dataset import SkippedImage, load_pair

    done: list[Measured] = []
    skipped: list[SkippedImage] = []
    for source in sources:
        try:
            pair = load_pair(source, scale, paper)
            with progress_bar(f"{label} {source.name}", silent) as report_progress:
                done.append(measure(pair, report_progress))
        except InputError as error:
            if len(sources) == 1:
                raise
            skipped.append(SkippedImage(source.name, str(error)))
            print_message(f"pcsr: skipped: {error}")
    if not done:
        raise InputError("No picture could be measured.", skipped[0].reason)
    return done, tuple(skipped)
