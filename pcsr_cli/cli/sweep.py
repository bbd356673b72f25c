"""``pcsr sweep``: the curve of quality over compute, from one pass over each image."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer.core import TyperCommand

from pcsr_cli.cli import measuring, options
from pcsr_cli.cli.console import figures_table, print_document, printable, stdout_console
from pcsr_cli.cli.options import OUTPUT, option
from pcsr_cli.images.files import exists

if TYPE_CHECKING:
    from rich.table import Table

    from pcsr_cli.evaluate.sweep import Curve, CutGrid, Point, SweepOptions
    from pcsr_cli.model.registry import LoadedModel

EXAMPLES = options.examples(
    "pcsr sweep in.png --threshold 0:1:0.1  # the curve at eleven cuts",
    "pcsr sweep --k  # a curve along k, over the packaged photograph",
)

GRID = re.compile(r"[-+]?[\d.][\d.eE:,+-]*")
DEFAULT = "default"
"""The value of a grid option that is given without one."""
KS = "-1:2:0.25"
"""The default grid of k."""

PLOT_ROWS = 12
MAX_PLOT_WIDTH = 110
"""Size of the curve on the terminal, in characters."""

Thresholds = Annotated[
    str | None,
    option(
        "--threshold",
        "Sweep p_heavy over START:STOP:STEP or a comma list.",
        metavar="[GRID]",
        default=measuring.THRESHOLDS,
    ),
]
Tradeoffs = Annotated[
    str | None, option("--k", f"Sweep k over START:STOP:STEP, a comma list, or without a value {KS}.", metavar="[GRID]")
]
Plot = Annotated[Path | None, option("--plot", "Draw the curve to a .png, .svg or .pdf file.", OUTPUT, metavar="FILE")]


class Command(TyperCommand):
    """A command whose grid options may be given without a value, which Typer does not support."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join each grid option with its value, or with the default."""
        return super().parse_args(ctx, join_grids(args))


def join_grids(arguments: list[str]) -> list[str]:
    """Replace ``--k -1:2:1`` by ``--k=-1:2:1``, and ``--k`` alone or before an option or a path by ``--k=default``."""
    joined: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*joined, argument, *rest]
        if argument in {"--threshold", "--k"}:
            value = rest[0] if rest else "--"
            is_value = GRID.fullmatch(value) or not (value.startswith("-") or exists(Path(value)))
            argument += f"={rest.pop(0) if is_value else DEFAULT}"
        joined.append(argument)
    return joined


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
    if k is not None:
        return parse_grid("k", KS if k == DEFAULT else k)
    return parse_grid("threshold", measuring.THRESHOLDS if threshold in {None, DEFAULT} else str(threshold))


def _show(curve: "Curve", model: "LoadedModel", settings: "SweepOptions", quality: str) -> None:
    """Print the table of points and the curve."""
    from rich.text import Text

    from pcsr_cli.evaluate.sweep import KNEE_RULE

    console = stdout_console()
    title = f"{model.identity.name} x{settings.scale:g}, {curve.image}: {quality}, dB; SSIM of luma"
    console.print(Text(printable(f"{title}; GFLOPs (paper's count) and executed.")))
    console.print(_table(curve))
    console.print()
    if not _finite(curve):
        console.print(Text("Every result equals the reference: there is no curve to draw."))
        return
    for line in draw(curve, min(console.width, MAX_PLOT_WIDTH), console.encoding):
        console.print(Text(line), no_wrap=True, crop=True)
    console.print(Text(f"A: ADM. K: the knee, {KNEE_RULE}." if curve.knee else "A: ADM. There is no knee."))


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


def _finite(curve: "Curve") -> "list[Point]":
    return [point for point in (*curve.points, curve.light, curve.heavy, curve.adm) if math.isfinite(point.psnr)]


def draw(curve: "Curve", width: int, encoding: str) -> Iterator[str]:
    """Draw PSNR over GFLOPs in lines of at most ``width`` characters. At least one PSNR must be finite."""
    points = _finite(curve)
    low, high = min(point.psnr for point in points), max(point.psnr for point in points)
    left, right = min(point.paper for point in points), max(point.paper for point in points)
    columns = max(20, width - 9)
    dot = "•" if encoding.lower().startswith("utf") else "o"
    grid = [[" "] * columns for _ in range(PLOT_ROWS)]

    def put(point: "Point", mark: str) -> None:
        if math.isfinite(point.psnr):
            x = (point.paper - left) / (right - left) if right > left else 0.0
            y = (point.psnr - low) / (high - low) if high > low else 0.0
            grid[PLOT_ROWS - 1 - round(y * (PLOT_ROWS - 1))][round(x * (columns - 1))] = mark

    for point in points:
        put(point, dot)
    if curve.knee is not None:
        put(curve.knee, "K")
    put(curve.adm, "A")
    for number, cells in enumerate(grid):
        level = high - (high - low) * number / (PLOT_ROWS - 1)
        label = f"{level:7.3f}" if number in {0, PLOT_ROWS - 1, PLOT_ROWS // 2} else ""
        yield f"{label:>7} |{''.join(cells)}".rstrip()
    yield f"{'':7} +{'-' * (columns - 1)}"
    ends = f"{left:,.2f}", "GFLOPs (paper's count)", f"{right:,.2f}"
    space = columns - sum(map(len, ends))
    yield f"{'':8}{ends[0]}{' ' * (space // 2)}{ends[1]}{' ' * (space - space // 2)}{ends[2]}"
