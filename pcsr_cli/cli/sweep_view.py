"""The end of a sweep on the terminal: the points as a table, the curve drawn in characters."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pcsr_cli.cli.console import printable

if TYPE_CHECKING:
    from pcsr_cli.evaluate.sweep import Curve, Options, Point
    from pcsr_cli.model.registry import LoadedModel

ROWS = 12
WIDEST = 110


def show(curve: "Curve", model: "LoadedModel", asked: "Options", quality: str, console: Console) -> None:
    """Draw the table and the curve."""
    from pcsr_cli.evaluate.sweep import KNEE_RULE

    title = f"{model.identity.name} x{asked.scale:g}, {curve.picture}: {quality}, dB; SSIM of luma; GFLOPs by the paper"
    console.print(Text(printable(f"{title} and as executed.")))
    console.print(_table(curve))
    console.print()
    if not _finite(curve):
        console.print(Text("Every result equals the reference: there is no curve to draw."))
        return
    for line in draw(curve, min(console.width, WIDEST), console.encoding):
        console.print(Text(line), no_wrap=True, crop=True)
    console.print(Text(f"A: ADM. K: the knee, {KNEE_RULE}." if curve.knee else "A: ADM. There is no knee."))


def _table(curve: "Curve") -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("cut", "k", "heavy", "GFLOPs", "exec.", "of orig.", "PSNR", "SSIM"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for point in curve.points:
        table.add_row(*_cells(point, curve), "knee" if point == curve.knee else "", style=_style(point, curve))
    table.add_section()
    for name, point in (("all light", curve.light), ("all heavy", curve.heavy), ("ADM", curve.adm)):
        table.add_row(*_cells(point, curve), name)
    if curve.original is not None:
        original = curve.original
        quality = "-" if original.psnr is None else f"{original.psnr:.3f}"
        figures = (f"{original.paper:,.2f}", f"{original.executed:,.2f}", "100.0%", quality)
        table.add_row("-", "-", "-", *figures, "-", "original")
    return table


def _style(point: "Point", curve: "Curve") -> str | None:
    return "bold" if point == curve.knee else None


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
    """The curve in lines of at most ``width`` characters, PSNR over GFLOPs; one PSNR at least has to be finite."""
    points = _finite(curve)
    low, high = min(point.psnr for point in points), max(point.psnr for point in points)
    left, right = min(point.paper for point in points), max(point.paper for point in points)
    columns = max(20, width - 9)
    dot = "•" if encoding.lower().startswith("utf") else "o"
    grid = [[" "] * columns for _ in range(ROWS)]

    def put(point: "Point", mark: str) -> None:
        if math.isfinite(point.psnr):
            across = (point.paper - left) / (right - left) if right > left else 0.0
            up = (point.psnr - low) / (high - low) if high > low else 0.0
            grid[ROWS - 1 - round(up * (ROWS - 1))][round(across * (columns - 1))] = mark

    for point in points:
        put(point, dot)
    if curve.knee is not None:
        put(curve.knee, "K")
    put(curve.adm, "A")
    for number, cells in enumerate(grid):
        level = high - (high - low) * number / (ROWS - 1)
        label = f"{level:7.3f}" if number in {0, ROWS - 1, ROWS // 2} else ""
        yield f"{label:>7} |{''.join(cells)}".rstrip()
    yield f"{'':7} +{'-' * (columns - 1)}"
    ends = f"{left:,.2f}", "GFLOPs (paper)", f"{right:,.2f}"
    space = columns - sum(map(len, ends))
    yield f"{'':8}{ends[0]}{' ' * (space // 2)}{ends[1]}{' ' * (space - space // 2)}{ends[2]}"
