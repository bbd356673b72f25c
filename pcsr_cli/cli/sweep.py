"""``pcsr sweep``: the curve of quality over compute, from one pass over each image."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pcsr_cli.cli import measuring, options
from pcsr_cli.cli.console import figures_table, print_document, printable, stdout_console
from pcsr_cli.cli.options import OUTPUT, option

if TYPE_CHECKING:
    from rich.table import Table

    from pcsr_cli.evaluate.sweep import Curve, CutGrid, Point, SweepOptions
    from pcsr_cli.model.registry import LoadedModel

EXAMPLES = options.examples(
    "pcsr sweep in.png --threshold 0:1:0.1  # the curve at eleven cuts",
    "pcsr sweep --k -1:2:0.25  # a curve along k, over the packaged photograph",
)

Thresholds = Annotated[
    str | None,
    option(
        "--threshold",
        "Sweep p_heavy over START:STOP:STEP or a comma list.",
        metavar="GRID",
        default=measuring.THRESHOLDS,
    ),
]
Tradeoffs = Annotated[
    str | None, option("--k", "Sweep k over START:STOP:STEP or a comma list, such as -1:2:0.25.", metavar="GRID")
]
Plot = Annotated[Path | None, option("--plot", "Draw the curve to a .png, .svg or .pdf file.", OUTPUT, metavar="FILE")]


def command(
    images: measuring.Images = None,
    threshold: Thresholds = None,
    k: Tradeoffs = None,
    scale: measuring.Scale = 4.0,
    lr: measuring.LrPath = None,
    no_reference: measuring.NoReference = False,
    degrade: measuring.Degrade = None,
    luma: measuring.Luma = False,
    original: measuring.OriginalPath = None,
    model: options.Model = "auto",
    refine: options.Refine = None,
    no_refine: options.NoRefine = False,
    device: options.Device = "auto",
    tile: options.Tile = "auto",
    precision: options.PrecisionName = "auto",
    registry: options.RegistryFile = None,
    plot: Plot = None,
    report: measuring.ReportFile = None,
    csv: measuring.CsvFile = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure quality over compute for a grid of cuts, and find the knee of the curve."""
    options.check_output_mode(json, quiet)
    from pcsr_cli.evaluate import sweep
    from pcsr_cli.evaluate.html.page import check_page

    grid = _choose_grid(threshold, k)
    minimum = options.choose_refine(refine, no_refine, scale)
    side = options.choose_tile(tile)
    if plot is not None:
        sweep.check_figure(plot)
    if report is not None:
        check_page(report, grid)
    sources = measuring.find_sources(images, scale, lr, no_reference, degrade)
    measuring.check_results((plot, report, csv), sources, overwrite)
    loaded, network = measuring.load(model, original, device, precision, registry, scale, quiet)
    settings = sweep.SweepOptions(grid, scale, minimum, side, luma, network)
    sweep.check(loaded, settings)
    silent = quiet or json
    if report is not None:
        curves, skipped = measuring.write_page(report, loaded, sources, settings, no_reference, overwrite, silent)
    else:
        curves, skipped = measuring.each_pair(
            "sweep", sources, scale, silent, lambda pair, progress: sweep.sweep(loaded, pair, settings, progress)
        )
    mean = sweep.mean_curve(curves) if len(curves) > 1 else curves[0]
    quality = f"PSNR {'(luma) ' if luma else ''}against {'all heavy' if no_reference else 'HR'}"
    quality += "" if degrade is None else f", LR {degrade}"
    if plot is not None:
        title = printable(f"{loaded.identity.name} x{scale:g}, {mean.image}")
        sweep.plot_curves(plot, curves, mean, quality, title, overwrite)
    if csv is not None:
        measuring.write_rows(csv, mean.points, overwrite)
    if json:
        print_document(measuring.curves_document(loaded, settings, curves, skipped, no_reference, degrade))
    elif not quiet:
        _show(mean, loaded, settings, quality)
    if skipped:
        raise SystemExit(1)


def _choose_grid(threshold: str | None, k: str | None) -> "CutGrid":
    from pcsr_cli.evaluate.sweep import parse_grid

    options.check_exclusive({"--threshold": threshold is not None, "--k": k is not None})
    return parse_grid("threshold", threshold or measuring.THRESHOLDS) if k is None else parse_grid("k", k)


def _show(curve: "Curve", model: "LoadedModel", settings: "SweepOptions", quality: str) -> None:
    """Print the table of points and a conclusion."""
    from rich.text import Text

    console = stdout_console()
    title = f"{model.identity.name} x{settings.scale:g}, {curve.image}: {quality}, dB; SSIM of luma"
    console.print(Text(printable(f"{title}; GFLOPs (paper's count) and executed.")))
    console.print(_table(curve))
    console.print(Text(conclude(curve)))


def conclude(curve: "Curve") -> str:
    """Return one sentence about the knee, the recommended point."""
    knee, heavy = curve.knee, curve.heavy
    if knee is None:
        return "The curve has no knee: no point is above the straight line between its ends."
    name = "The knee" if knee.cut is None else f"The knee at cut {knee.cut:.4g}"
    loss, saved = heavy.psnr - knee.psnr, f"saves {1 - knee.paper / heavy.paper:.0%} of its GFLOPs (paper's count)"
    if not math.isfinite(loss):
        return f"{name} has {knee.psnr:.2f} dB against all heavy and {saved}."
    return f"{name} is {abs(loss):.2f} dB {'below' if loss >= 0 else 'above'} all heavy and {saved}."


def _table(curve: "Curve") -> "Table":
    table = figures_table("cut", "k", "heavy", "GFLOPs", "exec.", "of orig.", "PSNR", "SSIM", "")
    table.columns[0].justify, table.columns[-1].justify = "right", "left"
    for point in curve.points:
        name, style = ("knee", "bold") if point == curve.knee else ("", None)
        table.add_row(*_cells(point, curve), name, style=style)
    table.add_section()
    for name, point in (("all light", curve.light), ("all heavy", curve.heavy), ("ADM", curve.adm)):
        table.add_row(*_cells(point, curve), name)
    if curve.original is not None:
        original = curve.original
        quality = "-" if original.psnr is None else f"{original.psnr:.3f}"
        figures = (f"{original.paper:,.2f}", f"{original.executed:,.2f}", "100.0%", quality)
        table.add_row("-", "-", "-", *figures, "-", "original")
    return table


def _cells(point: "Point", curve: "Curve") -> Iterator[str]:
    yield "-" if point.cut is None else f"{point.cut:.4f}"
    yield "-" if point.k is None else f"{point.k:.2f}".replace("-0.00", "0.00")
    yield f"{point.heavy_share:.1%}"
    yield f"{point.paper:,.2f}"
    yield f"{point.executed:,.2f}"
    yield "-" if curve.original is None else f"{point.paper / curve.original.paper:.1%}"
    yield f"{point.psnr:.3f}" if math.isfinite(point.psnr) else "equal"
    yield "-" if point.ssim is None else f"{point.ssim:.4f}"
