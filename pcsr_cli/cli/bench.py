"""``pcsr bench``: ways to enlarge a folder of pictures, compared in quality, compute and time."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pcsr_cli.cli import measuring, options, pages
from pcsr_cli.cli.console import data, print_document, printable, progress_bar, say

if TYPE_CHECKING:
    from pcsr_cli.measuring.bench import Failure, Measured, Options, Result
    from pcsr_cli.models import LoadedModel

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
Save = Annotated[Path | None, typer.Option("--save", metavar="DIR", help="Keep the results as PNG files there.")]


def command(
    folders: Folder,
    scale: measuring.Scale = 4.0,
    lr: measuring.LrPath = None,
    no_reference: measuring.NoReference = False,
    methods: Methods = METHODS,
    original: measuring.OriginalPath = None,
    budget: options.Budget = None,
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
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare ways to enlarge: quality against compute over folders of pictures."""
    options.check_talk(json, quiet)
    from pcsr_cli.api import check_scale
    from pcsr_cli.budget import parse_allowance
    from pcsr_cli.devices import resolve_device, resolve_precision
    from pcsr_cli.measuring import bench, sweep
    from pcsr_cli.measuring.methods import Method, parse_methods
    from pcsr_cli.measuring.originals import load_original
    from pcsr_cli.measuring.pairs import find_pairs

    check_scale(scale)
    chosen = parse_methods(methods)
    minimum = options.choose_refine(refine, no_refine, scale)
    side = options.choose_tile(tile)
    allowance = None if budget is None else parse_allowance(budget)
    where = resolve_device(device)
    resolve_precision(precision, where)
    sources = find_pairs(folders, scale, lr, no_reference)
    measuring.check_writable(csv)
    grid = sweep.parse_grid("threshold", sweep.DEFAULT_THRESHOLDS)
    if report is not None:
        from pcsr_cli.pages.rendering import check_page

        check_page(report, grid, overwrite=True)
    given = None if original is None else load_original(original, where)
    if given is not None and Method("original") not in chosen:
        chosen = (*chosen, Method("original"))
    loaded = options.load_model(model, device, precision, registry, scale, quiet)
    asked = bench.Options(chosen, scale, minimum, side, luma, protocol == "paper", given, allowance)
    bench.check(loaded, asked)
    swept = sweep.Options(grid, scale, minimum, side, luma, given)
    if report is not None:
        sweep.check(loaded, swept)
    if save is not None:
        measuring.make_folder(save)
    with progress_bar("bench", quiet or json) as report_progress:

        def observe(event: "Measured | Failure") -> None:
            if isinstance(event, bench.Failure):
                say(f"pcsr: left out: {event.sentence}")
                return
            report_progress(event.done / event.total)
            if save is not None:
                _keep(save, event)

        result = bench.bench(loaded, sources, asked, observe)

    if csv is not None:
        measuring.write_rows(csv, result.rows)
    if report is not None:
        seen, _ = pages.see_pictures(loaded, sources, swept, quiet or json, asked.paper, result)
        pages.write(report, loaded, swept, no_reference, seen, result)
    if json:
        print_document(_document(loaded, asked, result, no_reference))
    elif not quiet:
        from pcsr_cli.cli.bench_view import show

        show(result, loaded, asked, no_reference, data())
    if result.failures:
        raise SystemExit(1)


def _keep(folder: Path, event: "Measured") -> None:
    from pcsr_cli.pictures.picture import Picture
    from pcsr_cli.pictures.writing import write_picture

    name = f"{Path(event.row.picture).stem}_{event.row.method.replace(' = ', '').replace(' ', '-').lower()}.png"
    write_picture(folder / name, Picture(event.rgb), {})


def _document(model: "LoadedModel", asked: "Options", result: "Result", no_reference: bool) -> dict[str, object]:
    from dataclasses import asdict

    return {
        **measuring.provenance(model),
        "scale": asked.scale,
        "protocol": "paper" if asked.paper else "whole",
        "refine": asked.refine,
        "psnr_of": "luma" if asked.luma else "RGB",
        "psnr_against": "all heavy" if no_reference else "HR",
        "images": [measuring.plain(row) for row in result.rows],
        "mean": [measuring.plain(row) for row in result.mean],
        "failures": [{key: printable(value) for key, value in asdict(failure).items()} for failure in result.failures],
    }
