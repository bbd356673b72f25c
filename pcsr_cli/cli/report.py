"""``pcsr report``: write an HTML page about images, their routing and its cost."""

from pathlib import Path
from typing import Annotated

import typer

from pcsr_cli.cli import measuring, options
from pcsr_cli.cli.console import print_document, print_message
from pcsr_cli.cli.options import option

EXAMPLES = options.examples("pcsr report page.html in.png  # one file that any browser opens")

Output = Annotated[Path, typer.Argument(metavar="OUT.html", help="Write the page to this file.")]
Thresholds = Annotated[
    str, option("--threshold", "Measure at these cuts: START:STOP:STEP or a comma list.", metavar="GRID")
]


def command(
    output: Output,
    images: measuring.Images = None,
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
    """Write an HTML page that compares images before and after, and shows their routing and its cost."""
    options.check_output_mode(json, quiet)
    from pcsr_cli.evaluate.html.page import check_page
    from pcsr_cli.evaluate.sweep import SweepOptions, check, parse_grid

    grid = parse_grid("threshold", threshold)
    check_page(output, grid)
    minimum = options.choose_refine(refine, no_refine, scale)
    side = options.choose_tile(tile)
    sources = measuring.find_sources(images, scale, lr, no_reference)
    measuring.check_results([output], sources, overwrite)
    loaded, network = measuring.load(model, original, device, precision, registry, scale, quiet)
    settings = SweepOptions(grid, scale, minimum, side, luma, network)
    check(loaded, settings)
    silent = quiet or json
    curves, skipped = measuring.write_page(output, loaded, sources, settings, no_reference, overwrite, silent)
    if json:
        document = measuring.curves_document(loaded, settings, curves, skipped, no_reference)
        print_document({"report": str(output), **document})
    elif not quiet:
        print_message(f"Wrote {output} ({output.stat().st_size / 1e6:.1f} MB). Open it in a browser.")
    if skipped:
        raise SystemExit(1)
