"""Refinement: light pixels beside heavy ones are smoothed, so that no seam shows (paper, section 3.4).

A light pixel with at least #h heavy pixels among its 3x3 neighbours becomes the mean of its 3x3 neighbourhood, itself
included, of the prediction before any replacement. The image's outermost ring is never replaced.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

RING = 1
"""HR pixels around a region that its refinement depends on."""

NEVER = 9
"""The #h no light pixel can reach: eight neighbours at most are heavy."""


def refine(prediction: Tensor, heavy: Tensor, minimum: int) -> Tensor:
    """Refine the inside of a region; its outermost ring of pixels is returned as it came.

    ``prediction`` (H, W, 3) float32, any units, contiguous; ``heavy`` (H, W) bool; ``minimum`` is #h, from 0 (replace
    every light pixel) to 9 (none). To refine a part of an image, give it with a ring of one pixel around, but for the
    image's own border.
    """
    height, width = heavy.shape
    if minimum >= NEVER or height < 3 or width < 3:
        return prediction
    marks = heavy.to(torch.uint8)
    around = marks[:-2] + marks[1:-1] + marks[2:]
    around = around[:, :-2] + around[:, 1:-1] + around[:, 2:]
    row, column = ((around >= minimum) & ~heavy[1:-1, 1:-1]).nonzero(as_tuple=True)
    # Few pixels are replaced: only their neighbourhoods are looked up.
    centres = (row + 1) * width + column + 1
    offsets = torch.arange(-1, 2, device=heavy.device)
    neighbours = centres[:, None] + (offsets[:, None] * width + offsets).flatten()
    pixels = prediction.reshape(-1, 3)
    means = F.embedding_bag(neighbours, pixels, mode="mean")
    return pixels.index_copy(0, centres, means).view(height, width, 3)


class RowRefiner:
    """Refines a region that comes in bands of rows, top to bottom; the same numbers as all at once.

    A row can be refined once the next has come, so results lag by one row.
    """

    def __init__(self, minimum: int) -> None:
        self.minimum = minimum
        self.tail: tuple[Tensor, Tensor] | None = None

    def push(self, prediction: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Take rows (n, W, 3) and (n, W); returns the rows that are finished, which may be none, and their labels."""
        if self.minimum >= NEVER:
            return prediction, labels
        first = 0
        if self.tail is not None:
            prediction, labels = torch.cat((self.tail[0], prediction)), torch.cat((self.tail[1], labels))
            first = self.tail[1].shape[0] - 1
        refined = refine(prediction, labels > 0, self.minimum)
        self.tail = (prediction[-2:].clone(), labels[-2:].clone())
        return refined[first:-1], labels[first:-1]

    def finish(self) -> tuple[Tensor, Tensor] | None:
        """The last row, which nothing below could change."""
        if self.tail is None:
            return None
        return self.tail[0][-1:], self.tail[1][-1:]
