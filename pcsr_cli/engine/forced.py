"""Pixels whose branch a person chose: masks that overrule the classifier."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pcsr_cli.engine.grid import nearest_index
from pcsr_cli.engine.tiles import Rect, Span


@dataclass(frozen=True, eq=False)
class Forced:
    """The HR pixels of an image that must be light, and those that must be heavy.

    Each mask is (h, w) bool on the CPU, or None for no pixel. It may have any size: an HR pixel obeys the nearest
    mask pixel, which in a mask of the image's own HR size is itself. Where both are set, heavy wins; whoever reads
    masks refuses that.
    """

    hr_size: tuple[int, int]
    light: Tensor | None = None
    heavy: Tensor | None = None

    def overrule(self, labels: Tensor, area: Rect, heaviest: int) -> None:
        """Change the branches (n, W) uint8 of an area of HR pixels in place, on any device."""
        for mask, branch in ((self.light, 0), (self.heavy, heaviest)):
            if mask is not None:
                labels.masked_fill_(self._over(mask, area).to(labels.device), branch)

    def free(self, area: Rect) -> Tensor:
        """The pixels of an area that are left to the classifier, (n, W) bool."""
        chosen = torch.zeros(area.rows.length, area.columns.length, dtype=torch.bool, device="cpu")
        for mask in (self.light, self.heavy):
            if mask is not None:
                chosen |= self._over(mask, area)
        return ~chosen

    @property
    def counts(self) -> tuple[int, int]:
        """How many HR pixels are forced light, and how many heavy."""
        light, heavy = (0 if mask is None else self._count(mask) for mask in (self.light, self.heavy))
        return light, heavy

    def share_of_free(self, share: float) -> float:
        """The share of the free pixels that has to be heavy for a share of all to be, as nearly as masks allow."""
        light, heavy = self.counts
        pixels = self.hr_size[0] * self.hr_size[1]
        free = pixels - light - heavy
        return min(1.0, max(0.0, (share * pixels - heavy) / free)) if free else 0.0

    @property
    def clashes(self) -> int:
        """How many HR pixels both masks want."""
        if self.light is None or self.heavy is None:
            return 0
        light, heavy = self.light, self.heavy
        rows = (Rect(Span(row, row + 1), Span(0, self.hr_size[1])) for row in range(self.hr_size[0]))
        return sum(int((self._over(light, row) & self._over(heavy, row)).sum()) for row in rows)

    def _over(self, mask: Tensor, area: Rect) -> Tensor:
        """A mask over an area, (n, W) bool."""
        if tuple(mask.shape) == self.hr_size:
            return mask[area.slices]
        rows, columns = (
            _nearest(length, hr_length, span)
            for length, hr_length, span in zip(mask.shape, self.hr_size, (area.rows, area.columns), strict=True)
        )
        return mask[rows[:, None], columns]

    def _count(self, mask: Tensor) -> int:
        """The HR pixels that a mask sets: its own, each as often as it is the nearest."""
        rows, columns = (
            torch.bincount(_nearest(length, hr_length, Span(0, hr_length)), minlength=length)
            for length, hr_length in zip(mask.shape, self.hr_size, strict=True)
        )
        return int((mask.to(torch.int64) * columns).sum(dim=1) @ rows)


def _nearest(length: int, hr_length: int, span: Span) -> Tensor:
    return nearest_index(length, hr_length, torch.arange(span.start, span.stop, dtype=torch.int64, device="cpu"))
