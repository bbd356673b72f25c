"""``pcsr report``: a page to look at, in one file."""

from pathlib import Path
from typing import Annotated

import typer

from pcsr_cli.cli import measured, measuring, options, pages
from pcsr_cli.cli.console import print_document, print_message

Output = Annotated[Path, typer.Argument(metavar="OUT.html", help="The page to write.")]
Thresholds = Annotated[
    str,
    typer.Option("--threshold", metavar="GRID", help="Where the handle stops: START:STOP:STEP or a comma list."),
]


def command(
    output: Output,
    pictures: measuring.Pictures = None,
    threshold: Thresholds = measuring.THRESHOLDS,
    scale: measuring.Scale = 4.0,
    lr: measuring.LrPath = None,
    no_reference: measuring.NoReference = False,
    luma: measuring.Luma = False,
    original: measuring.OriginalPath = None,
    model: options.Model = "auto",
    refine: options.Refine = None,
    no_refine: options.NoRefine = False,
    device: options.Device = "auto",
    tile: options.Tile = "auto",
    precision: options.PrecisionName = "auto",
    registry: options.RegistryFile = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a page to look at: before and after, where the compute went, and what every cut would cost."""
    options.check_talk(json, quiet)
    from pcsr_cli.evaluate.html.page import check_page
    from pcsr_cli.evaluate.sweep import Options, check, parse_grid

    grid = parse_grid("threshold", threshold)
    check_page(output, grid)
    minimum = options.choose_refine(refine, no_refine, scale)
    side = options.choose_tile(tile)
    sources = measuring.find_sources(pictures, scale, lr, no_reference)
    measuring.check_results([output], sources, overwrite)
    loaded, given = measuring.load(model, original, device, precision, registry, scale, quiet)
    asked = Options(grid, scale, minimum, side, luma, given)
    check(loaded, asked)
    seen, skipped = pages.see_pictures(loaded, sources, asked, quiet or json)
    pages.write(output, loaded, asked, no_reference, overwrite, seen, skipped)
    if json:
        curves = [picture.curve for picture in seen]
        document = measured.curves_document(loaded, asked, curves, skipped, no_reference)
        print_document({"report": str(output), **document})
    elif not quiet:
        print_message(f"The page is in {output} ({output.stat().st_size / 1e6:.1f} MB); open it in a browser.")
    if skipped:
        raise SystemExit(1)
