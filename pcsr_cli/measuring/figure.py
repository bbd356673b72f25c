"""The curve as a figure (needs matplotlib, which is an extra)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pcsr_cli.errors import OutputError, PlotError
from pcsr_cli.files import put_in_place, written_whole
from pcsr_cli.measuring.sweep import Curve, Point

SUFFIXES = (".png", ".svg", ".pdf")
INK, ACCENT, QUIET = "#1b1b1f", "#c2410c", "#9aa0a6"


def check_figure(output: Path) -> None:
    """Raise PcsrError, before any work, for a figure of an unknown format, and where nothing could draw it."""
    if output.suffix.lower() not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise OutputError(f"A plot is not written as {output.name!r}.", f"Use one of {known}.")
    _figure_class()


def plot_curves(output: Path, curves: Sequence[Curve], mean: Curve, quality: str, title: str, replace: bool) -> None:
    """Draw PSNR over GFLOPs: the mean with its marks, each picture's curve behind it. Raises PlotError."""
    figure = _figure_class()(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    if len(curves) > 1:
        for curve in curves:
            shown = _finite(curve.points)
            axes.plot([p.paper for p in shown], [p.psnr for p in shown], color=QUIET, linewidth=0.8, alpha=0.6)
    _draw_mean(axes, mean)
    axes.set_xlabel("GFLOPs, by the paper's convention")
    axes.set_ylabel(f"{quality}, dB")
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="lower right", facecolor="white", edgecolor="none", framealpha=0.9)
    kind = output.suffix.lower()[1:]
    with written_whole(output) as temporary:
        figure.savefig(temporary, format=kind, dpi=160)
        put_in_place(temporary, output, replace)


def _draw_mean(axes: Any, mean: Curve) -> None:
    shown = _finite(mean.points)
    axes.plot([p.paper for p in shown], [p.psnr for p in shown], color=INK, marker=".", linewidth=1.4, label="PCSR")
    marks = ((mean.light, "v", INK, "all light"), (mean.heavy, "^", INK, "all heavy"), (mean.adm, "D", ACCENT, "ADM"))
    for point, marker, colour, label in marks:
        if math.isfinite(point.psnr):
            _mark(axes, point, marker, colour, f"{label}: {point.psnr:.2f} dB, {point.paper:.1f}")
    if mean.knee is not None:
        knee = mean.knee
        where = "" if knee.cut is None else f" at {knee.cut:.3g}"
        axes.scatter([knee.paper], [knee.psnr], s=110, facecolors="none", edgecolors=ACCENT, linewidths=1.6, zorder=4)
        axes.scatter([], [], s=60, facecolors="none", edgecolors=ACCENT, label=f"knee{where}: {knee.psnr:.2f} dB")
    if mean.original is not None:
        label = f"original: {mean.original.paper:.1f}"
        if mean.original.psnr is None:
            axes.axvline(mean.original.paper, color=QUIET, linestyle="--", linewidth=1, label=label)
        else:
            axes.scatter([mean.original.paper], [mean.original.psnr], marker="s", color=QUIET, label=label, zorder=3)


def _mark(axes: Any, point: Point, marker: str, colour: str, label: str) -> None:
    axes.scatter([point.paper], [point.psnr], marker=marker, s=36, color=colour, label=label, zorder=5)


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point.psnr)]


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError("Plots need matplotlib.", "Install it with: pip install 'pcsr[plot]'.") from error
    return Figure
