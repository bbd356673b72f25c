"""Before and after in the terminal, as half blocks: two pixels a character.

A whole picture as small as a terminal would look the same before and after. So both sides show the same detail, the
one with the most contrast, with a result's pixel to half a character; the source's pixels are the squares they are.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from pcsr_cli.cli.console import print_message, stderr_console

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pcsr_cli.images.image import Pixels
    from pcsr_cli.jobs.pipeline import Ready

UPPER_HALF = "▀"
GAP = 2
SPARE_ROWS = 4
SMALLEST = 8
"""Columns and rows of characters; in less there is nothing to be seen."""

SEARCHED = 2**20
"""Pixels of a picture that are looked at for contrast, at most: of a larger one every second, every third..."""


@dataclass(frozen=True)
class Detail:
    """The same detail of both, (2n, m, 3) uint8, and where it begins in the result: row, column."""

    before: "NDArray[np.uint8]"
    after: "NDArray[np.uint8]"
    at: tuple[int, int]


class Lookout:
    """Sees the rows of a result go by and keeps those of a detail: nothing is read again, and nothing else is kept."""

    def __init__(self, room: tuple[int, int]) -> None:
        """``room`` is the height and width of a detail at most."""
        self.room = room
        self.detail: Detail | None = None
        self._passed = 0

    def watch(self, ready: "Ready") -> "Lookout":
        """Choose the detail of a picture whose result is about to come."""
        size = (ready.layout.height, ready.layout.width)
        self.detail = choose_detail(ready.picture.rgb, size, self.room)
        self._passed = 0
        return self

    def write(self, rows: "Pixels") -> None:
        """See the next rows, (n, W, 1 to 4), grey or RGB and perhaps alpha; of frames only the first counts."""
        from pcsr_cli.images.image import to_8_bits

        assert self.detail is not None
        (row, column), (height, width) = self.detail.at, self.detail.after.shape[:2]
        top, self._passed = self._passed, self._passed + len(rows)
        start, stop = max(row, top), min(row + height, self._passed)
        if start < stop:
            seen = to_8_bits(rows[start - top : stop - top, column : column + width])
            self.detail.after[start - row : stop - row] = seen[..., :3] if seen.shape[2] > 2 else seen[..., :1]

    def draw(self) -> None:
        """Draw the detail on stderr."""
        assert self.detail is not None
        stderr_console().print(drawn(self.detail))


def look_out() -> Lookout | None:
    """A lookout for a detail of the terminal's size, or None, and why is said, where nothing can be drawn."""
    console = stderr_console()
    if refusal := why_not(console):
        print_message(f"Note: no preview: {refusal}.")
        return None
    return Lookout((2 * (console.height - SPARE_ROWS), (console.width - GAP) // 2))


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


def choose_detail(before: "Pixels", size: tuple[int, int], room: tuple[int, int]) -> Detail:
    """The detail of most contrast that fits into ``room`` (height, width) at the result's own pixels, which are black
    as yet.

    ``before`` (h, w, 3) is what a result of ``size`` shows larger; heights of details are even."""
    import numpy as np

    from pcsr_cli.images.image import to_8_bits

    (h, w), (high, wide) = before.shape[:2], size
    height, width = min(room[0], high) // 2 * 2 or high, min(room[1], wide)
    step = math.ceil(math.sqrt(h * w / SEARCHED))
    top, left = _busiest(
        to_8_bits(before[::step, ::step]),
        max(1, round(height * h / high / step)),
        max(1, round(width * w / wide / step)),
    )
    row, column = min(top * step * high // h, high - height), min(left * step * wide // w, wide - width)
    rows = (np.arange(row, row + height) * 2 + 1) * h // (2 * high)
    columns = (np.arange(column, column + width) * 2 + 1) * w // (2 * wide)
    shown = to_8_bits(before[rows[:, None], columns])
    return Detail(shown, np.zeros_like(shown), (row, column))


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
