"""``pcsr sweep``: the curve of quality over compute, from one pass over each picture."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcsr_cli.cli import measured, measuring, options, pages
from pcsr_cli.cli.console import print_document, printable, stdout_console
from pcsr_cli.cli.help import GroupedCommand
from pcsr_cli.errors import UsageError
from pcsr_cli.images.files import exists

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsr_cli.evaluate.dataset import PairFiles, SkippedImage
    from pcsr_cli.evaluate.sweep import Curve, Grid, Options
    from pcsr_cli.model.registry import LoadedModel

GRID = re.compile(r"[-+]?[\d.][\d.eE:,+-]*")
USUAL = "usual"
"""What a grid option without a value stands for."""
KS = "-1:2:0.25"
"""The usual grid of k."""

Thresholds = Annotated[
    str | None,
    typer.Option(
        "--threshold", metavar="[GRID]", help=f"START:STOP:STEP, a comma list, or nothing: {measuring.THRESHOLDS}."
    ),
]
Tradeoffs = Annotated[
    str | None, typer.Option("--k", metavar="[GRID]", help=f"The same for k; nothing stands for {KS}.")
]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw the curve: .png, .svg or .pdf.", rich_help_panel=options.RESULTS),
]


class Command(GroupedCommand):
    """A command whose grid options may go without a value: what follows is taken for one where it looks like one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join each grid option with its value, or with the usual grid."""
        return super().parse_args(ctx, join_grids(args))


def join_grids(arguments: list[str]) -> list[str]:
    """``--k -1:2:1`` to ``--k=-1:2:1``, and ``--k`` alone, or before an option or a path, to ``--k=usual``."""
    joined: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*joined, argument, *rest]
        if argument in {"--threshold", "--k"}:
            value = rest[0] if rest else "--"
            meant = GRID.fullmatch(value) or not (value.startswith("-") or exists(Path(value)))
            argument += f"={rest.pop(0) if meant else USUAL}"
        joined.append(argument)
    return joined


def command(
    pictures: measuring.Pictures = None,
    threshold: Thresholds = None,
    k: Tradeoffs = None,
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
    plot: Plot = None,
    report: pages.ReportFile = None,
    csv: measuring.CsvFile = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw quality over compute for every cut, and find the one worth choosing."""
    options.check_talk(json, quiet)
    from pcsr_cli.evaluate import sweep

    grid = _choose_grid(threshold, k)
    minimum = options.choose_refine(refine, no_refine, scale)
    side = options.choose_tile(tile)
    if plot is not None:
        from pcsr_cli.evaluate.sweep import check_figure

        check_figure(plot)
    if report is not None:
        from pcsr_cli.evaluate.html.page import check_page

        check_page(report, grid)
    sources = measuring.find_sources(pictures, scale, lr, no_reference)
    measuring.check_results((plot, report, csv), sources, overwrite)
    loaded, given = measuring.load(model, original, device, precision, registry, scale, quiet)
    asked = sweep.Options(grid, scale, minimum, side, luma, given)
    sweep.check(loaded, asked)
    curves, skipped = _draw(loaded, sources, asked, quiet or json, report, overwrite, no_reference)
    _hand_over(loaded, asked, curves, skipped, plot, csv, overwrite, json, quiet, no_reference)
    if skipped:
        raise SystemExit(1)


def _choose_grid(threshold: str | None, k: str | None) -> "Grid":
    from pcsr_cli.evaluate.sweep import parse_grid

    if threshold is not None and k is not None:
        raise UsageError("--threshold and --k exclude each other.", "Give one of them.")
    if k is not None:
        return parse_grid("k", KS if k == USUAL else k)
    return parse_grid("threshold", measuring.THRESHOLDS if threshold in {None, USUAL} else str(threshold))


def _draw(
    loaded: "LoadedModel",
    sources: "tuple[PairFiles, ...]",
    asked: "Options",
    silent: bool,
    report: Path | None,
    replace: bool,
    no_reference: bool,
) -> "tuple[list[Curve], tuple[SkippedImage, ...]]":
    """Every picture's curve, and the pictures that have none; with ``report`` the page to look at, too."""
    if report is None:
        from pcsr_cli.evaluate.sweep import sweep

        return measuring.each_pair(
            "sweep", sources, asked.scale, silent, lambda pair, progress: sweep(loaded, pair, asked, progress)
        )
    seen, skipped = pages.see_pictures(loaded, sources, asked, silent)
    pages.write(report, loaded, asked, no_reference, replace, seen, skipped)
    return [picture.curve for picture in seen], skipped


def _hand_over(
    loaded: "LoadedModel",
    asked: "Options",
    curves: "list[Curve]",
    skipped: "Sequence[SkippedImage]",
    plot: Path | None,
    csv: Path | None,
    replace: bool,
    json: bool,
    quiet: bool,
    no_reference: bool,
) -> None:
    from pcsr_cli.evaluate import sweep

    mean = sweep.mean_curve(curves) if len(curves) > 1 else curves[0]
    quality = f"PSNR {'(luma) ' if asked.luma else ''}against {'all heavy' if no_reference else 'HR'}"
    if plot is not None:
        from pcsr_cli.evaluate.sweep import plot_curves

        title = printable(f"{loaded.identity.name} x{asked.scale:g}, {mean.picture}")
        plot_curves(plot, curves, mean, quality, title, replace)
    if csv is not None:
        measured.write_rows(csv, mean.points, replace)
    if json:
        print_document(measured.curves_document(loaded, asked, curves, skipped, no_reference))
    elif not quiet:
        from pcsr_cli.cli.sweep_view import show

        show(mean, loaded, asked, quality, stdout_console())
