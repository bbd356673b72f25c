"""The table that ends a bench: a picture's methods side by side, then the means."""

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pcsr_cli.cli.console import printable

if TYPE_CHECKING:
    from pcsr_cli.evaluate.bench import Options, Result, Row
    from pcsr_cli.model.registry import LoadedModel

NARROW = 100
"""Terminal columns below which the table leaves out what is least."""


def show(result: "Result", model: "LoadedModel", asked: "Options", no_reference: bool, console: Console) -> None:
    """Draw what was measured."""
    against = "all heavy" if no_reference else "HR"
    shave = f"{-(-asked.scale // 1):.0f}"
    console.print(
        Text(
            printable(
                f"{model.identity.name} x{asked.scale:g}; PSNR of {'luma' if asked.luma else 'RGB'} against {against}, "
                f"SSIM of luma, {shave} border pixels left out; GFLOPs by the paper and as executed; "
                f"seconds of computing, of patch routing none (composed)."
            )
        )
    )
    single = len(result.mean) == 1
    table = _empty_table("picture" if single else "picture, method", console.width)
    for picture, group in groupby(result.rows, key=lambda row: (row.picture, row.size)):
        rows = list(group)
        if not single:
            table.add_row(_named(picture[0], picture[1]), style="bold")
        for row in rows:
            table.add_row(_named(row.picture, row.size) if single else f"  {row.method}", *_cells(row))
    count = len(result.rows) // len(result.mean)
    table.add_section()
    table.add_row(f"mean of {count}", style="bold")
    for row in result.mean:
        table.add_row(f"  {row.method}", *_cells(row))
    console.print(table)
    if result.skipped:
        console.print(f"{len(result.skipped)} skipped: see above.")


def _empty_table(first: str, width: int) -> Table:
    gap = 1 if width < NARROW else 2
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column(first, no_wrap=True, overflow="ellipsis", max_width=width - 59 if width < NARROW else None)
    for heading in ("heavy", "PSNR", "SSIM", "GFLOPs", "exec.", "of orig.", "s", "MP/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _named(name: str, size: tuple[int, int] | None) -> Text:
    return Text(printable(name) if size is None else f"{printable(name)} {size[0]}x{size[1]}")


def _cells(row: "Row") -> Iterator[str]:
    yield _number(row.heavy_share, ".1%")
    yield "equal" if row.psnr == float("inf") else _number(row.psnr, ".3f")
    yield _number(row.ssim, ".4f")
    yield _number(row.paper, ",.2f")
    yield _number(row.executed, ",.2f")
    yield _number(row.original_share, ".1%")
    yield _number(row.seconds, ".2f")
    yield _number(row.megapixels_per_second, ".2f")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
