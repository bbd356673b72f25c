"""What ``bench``, ``sweep`` and ``report`` share: options, pair by pair, and how tables become CSV and JSON."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pcsr_cli.cli.console import progress_bar, say
from pcsr_cli.errors import InputError
from pcsr_cli.failures import measuring, outputs
from pcsr_cli.files import put_in_place, written_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcsr_cli.measuring.pairs import Pair, Source
    from pcsr_cli.models import LoadedModel

Measured = TypeVar("Measured")

Scale = Annotated[float, typer.Option("--scale", "-s", help="How many times larger.")]
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
CsvFile = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Also write the rows as CSV.")]


def check_writable(output: Path | None) -> None:
    """Raise an error, before any work, for a file that cannot be written."""
    if output is None:
        return
    if output.is_dir():
        raise outputs.IS_A_FOLDER(output=output)
    with written_whole(output):
        pass


def make_folder(folder: Path) -> None:
    """Make a folder to write into. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise outputs.NO_FOLDER(folder=folder, reason=error.strerror) from error


def write_rows(output: Path, rows: Sequence[Any]) -> None:
    """Write dataclasses of one kind as CSV, whole or not at all; what there is not is empty. Raises OutputError."""
    names = [field.name for field in fields(rows[0])]
    with written_whole(output) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            for row in rows:
                writer.writerow([_cell(getattr(row, name)) for name in names])
        put_in_place(temporary, output)


def each_pair(
    label: str,
    sources: "Sequence[Source]",
    scale: float,
    silent: bool,
    measure: "Callable[[Pair, Callable[[float], None]], Measured]",
    paper: bool = False,
) -> "tuple[list[Measured], int]":
    """Measure pair by pair; a broken one is named and left out, and counted. ``paper`` cuts them as ``load_pair`` does.

    Raises InputError if none is left.
    """
    from pcsr_cli.measuring.pairs import load_pair

    done: list[Measured] = []
    broken: list[InputError] = []
    for source in sources:
        try:
            pair = load_pair(source, scale, paper)
            with progress_bar(f"{label} {source.name}", silent) as report_progress:
                done.append(measure(pair, report_progress))
        except InputError as error:
            broken.append(error)
            if len(sources) > 1:
                say(f"pcsr: left out: {error}")
    if not done:
        raise broken[0] if len(sources) == 1 else measuring.NOTHING_MEASURED(reason=broken[0])
    return done, len(broken)


def plain(row: Any) -> dict[str, object]:
    """A dataclass for JSON, which has no infinity: what is not finite is null."""
    return {key: _finite(value) for key, value in asdict(row).items()}


def provenance(model: "LoadedModel") -> Mapping[str, object]:
    """What measured: versions, weights, device."""
    import torch

    import pcsr_cli
    from pcsr_cli.devices import describe_device

    return {
        "pcsr": pcsr_cli.__version__,
        "torch": torch.__version__,
        "model": asdict(model.identity),
        "device": describe_device(model.network.device),
        "threads": torch.get_num_threads(),
        "precision": str(model.network.dtype).removeprefix("torch."),
    }


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _cell(value: object) -> object:
    if value is None:
        return ""
    return "x".join(map(str, value)) if isinstance(value, tuple) else value
