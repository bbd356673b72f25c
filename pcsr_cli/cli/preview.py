"""Before and after in the terminal, as half blocks: two pixels a character.

A whole picture as small as a terminal would look the same before and after. So both sides show the same detail, the
one with the most contrast, with a result's pixel to half a character; the source's pixels are the squares they are.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from pcsr_cli.cli.console import say, talk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UPPER_HALF = "▀"
GAP = 2
SPARE_ROWS = 4
SMALLEST = 8
"""Columns and rows of characters; in less there is nothing to be seen."""


@dataclass(frozen=True)
class Detail:
    """The same detail of both, (2n, m, 3) uint8, and where it begins in the result: row, column."""

    before: "NDArray[np.uint8]"
    after: "NDArray[np.uint8]"
    at: tuple[int, int]


def preview(source: Path | BinaryIO, result: Path | BinaryIO, allow_huge: bool = False) -> None:
    """Draw a picture and its result on stderr, or say why not. Raises InputError."""
    console = talk()
    refusal = why_not(console)
    if refusal is None and not isinstance(result, Path):
        refusal = "the result has gone to stdout"
    if refusal is not None:
        say(f"Note: no preview: {refusal}.")
        return
    from pcsr_cli.pictures.picture import to_8_bits
    from pcsr_cli.pictures.reading import read_picture

    if not isinstance(source, Path):
        source.seek(0)
    before, after = (to_8_bits(read_picture(place, allow_huge).rgb) for place in (source, result))
    columns, rows = (console.width - GAP) // 2, console.height - SPARE_ROWS
    console.print(drawn(choose_detail(before, after, (2 * rows, columns))))


def why_not(console: Console) -> str | None:
    """What keeps a console from drawing, or None."""
    if not console.is_terminal or console.is_dumb_terminal:
        return "stderr is no terminal that draws"
    if console.color_system is None:
        return "the terminal shows no colours"
    if min(console.width // 2, console.height - SPARE_ROWS) < SMALLEST:
        return "the terminal is too small"
    try:
        UPPER_HALF.encode(console.encoding)
    except UnicodeEncodeError:
        return f"{console.encoding} has no half blocks"
    return None


def choose_detail(before: "NDArray[np.uint8]", after: "NDArray[np.uint8]", room: tuple[int, int]) -> Detail:
    """The detail of most contrast that fits into ``room`` (height, width) at the result's own pixels.

    ``before`` (h, w, 3) and ``after`` (H, W, 3) show the same; heights of details are even."""
    import numpy as np

    (h, w), (high, wide) = before.shape[:2], after.shape[:2]
    height, width = min(room[0], high) // 2 * 2 or high, min(room[1], wide)
    top, left = _busiest(before, max(1, round(height * h / high)), max(1, round(width * w / wide)))
    row, column = min(top * high // h, high - height), min(left * wide // w, wide - width)
    part = after[row : row + height, column : column + width]
    rows = (np.arange(row, row + height) * 2 + 1) * h // (2 * high)
    columns = (np.arange(column, column + width) * 2 + 1) * w // (2 * wide)
    return Detail(before[rows][:, columns], part, (row, column))


def _busiest(rgb: "NDArray[np.uint8]", height: int, width: int) -> tuple[int, int]:
    """Where (row, column) the window of that size begins whose pixels differ most from their neighbours."""
    import numpy as np

    luma = rgb.mean(axis=2, dtype=np.float32)
    change = np.abs(np.diff(luma, axis=0, append=luma[-1:])) + np.abs(np.diff(luma, axis=1, append=luma[:, -1:]))
    sums = np.pad(change, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    windows = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    row, column = np.unravel_index(int(windows.argmax()), windows.shape)
    return int(row), int(column)


def drawn(detail: Detail) -> Table:
    """Both sides, each under its name."""
    row, column = detail.at
    height, width = detail.after.shape[:2]
    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_row("before", f"after: {width}x{height} pixels at {column},{row}")
    table.add_row(half_blocks(detail.before), half_blocks(detail.after))
    return table


def half_blocks(rgb: "NDArray[np.uint8]") -> Text:
    """(2n, m, 3) uint8 as n lines of m characters, the upper pixel in front, the lower one behind."""
    lines = []
    for upper, lower in zip(rgb[::2].tolist(), rgb[1::2].tolist(), strict=False):
        line = Text(no_wrap=True)
        for above, below in zip(upper, lower, strict=True):
            line.append(UPPER_HALF, Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        lines.append(line)
    return Text("\n").join(lines)
