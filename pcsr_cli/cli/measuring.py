"""Options and steps that ``bench``, ``sweep``, ``report`` and ``verify`` share."""

import csv
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pcsr_cli.cli import options
from pcsr_cli.cli.console import print_message, printable, progress_bar
from pcsr_cli.cli.options import OUTPUT, option
from pcsr_cli.errors import InputError
from pcsr_cli.images.files import atomic_write

if TYPE_CHECKING:
    from pcsr_cli.engine.device import Precision
    from pcsr_cli.evaluate.bench import BenchOptions, BenchResult
    from pcsr_cli.evaluate.dataset import Pair, PairFiles, SkippedImage
    from pcsr_cli.evaluate.html.page import PageImage
    from pcsr_cli.evaluate.methods import LoadedOriginal
    from pcsr_cli.evaluate.sweep import Curve, SweepOptions
    from pcsr_cli.model.registry import LoadedModel

Measured = TypeVar("Measured")

THRESHOLDS = "0:1:0.05"
"""The default cuts of a curve."""

Images = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="IMAGE|FOLDER",
        help="Measure these HR images and folders of HR images.",
        show_default="the packaged photograph",
    ),
]
Scale = Annotated[
    float, option("--scale", "Enlarge by this factor: a whole number, or any with --no-reference.", short="-s")
]
OriginalPath = Annotated[Path | None, option("--original", "Measure the original network with these weights as well.")]
LrPath = Annotated[Path | None, option("--lr", "Take the LR images from here: a folder, or a file for a single image.")]
NoReference = Annotated[
    bool, option("--no-reference", "Take the images as LR and compare with all heavy instead of HR.")
]
Degrade = Annotated[
    str | None,
    option("--degrade", "Degrade the LR images first: jpeg=75 (or 75,444), webp=75, blur=0.6, noise=3, joined by +."),
]
Luma = Annotated[bool, option("--luma", "Compute PSNR of luma instead of RGB; SSIM is always of luma.")]
CsvFile = Annotated[Path | None, option("--csv", "Write the rows as CSV.", OUTPUT, metavar="FILE")]
ReportFile = Annotated[Path | None, option("--report", "Write an HTML page with the results.", OUTPUT, metavar="FILE")]


def find_sources(
    images: Sequence[Path] | None, scale: float, lr: Path | None, no_reference: bool, degrade: str | None = None
) -> "tuple[PairFiles, ...]":
    """Find the images to measure. Raises the errors of ``check_scale``, ``find_pairs`` and ``parse_degradation``."""
    from pcsr_cli.api import check_scale
    from pcsr_cli.evaluate.dataset import demo_image, find_pairs
    from pcsr_cli.images.degrade import parse_degradation

    check_scale(scale)
    degradation = None if degrade is None else parse_degradation(degrade)
    return find_pairs(images or [demo_image()], scale, lr, no_reference, degradation)


def check_results(results: Iterable[Path | None], sources: "Sequence[PairFiles]", overwrite: bool) -> None:
    """Check the paths of the results; an input is never overwritten. Raises the errors of ``check_outputs``."""
    from pcsr_cli.images.files import check_outputs

    inputs = [file for source in sources for file in (source.hr, source.lr) if file is not None]
    check_outputs([result for result in results if result is not None], inputs, overwrite)


def load(
    model: str,
    original: Path | None,
    device: str,
    precision: "Precision",
    registry: Path | None,
    scale: float,
    quiet: bool,
) -> "tuple[LoadedModel, LoadedOriginal | None]":
    """Load the model, and the original network if its weights are given. Raises the errors of loading."""
    from pcsr_cli.engine.device import resolve_device, resolve_precision
    from pcsr_cli.evaluate.methods import load_original

    where = resolve_device(device)
    resolve_precision(precision, where)
    network = None if original is None else load_original(original, where)
    return options.load_model(model, device, precision, registry, scale, quiet), network


def each_pair(
    label: str,
    sources: "Sequence[PairFiles]",
    scale: float,
    quiet: bool,
    measure: "Callable[[Pair, Callable[[float], None]], Measured]",
    paper: bool = False,
) -> "tuple[list[Measured], tuple[SkippedImage, ...]]":
    """Measure every pair of HR and LR images; skip the ones that fail. ``paper`` crops the images as ``load_pair``
    does.

    Raises InputError if all fail.
    """
    from pcsr_cli.evaluate.dataset import SkippedImage, load_pair

    done: list[Measured] = []
    skipped: list[SkippedImage] = []
    for source in sources:
        try:
            pair = load_pair(source, scale, paper)
            with progress_bar(f"{label} {source.name}", quiet) as progress:
                done.append(measure(pair, progress))
        except InputError as error:
            if len(sources) == 1:
                raise
            skipped.append(SkippedImage(source.name, str(error)))
            print_message(f"pcsr: skipped: {error}")
    if not done:
        raise InputError("All images failed.", skipped[0].reason)
    return done, tuple(skipped)


def write_rows(output: Path, rows: Sequence[Any], replace: bool) -> None:
    """Write dataclasses of one type as CSV; None becomes an empty cell. Raises OutputError, RefusedOutputError."""
    names = [field.name for field in fields(rows[0])]
    with atomic_write(output, replace) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows:
            writer.writerow([_cell(getattr(row, name)) for name in names])


def _cell(value: object) -> object:
    if value is None:
        return ""
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


def provenance(model: "LoadedModel") -> Mapping[str, object]:
    """Return the versions, the weights and the device of a measurement for its JSON document."""
    import torch

    import pcsr_cli
    from pcsr_cli.engine.device import describe_device

    return {
        "pcsr": pcsr_cli.__version__,
        "torch": torch.__version__,
        "model": asdict(model.identity),
        "device": describe_device(model.network.device),
        "threads": torch.get_num_threads(),
        "precision": model.network.precision,
    }


def skipped_entries(skipped: "Sequence[SkippedImage]") -> list[dict[str, str]]:
    """Return the images that failed, for a JSON document."""
    return [{key: printable(value) for key, value in asdict(one).items()} for one in skipped]


def settings_document(
    model: "LoadedModel", settings: "SweepOptions | BenchOptions", no_reference: bool, degrade: str | None = None
) -> dict[str, object]:
    """Return the settings of a measurement for a JSON document."""
    return {
        **provenance(model),
        "scale": settings.scale,
        "refine": settings.refine,
        "psnr_of": "luma" if settings.luma else "RGB",
        "psnr_against": "all heavy" if no_reference else "HR",
        "degrade": degrade,
    }


def curves_document(
    model: "LoadedModel",
    settings: "SweepOptions",
    curves: "Sequence[Curve]",
    skipped: "Sequence[SkippedImage]",
    no_reference: bool,
    degrade: str | None = None,
) -> dict[str, object]:
    """Return the curves of a sweep and their mean as a JSON document."""
    from pcsr_cli.evaluate.sweep import KNEE_RULE, mean_curve

    return {
        **settings_document(model, settings, no_reference, degrade),
        "grid": {"of": settings.grid.kind, "values": list(settings.grid.values)},
        "knee_rule": KNEE_RULE,
        "curves": [_curve_document(curve) for curve in curves],
        "mean": _curve_document(mean_curve(curves) if len(curves) > 1 else curves[0]),
        "skipped": skipped_entries(skipped),
    }


def _curve_document(curve: "Curve") -> dict[str, object]:
    marks = {"light": curve.light, "heavy": curve.heavy, "adm": curve.adm, "knee": curve.knee}
    named = {name: None if point is None else asdict(point) for name, point in marks.items()}
    original = None if curve.original is None else asdict(curve.original)
    points = [asdict(point) for point in curve.points]
    return {"image": printable(curve.image), "points": points, **named, "original": original}


def write_page(
    output: Path,
    model: "LoadedModel",
    sources: "Sequence[PairFiles]",
    settings: "SweepOptions",
    no_reference: bool,
    replace: bool,
    quiet: bool,
    result: "BenchResult | None" = None,
    paper: bool = False,
) -> "tuple[list[Curve], tuple[SkippedImage, ...]]":
    """Measure every image, write the HTML page, and return the curves and the images that failed.

    With the ``result`` of a bench, the page has its tables and only the images that it measured: the errors of the
    others were printed before. Raises InputError if all fail, OutputError, RefusedOutputError."""
    from pcsr_cli.evaluate.html import page

    def measure(pair: "Pair", progress: Callable[[float], None]) -> "PageImage":
        return page.build_image(model, pair, settings, progress)

    names = {source.name for source in sources} if result is None else {row.image for row in result.rows}
    chosen = [source for source in sources if source.name in names]
    images, skipped = each_pair("report", chosen, settings.scale, quiet, measure, paper)
    info = page.PageInfo(shlex.join(("pcsr", *sys.argv[1:])), model, settings, no_reference)
    rows, mean, before = ((), (), ()) if result is None else (result.rows, result.mean, result.skipped)
    page.write_page(output, page.Page(info, tuple(images), (*before, *skipped), rows, mean), replace)
    return [image.curve for image in images], skipped
