"""``pcsr bench``: compare methods in quality, compute and time over folders of images."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pcsr_cli.cli import measuring, options
from pcsr_cli.cli.console import figures_table, print_document, print_message, printable, progress_bar, stdout_console
from pcsr_cli.cli.options import OUTPUT, ROUTING, option
from pcsr_cli.errors import OutputError
from pcsr_cli.images.files import reason

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from pcsr_cli.evaluate.bench import BenchOptions, BenchResult, Measurement, Row
    from pcsr_cli.evaluate.dataset import PairFiles, SkippedImage
    from pcsr_cli.evaluate.methods import Method
    from pcsr_cli.model.registry import LoadedModel

METHODS = "threshold,adm,heavy,light,bicubic"

EXAMPLES = options.examples(
    "pcsr bench folder  # five methods on reduced images",
    "pcsr bench folder --methods threshold,k=1,bicubic --csv rows.csv",
    "pcsr bench folder --degrade jpeg=75  # LR images saved as JPEG",
)

NARROW = 100
"""Terminal columns below which the table is compact."""

Folders = Annotated[
    list[Path],
    typer.Argument(metavar="FOLDER", help="Measure folders of HR images, or folders with HR and LR_xN in them."),
]
Methods = Annotated[
    str,
    option("--methods", "Compare these: threshold=0.3, k=1, adm, heavy, light, patch=64, bicubic, lanczos, original."),
]
Protocol = Annotated[
    Literal["whole", "paper"],
    option("--protocol", "Measure whole images, or crop them to the patch grid of the paper's tables."),
]
Budget = Annotated[
    str | None,
    option("--budget", "Find one cut with which all images spend 60% of the original's GFLOPs, or 50G.", ROUTING),
]
Save = Annotated[Path | None, option("--save", "Keep the enlarged images as PNG files here.", OUTPUT, metavar="DIR")]


def command(
    folders: Folders,
    scale: measuring.Scale = 4.0,
    lr: measuring.LrPath = None,
    no_reference: measuring.NoReference = False,
    degrade: measuring.Degrade = None,
    methods: Methods = METHODS,
    original: measuring.OriginalPath = None,
    budget: Budget = None,
    luma: measuring.Luma = False,
    protocol: Protocol = "whole",
    model: options.Model = "auto",
    refine: options.Refine = None,
    no_refine: options.NoRefine = False,
    device: options.Device = "auto",
    tile: options.Tile = "auto",
    precision: options.PrecisionName = "auto",
    registry: options.RegistryFile = None,
    save: Save = None,
    report: measuring.ReportFile = None,
    csv: measuring.CsvFile = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare methods in quality, compute and time over folders of images."""
    options.check_output_mode(json, quiet)
    from pcsr_cli.engine.routing import parse_allowance
    from pcsr_cli.evaluate import bench, sweep
    from pcsr_cli.evaluate.html.page import check_page

    chosen = _choose_methods(methods, original is not None, budget is not None)
    allowance = None if budget is None else parse_allowance(budget)
    grid = sweep.parse_grid("threshold", measuring.THRESHOLDS)
    minimum = options.choose_refine(refine, no_refine, scale)
    side = options.choose_tile(tile)
    if report is not None:
        check_page(report, grid)
    sources = measuring.find_sources(folders, scale, lr, no_reference, degrade)
    saved = () if save is None else _saved_files(save, sources, chosen)
    measuring.check_results((report, csv, *saved), sources, overwrite)
    loaded, network = measuring.load(model, original, device, precision, registry, scale, quiet)
    settings = bench.BenchOptions(chosen, scale, minimum, side, luma, protocol == "paper", network, allowance)
    bench.check(loaded, settings)
    swept = sweep.SweepOptions(grid, scale, minimum, side, luma, network)
    if report is not None:
        sweep.check(loaded, swept)
    result = _measure(loaded, sources, settings, save, overwrite, quiet or json)
    if csv is not None:
        measuring.write_rows(csv, result.rows, overwrite)
    if report is not None:
        silent = quiet or json
        measuring.write_page(report, loaded, sources, swept, no_reference, overwrite, silent, result, settings.paper)
    if json:
        print_document(_document(loaded, settings, result, no_reference, degrade))
    elif not quiet:
        _show(result, loaded, settings, no_reference, degrade)
    if result.skipped:
        raise SystemExit(1)


def _choose_methods(text: str, original: bool, budget: bool) -> "tuple[Method, ...]":
    """Return the named methods, and those that --original and --budget add."""
    from pcsr_cli.evaluate.methods import Method, parse_methods

    added = (Method("original"),) * original + (Method("budget"),) * budget
    return tuple(dict.fromkeys((*parse_methods(text), *added)))


def _saved_files(folder: Path, sources: "Sequence[PairFiles]", methods: "Sequence[Method]") -> tuple[Path, ...]:
    """Create the folder for --save and return the paths of the enlarged images. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot create the folder {folder}: {reason(error)}.", "Use another folder.") from error
    return tuple(_saved_file(folder, source.name, method.label) for source in sources for method in methods)


def _saved_file(folder: Path, image: str, method: str) -> Path:
    return folder / f"{Path(image).stem}_{method.replace(' = ', '').replace(' ', '-').lower()}.png"


def _measure(
    model: "LoadedModel",
    sources: "Sequence[PairFiles]",
    settings: "BenchOptions",
    save: Path | None,
    replace: bool,
    quiet: bool,
) -> "BenchResult":
    """Run the bench and save the enlarged images in ``save``, if it is given."""
    from pcsr_cli.evaluate import bench
    from pcsr_cli.evaluate.dataset import SkippedImage
    from pcsr_cli.images.image import ImageData
    from pcsr_cli.images.write import write_image

    with progress_bar("bench", quiet) as progress:

        def observe(event: "Measurement | SkippedImage") -> None:
            if isinstance(event, SkippedImage):
                print_message(f"pcsr: skipped: {event.reason}")
                return
            progress(event.done / event.total)
            if save is not None:
                output = _saved_file(save, event.row.image, event.row.method)
                write_image(output, ImageData(event.rgb), {}, replace=replace)

        return bench.bench(model, sources, settings, observe)


def _document(
    model: "LoadedModel", settings: "BenchOptions", result: "BenchResult", no_reference: bool, degrade: str | None
) -> dict[str, object]:
    from dataclasses import asdict

    return {
        **measuring.settings_document(model, settings, no_reference, degrade),
        "protocol": "paper" if settings.paper else "whole",
        "images": [asdict(row) for row in result.rows],
        "mean": [asdict(row) for row in result.mean],
        "skipped": measuring.skipped_entries(result.skipped),
    }


def _show(
    result: "BenchResult", model: "LoadedModel", settings: "BenchOptions", no_reference: bool, degrade: str | None
) -> None:
    """Print the rows by image, then the means."""
    from rich.text import Text

    console = stdout_console()
    against = "all heavy" if no_reference else "HR"
    degraded = "" if degrade is None else f", LR {degrade}"
    title = (
        f"{model.identity.name} x{settings.scale:g}{degraded}; "
        f"PSNR of {'luma' if settings.luma else 'RGB'} against {against}, "
        f"SSIM of luma, both without {-(-settings.scale // 1):.0f} border pixels; "
        "GFLOPs (paper's count) and executed; "
        "seconds of computing (none for patch, which is composed)."
    )
    console.print(Text(printable(title)))
    single = len(result.mean) == 1
    table = _empty_table("image" if single else "image, method", console.width)
    for image, group in groupby(result.rows, key=lambda row: (row.image, row.size)):
        if not single:
            table.add_row(_name(*image), style="bold")
        for row in group:
            table.add_row(_name(row.image, row.size) if single else f"  {row.method}", *_cells(row))
    table.add_section()
    table.add_row(f"mean of {len(result.rows) // len(result.mean)}", style="bold")
    for row in result.mean:
        table.add_row(f"  {row.method}", *_cells(row))
    console.print(table)
    if result.skipped:
        console.print(f"{len(result.skipped)} skipped, see above.")


def _empty_table(first: str, width: int) -> "Table":
    figures = ("heavy", "PSNR", "SSIM", "GFLOPs", "exec.", "of orig.", "s", "MP/s")
    table = figures_table(first, *figures, gap=1 if width < NARROW else 2)
    column = table.columns[0]
    column.no_wrap, column.overflow, column.max_width = True, "ellipsis", width - 59 if width < NARROW else None
    return table


def _name(name: str, size: tuple[int, int] | None) -> "Text":
    from rich.text import Text

    return Text(printable(name) if size is None else f"{printable(name)} {size[0]}x{size[1]}")


def _cells(row: "Row") -> Iterator[str]:
    yield _number(row.heavy_share, ".1%")
    yield "equal" if row.psnr == float("inf") else _number(row.psnr, ".3f")
    yield _number(row.ssim, ".4f")
    yield _number(row.paper, ",.2f")
    yield _number(row.executed, ",.2f")
    yield _number(row.original_share, ".1%")
    yield _number(row.seconds, ".2f")
    yield _number(row.megapixels_per_second, ".2f")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
