"""``pcsr sweep``: the curve of quality over compute, from one pass over each image."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pcsr_cli.cli import measuring, options
from pcsr_cli.cli.console import figures_table, print_document, printable, stdout_console
from pcsr_cli.cli.options import OUTPUT, option
from pcsr_cli.evaluate.arguments import check_figure, check_page, parse_grid

if TYPE_CHECKING:
    from rich.table import Table

    from pcsr_cli.evaluate.sweep import Curve, OriginalPoint, Point

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


@options.with_options
def command(
    common: measuring.Common,
    images: measuring.Images = None,
    threshold: Thresholds = None,
    k: Tradeoffs = None,
    plot: Plot = None,
    report: measuring.ReportFile = None,
    csv: measuring.CsvFile = None,
) -> None:
    """Measure quality over compute for a grid of cuts, and find the knee of the curve."""
    options.check_output_mode(common.json, common.quiet)
    options.check_exclusive({"--threshold": threshold is not None, "--k": k is not None})
    grid = parse_grid("threshold", threshold or measuring.THRESHOLDS) if k is None else parse_grid("k", k)
    if plot is not None:
        check_figure(plot)
    if report is not None:
        check_page(report, grid)
    sources = common.find_sources(images)
    common.check_results((plot, report, csv), sources)
    from rich.text import Text

    from pcsr_cli.evaluate import sweep

    conditions = common.load(sources)
    sweep.check(conditions)
    if report is not None:
        curves, skipped = common.write_page(report, conditions, sources, grid)
    else:
        curves, skipped = common.each_pair(
            "sweep", sources, lambda pair, progress: sweep.sweep(conditions, pair, grid, progress)
        )
    mean = sweep.mean_curve(curves) if len(curves) > 1 else curves[0]
    name = f"{conditions.model.identity.name} x{conditions.scale:g}"
    quality = measuring.describe_psnr(conditions)
    if csv is not None:
        measuring.write_rows(csv, mean.points, common.overwrite)
    if plot is not None:
        sweep.plot_curves(plot, curves, mean, quality, printable(f"{name}, {mean.image}"), common.overwrite)
    if common.json:
        print_document(measuring.curves_document(conditions, grid, curves, skipped))
    elif not common.quiet:
        console = stdout_console()
        title = f"{name}, {mean.image}: {quality}, dB; SSIM of luma; GFLOPs (paper's count) and executed."
        for part in (Text(printable(title)), _table(mean), Text(conclude(mean, grid.kind))):
            console.print(part)
    if skipped:
        raise SystemExit(1)


def conclude(curve: "Curve", kind: str) -> str:
    """Return one sentence about the knee, the recommended point, for a grid of ``kind``."""
    knee, heavy = curve.knee, curve.heavy
    if knee is None:
        return "The curve has no knee: no point is above the straight line between its ends."
    value = f"{kind} {knee.k if kind == 'k' else knee.cut:z.4g}"
    loss, saved = heavy.psnr - knee.psnr, f"saves {1 - knee.paper / heavy.paper:.0%} (paper's count)"
    quality = f"is {abs(loss):.2f} dB {'below' if loss >= 0 else 'above'} all heavy"
    if not math.isfinite(loss):
        quality = f"has {knee.psnr:.2f} dB against all heavy"
    return f"The knee, {value}, {quality} and {saved}: use --{value}."


def _table(curve: "Curve") -> "Table":
    share = () if curve.original is None else ("of orig.",)
    table = figures_table("cut", "k", "heavy", "GFLOPs", "exec.", *share, "PSNR", "SSIM", "")
    cut, remark = table.columns[0], table.columns[-1]
    cut.justify, cut.no_wrap = "right", True
    remark.justify, remark.no_wrap = "left", False
    for point in curve.points:
        name, style = ("knee", "bold") if point == curve.knee else ("", None)
        table.add_row(*_cells(point, curve), _remark(name, point), style=style)
    table.add_section()
    for name, point in (("all light", curve.light), ("all heavy", curve.heavy), ("ADM", curve.adm)):
        table.add_row(*_cells(point, curve), _remark(name, point))
    if curve.original is not None:
        table.add_row(*_cells(curve.original, curve), "original")
    return table


def _remark(name: str, point: "Point") -> str:
    """Return the last cell of a row: the name of the row, and the number of images that the mean PSNR leaves out."""
    left_out = f"without {point.equal} infinite" if point.equal and math.isfinite(point.psnr) else ""
    return ", ".join(filter(None, (name, left_out)))


def _cells(point: "Point | OriginalPoint", curve: "Curve") -> Iterator[str]:
    """Yield the figures of a point. The original network has only some of the figures."""
    for name, form in (("cut", ".4f"), ("k", "z.2f"), ("heavy_share", ".1%"), ("paper", ",.2f"), ("executed", ",.2f")):
        yield measuring.format_figure(getattr(point, name, None), form)
    if curve.original is not None:
        yield measuring.format_figure(point.paper / curve.original.paper, ".1%")
    yield measuring.format_figure(point.psnr, ".3f")
    yield measuring.format_figure(getattr(point, "ssim", None), ".4f")
