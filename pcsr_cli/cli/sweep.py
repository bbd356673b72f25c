"""``pcsr sweep``: the curve of quality over compute, from one pass over each picture."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcsr_cli.cli import measuring, options, pages
from pcsr_cli.cli.console import data, print_document, printable
from pcsr_cli.cli.help import GroupedCommand
from pcsr_cli.failures import usage

if TYPE_CHECKING:
    from pcsr_cli.measuring.pairs import Source
    from pcsr_cli.measuring.sweep import Curve, Options
    from pcsr_cli.models import LoadedModel

GRID = re.compile(r"[-+]?[\d.][\d.eE:,+-]*")
USUAL = "usual"
"""What a grid option without a value stands for."""

Pictures = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[IMAGE|FOLDER...]", help="HR pictures, folders of them. [default: the one that ships]"),
]
Thresholds = Annotated[
    str | None,
    typer.Option("--threshold", metavar="[GRID]", help="START:STOP:STEP, a comma list, or nothing: 0:1:0.05."),
]
Tradeoffs = Annotated[
    str | None, typer.Option("--k", metavar="[GRID]", help="The same for k; nothing stands for -1:2:0.25.")
]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the curve: .png, .svg or .pdf.")]


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
            meant = GRID.fullmatch(value) or not (value.startswith("-") or Path(value).exists())
            argument += f"={rest.pop(0) if meant else USUAL}"
        joined.append(argument)
    return joined


def command(
    pictures: Pictures = None,
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
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw quality over compute for every cut, and find the one worth choosing."""
    options.check_talk(json, quiet)
    if threshold is not None and k is not None:
        raise usage.EXCLUDE(options="--threshold and --k")
    from pcsr_cli.api import check_scale
    from pcsr_cli.devices import resolve_device, resolve_precision
    from pcsr_cli.measuring import sweep
    from pcsr_cli.measuring.originals import load_original
    from pcsr_cli.measuring.pairs import demo_picture, find_pairs

    kind, text, usual = ("k", k, sweep.DEFAULT_KS) if k is not None else ("threshold", threshold, None)
    usual = usual or sweep.DEFAULT_THRESHOLDS
    grid = sweep.parse_grid(kind, usual if text in {None, USUAL} else str(text))
    check_scale(scale)
    minimum = options.choose_refine(refine, no_refine, scale)
    side = options.choose_tile(tile)
    where = resolve_device(device)
    resolve_precision(precision, where)
    sources = find_pairs(pictures or [demo_picture()], scale, lr, no_reference)
    measuring.check_writable(csv)
    if report is not None:
        from pcsr_cli.pages.rendering import check_page

        check_page(report, grid, overwrite=True)
    if plot is not None:
        from pcsr_cli.measuring.figure import check_figure

        check_figure(plot)
    given = None if original is None else load_original(original, where)
    loaded = options.load_model(model, device, precision, registry, scale, quiet)
    asked = sweep.Options(grid, scale, minimum, side, luma, given)
    sweep.check(loaded, asked)
    curves, failures = _draw(loaded, sources, asked, quiet or json, report, no_reference)
    _hand_over(loaded, asked, curves, plot, csv, json, quiet, no_reference)
    if failures:
        raise SystemExit(1)


def _draw(
    loaded: "LoadedModel",
    sources: "tuple[Source, ...]",
    asked: "Options",
    silent: bool,
    report: Path | None,
    no_reference: bool,
) -> "tuple[list[Curve], int]":
    """Every picture's curve, and how many had none; with ``report`` the page to look at, too."""
    if report is None:
        from pcsr_cli.measuring.sweep import sweep

        return measuring.each_pair(
            "sweep", sources, asked.scale, silent, lambda pair, progress: sweep(loaded, pair, asked, progress)
        )
    seen, failures = pages.see_pictures(loaded, sources, asked, silent)
    pages.write(report, loaded, asked, no_reference, seen)
    return [picture.curve for picture in seen], failures


def _hand_over(
    loaded: "LoadedModel",
    asked: "Options",
    curves: "list[Curve]",
    plot: Path | None,
    csv: Path | None,
    json: bool,
    quiet: bool,
    no_reference: bool,
) -> None:
    from pcsr_cli.measuring import sweep

    mean = sweep.mean_curve(curves) if len(curves) > 1 else curves[0]
    quality = f"PSNR {'(luma) ' if asked.luma else ''}against {'all heavy' if no_reference else 'HR'}"
    if plot is not None:
        from pcsr_cli.measuring.figure import plot_curves

        plot_curves(plot, curves, mean, quality, printable(f"{loaded.identity.name} x{asked.scale:g}, {mean.picture}"))
    if csv is not None:
        measuring.write_rows(csv, mean.points)
    if json:
        print_document(document(loaded, asked, curves, no_reference))
    elif not quiet:
        from pcsr_cli.cli.sweep_view import show

        show(mean, loaded, asked, quality, data())


def document(loaded: "LoadedModel", asked: "Options", curves: "list[Curve]", no_reference: bool) -> dict[str, object]:
    """The curves and their mean as a JSON document."""
    from pcsr_cli.measuring import sweep

    def described(curve: "Curve") -> dict[str, object]:
        marks = {"light": curve.light, "heavy": curve.heavy, "adm": curve.adm, "knee": curve.knee}
        named = {name: None if point is None else measuring.plain(point) for name, point in marks.items()}
        original = None if curve.original is None else measuring.plain(curve.original)
        points = [measuring.plain(point) for point in curve.points]
        return {"picture": printable(curve.picture), "points": points, **named, "original": original}

    return {
        **measuring.provenance(loaded),
        "scale": asked.scale,
        "refine": asked.refine,
        "grid": {"of": asked.grid.kind, "values": list(asked.grid.values)},
        "psnr_of": "luma" if asked.luma else "RGB",
        "psnr_against": "all heavy" if no_reference else "HR",
        "knee_rule": sweep.KNEE_RULE,
        "curves": [described(curve) for curve in curves],
        "mean": described(sweep.mean_curve(curves) if len(curves) > 1 else curves[0]),
    }
