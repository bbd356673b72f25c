"""Where finished pixels go: the whole result in memory, or strips of rows on their way to somewhere else.

As numbers, or as levels of 8 or 16 bits, rounded and clamped."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from pcsr_cli.engine.levels import to_levels
from pcsr_cli.engine.tiles import Rect, Span
from pcsr_cli.transfers import Downloads


class Canvas(Protocol):
    """Takes the result strip by strip from the top, and within a strip areas in any order.

    ``strip_pixel_bytes`` is what a pixel of a strip costs in memory; 0 where a strip costs nothing beside the whole.
    """

    strip_pixel_bytes: int

    def begin(self, rows: Span) -> None:
        """The strip that comes next."""
        ...

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area of the strip; it may come again, and then counts instead.

        ``rgb`` (n, W, 3) is float32 in [0, 1] but not clamped, ``labels`` (n, W) uint8 are branches."""
        ...

    def finish(self) -> None:
        """The strip is complete."""
        ...


class _WholeCanvas:
    """The whole result in memory."""

    strip_pixel_bytes = 0

    def __init__(self) -> None:
        self._downloads = Downloads()

    def begin(self, rows: Span) -> None:
        """Nothing to prepare."""

    def finish(self) -> None:
        """Wait for what is under way."""
        self._downloads.settle()


class FloatCanvas(_WholeCanvas):
    """The whole result as float32 RGB (3, H, W), not clamped, and its branches (H, W) uint8, on the CPU."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.rgb = torch.empty(3, height, width, dtype=torch.float32, device="cpu")
        self.labels = torch.empty(height, width, dtype=torch.uint8, device="cpu")

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area of the result."""
        self._downloads.bring(rgb.permute(2, 0, 1), self.rgb[:, *area.slices])
        self._downloads.bring(labels, self.labels[area.slices])


class ByteCanvas(_WholeCanvas):
    """The whole result as uint8 RGB (H, W, 3), rounded and clamped, and its branches (H, W) uint8, on the CPU."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.rgb = torch.empty(height, width, 3, dtype=torch.uint8, device="cpu")
        self.labels = torch.empty(height, width, dtype=torch.uint8, device="cpu")

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area of the result."""
        self._downloads.bring(to_levels(rgb, torch.uint8), self.rgb[area.slices])
        self._downloads.bring(labels, self.labels[area.slices])


class RowCanvas:
    """Gathers one strip of the result at a time and hands it on as full-width rows, top to bottom.

    ``take`` gets each strip's rows (n, W, 3) on the CPU, of ``dtype``: uint8 or uint16 levels, or float32 numbers,
    not clamped. They are its own. ``branches`` (H, W) uint8, if given, is filled with all pixels' branches."""

    def __init__(
        self, width: int, dtype: torch.dtype, take: Callable[[Tensor], None], branches: Tensor | None = None
    ) -> None:
        self.width = width
        self.dtype = dtype
        self.take = take
        self.branches = branches
        self.strip_pixel_bytes = 3 * dtype.itemsize
        self._rows = Span(0, 0)
        self._strip = self._room()
        self._downloads = Downloads()

    def begin(self, rows: Span) -> None:
        """Make room for a strip."""
        self._rows = rows
        self._strip = self._room()

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area of the strip."""
        values = rgb if self.dtype.is_floating_point else to_levels(rgb, self.dtype)
        inside = area.within(Rect(self._rows, Span(0, self.width)))
        self._downloads.bring(values, self._strip[inside])
        if self.branches is not None:
            self._downloads.bring(labels, self.branches[area.slices])

    def finish(self) -> None:
        """Hand the strip on."""
        self._downloads.settle()
        strip, self._rows = self._strip, Span(0, 0)
        self._strip = self._room()
        self.take(strip)

    def _room(self) -> Tensor:
        return torch.empty(self._rows.length, self.width, 3, dtype=self.dtype, device="cpu")
