"""``pcsr bench``: ways to enlarge a folder of pictures, compared in quality, compute and time."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pcsr_cli.cli import measured, measuring, options, pages
from pcsr_cli.cli.console import print_document, print_message, progress_bar, stdout_console

if TYPE_CHECKING:
    from pcsr_cli.evaluate.bench import Measured, Options, Result
    from pcsr_cli.evaluate.dataset import PairFiles
    from pcsr_cli.evaluate.methods import Method
    from pcsr_cli.model.registry import LoadedModel

METHODS = "threshold,adm,heavy,light,bicubic"

Folder = Annotated[
    list[Path], typer.Argument(metavar="FOLDER...", help="Folders of HR pictures, or with HR and LR_xN in them.")
]
Methods = Annotated[
    str,
    typer.Option(
        "--methods",
        help="Any of threshold, k, adm, heavy, light, patch, bicubic, lanczos, original; threshold=0.3, k=1, patch=64.",
    ),
]
Protocol = Annotated[
    Literal["whole", "paper"], typer.Option("--protocol", help="paper cuts to the patch grid of the paper's tables.")
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help="One cut with which all pictures together spend 60% of the original's GFLOPs, or 50G.",
        rich_help_panel=options.ROUTING,
    ),
]
Save = Annotated[
    Path | None,
    typer.Option(
        "--save", metavar="DIR", help="Keep the enlarged pictures as PNG files there.", rich_help_panel=options.RESULTS
    ),
]


def command(
    folders: Folder,
    scale: measuring.Scale = 4.0,
    lr: measuring.LrPath = None,
    no_reference: measuring.NoReference = False,
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
    report: pages.ReportFile = None,
    csv: measuring.CsvFile = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare ways to enlarge: quality against compute over folders of pictures."""
    options.check_talk(json, quiet)
    from pcsr_cli.engine.routing import parse_allowance
    from pcsr_cli.evaluate import bench, sweep

    chosen = _choose_methods(methods, original is not None, budget is not None)
    allowance = None if budget is None else parse_allowance(budget)
    grid = sweep.parse_grid("threshold", measuring.THRESHOLDS)
    minimum = options.choose_refine(refine, no_refine, scale)
    side = options.choose_tile(tile)
    if report is not None:
        from pcsr_cli.evaluate.html.page import check_page

        check_page(report, grid)
    sources = measuring.find_sources(folders, scale, lr, no_reference)
    kept = () if save is None else _kept(save, sources, chosen)
    measuring.check_results((report, csv, *kept), sources, overwrite)
    loaded, given = measuring.load(model, original, device, precision, registry, scale, quiet)
    asked = bench.Options(chosen, scale, minimum, side, luma, protocol == "paper", given, allowance)
    bench.check(loaded, asked)
    swept = sweep.Options(grid, scale, minimum, side, luma, given)
    if report is not None:
        sweep.check(loaded, swept)
    result = _measure(loaded, sources, asked, save, overwrite, quiet or json)
    if csv is not None:
        measured.write_rows(csv, result.rows, overwrite)
    if report is not None:
        seen, skipped = pages.see_pictures(loaded, sources, swept, quiet or json, asked.paper, result)
        missing = (*result.skipped, *skipped)
        pages.write(report, loaded, swept, no_reference, overwrite, seen, missing, result)
    if json:
        print_document(_document(loaded, asked, result, no_reference))
    elif not quiet:
        from pcsr_cli.cli.bench_view import show

        show(result, loaded, asked, no_reference, stdout_console())
    if result.skipped:
        raise SystemExit(1)


def _choose_methods(text: str, original: bool, budget: bool) -> "tuple[Method, ...]":
    """Those named, and those that options stand for."""
    from pcsr_cli.evaluate.methods import Method, parse_methods

    meant = (Method("original"),) * original + (Method("budget"),) * budget
    return tuple(dict.fromkeys((*parse_methods(text), *meant)))


def _kept(folder: Path, sources: "Sequence[PairFiles]", methods: "Sequence[Method]") -> tuple[Path, ...]:
    """The files that enlarged pictures are kept as, in a folder that is made for them. Raises OutputError."""
    measuring.make_folder(folder)
    return tuple(_kept_as(folder, source.name, method.label) for source in sources for method in methods)


def _kept_as(folder: Path, picture: str, method: str) -> Path:
    return folder / f"{Path(picture).stem}_{method.replace(' = ', '').replace(' ', '-').lower()}.png"


def _measure(
    model: "LoadedModel",
    sources: "Sequence[PairFiles]",
    asked: "Options",
    save: Path | None,
    replace: bool,
    silent: bool,
) -> "Result":
    """Bench, and keep each enlarged picture as it is done, if ``save`` says where."""
    from pcsr_cli.evaluate import bench
    from pcsr_cli.evaluate.dataset import SkippedImage
    from pcsr_cli.images.image import ImageData
    from pcsr_cli.images.write import write_image

    with progress_bar("bench", silent) as report_progress:

        def observe(event: "Measured | SkippedImage") -> None:
            if isinstance(event, SkippedImage):
                print_message(f"pcsr: skipped: {event.reason}")
                return
            report_progress(event.done / event.total)
            if save is not None:
                write_image(
                    _kept_as(save, event.row.picture, event.row.method), ImageData(event.rgb), {}, replace=replace
                )

        return bench.bench(model, sources, asked, observe)


def _document(model: "LoadedModel", asked: "Options", result: "Result", no_reference: bool) -> dict[str, object]:
    from dataclasses import asdict

    return {
        **measured.provenance(model),
        "scale": asked.scale,
        "protocol": "paper" if asked.paper else "whole",
        "refine": asked.refine,
        "psnr_of": "luma" if asked.luma else "RGB",
        "psnr_against": "all heavy" if no_reference else "HR",
        "images": [asdict(row) for row in result.rows],
        "mean": [asdict(row) for row in result.mean],
        "skipped": measured.skipped_entries(result.skipped),
    }
