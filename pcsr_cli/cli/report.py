"""``pcsr report``: write an HTML page about images, their routing and its cost."""

from pathlib import Path
from typing import Annotated

import typer

from pcsr_cli.cli import measuring, options
from pcsr_cli.cli.console import print_document, print_message
from pcsr_cli.cli.options import option
from pcsr_cli.evaluate.arguments import PAGE_SUFFIXES, check_page, parse_grid
from pcsr_cli.images.files import exists

EXAMPLES = options.examples("pcsr report in.png page.html  # one file that any browser opens")

Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="[IN]... OUT.html",
        help="Measure HR images and folders of HR images (default: the packaged photograph), and write OUT.html.",
        show_default=False,
    ),
]
Thresholds = Annotated[
    str, option("--threshold", "Measure at these cuts: START:STOP:STEP or a comma list.", metavar="GRID")
]


@options.with_options
def command(
    paths: Paths,
    common: measuring.Common,
    threshold: Thresholds = measuring.THRESHOLDS,
) -> None:
    """Write an HTML page that compares images before and after, and shows their routing and its cost."""
    options.check_output_mode(common.json, common.quiet)
    grid = parse_grid("threshold", threshold)
    pages = [path for path in paths if path.suffix.lower() in PAGE_SUFFIXES]
    output = next(iter(pages or [path for path in paths if not exists(path)] or paths))
    check_page(output, grid)
    sources = common.find_sources([path for path in paths if path is not output])
    common.check_results([output], sources)
    from pcsr_cli.evaluate import sweep

    conditions = common.load(sources)
    sweep.check(conditions)
    curves, skipped = common.write_page(output, conditions, sources, grid)
    if common.json:
        print_document({"report": str(output), **measuring.curves_document(conditions, grid, curves, skipped)})
    elif not common.quiet:
        print_message(f"Wrote {output} ({output.stat().st_size / 1e6:.1f} MB). Open it in a browser.")
    if skipped:
        raise SystemExit(1)
