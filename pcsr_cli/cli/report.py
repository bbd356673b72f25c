"""``pcsr report``: a page to look at, in one file."""

from pathlib import Path
from typing import Annotated

import typer

from pcsr_cli.cli import measuring, options, pages, sweep
from pcsr_cli.cli.console import print_document, say

Output = Annotated[Path, typer.Argument(metavar="OUT.html", help="The page to write.")]
Pictures = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[IMAGE|FOLDER...]", help="HR pictures, folders of them. [default: the one that ships]"),
]
Thresholds = Annotated[
    str | None,
    typer.Option("--threshold", metavar="GRID", help="Where the handle stops: START:STOP:STEP or a comma list."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUT.html if it exists.")]


def command(
    output: Output,
    pictures: Pictures = None,
    threshold: Thresholds = None,
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
    overwrite: Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a page to look at: before and after, where the compute went, and what every cut would cost."""
    options.check_talk(json, quiet)
    from pcsr_cli.api import check_scale
    from pcsr_cli.devices import resolve_device, resolve_precision
    from pcsr_cli.measuring.originals import load_original
    from pcsr_cli.measuring.pairs import demo_picture, find_pairs
    from pcsr_cli.measuring.sweep import DEFAULT_THRESHOLDS, Options, check, parse_grid
    from pcsr_cli.pages.rendering import check_page

    grid = parse_grid("threshold", threshold or DEFAULT_THRESHOLDS)
    check_scale(scale)
    minimum = options.choose_refine(refine, no_refine, scale)
    side = options.choose_tile(tile)
    where = resolve_device(device)
    resolve_precision(precision, where)
    sources = find_pairs(pictures or [demo_picture()], scale, lr, no_reference)
    check_page(output, grid, overwrite)
    given = None if original is None else load_original(original, where)
    loaded = options.load_model(model, device, precision, registry, scale, quiet)
    asked = Options(grid, scale, minimum, side, luma, given)
    check(loaded, asked)
    seen, failures = pages.see_pictures(loaded, sources, asked, quiet or json)
    pages.write(output, loaded, asked, no_reference, seen)
    if json:
        curves = [picture.curve for picture in seen]
        print_document({"report": str(output), **sweep.document(loaded, asked, curves, no_reference)})
    elif not quiet:
        say(f"The page is in {output} ({output.stat().st_size / 1e6:.1f} MB); open it in a browser.")
    if failures:
        raise SystemExit(1)
