"""Refinement: light pixels beside heavy ones are smoothed, so that no seam shows (paper, section 3.4).

A light pixel with at least #h heavy pixels among its 3x3 neighbours becomes the mean of its 3x3 neighbourhood, itself
included, of the prediction before any replacement. The image's outermost ring is never replaced.
"""

import torch
from torch import Tensor

RING = 1
"""HR pixels around a region that its refinement depends on."""

NEVER = 9
"""The #h no light pixel can reach: eight neighbours at most are heavy."""

PUBLISHED = 1
"""The #h of the published results, all of which are x4."""

SMALLEST_REFINED = 3.0
"""Below this scale a mean of 3x3 pixels blurs more than a seam would show: over Set14 it costs 0.29 dB at x2.

At x3 it costs 0.02 dB."""


def usual_refine(scale: float) -> int:
    """The #h to take for a scale where none is asked for: as published, but none below x3."""
    return PUBLISHED if scale >= SMALLEST_REFINED else NEVER


def refine(prediction: Tensor, heavy: Tensor, minimum: int) -> Tensor:
    """Refine the inside of a region; its outermost ring of pixels is returned as it came.

    ``prediction`` (H, W, 3) float32, any units, contiguous; ``heavy`` (H, W) bool; ``minimum`` is #h, from 0 (replace
    every light pixel) to 9 (none). To refine a part of an image, give it with a ring of one pixel around, but for the
    image's own border.
    """
    height, width = heavy.shape
    if minimum >= NEVER or height < 3 or width < 3:
        return prediction
    replaced = seam_of(heavy, minimum)
    mean = sum_3x3(prediction.permute(2, 0, 1)).permute(1, 2, 0).div_(9)
    refined = prediction.clone()
    choose(refined[1:-1, 1:-1], mean, bits(replaced)[..., None].expand(mean.shape).contiguous())
    return refined


def bits(mask: Tensor) -> Tensor:
    """A mask as int32 of all bits or none, for ``choose``."""
    return mask.to(torch.int32).neg_()


def choose(values: Tensor, others: Tensor, where: Tensor) -> None:
    """Put ``others`` in the place of ``values`` ``where`` bits are set; ``others`` are overwritten. All float32.

    Exact, and several times faster than ``torch.where``, which takes a branch for every number.
    """
    kept, chosen = values.view(torch.int32), others.view(torch.int32)
    kept.bitwise_xor_(chosen.bitwise_xor_(kept).bitwise_and_(where))


def seam_of(heavy: Tensor, minimum: int) -> Tensor:
    """The pixels that refinement replaces, of all but the outermost ring: (H - 2, W - 2) bool."""
    return (sum_3x3(heavy.to(torch.uint8)) >= minimum) & ~heavy[1:-1, 1:-1]


def sum_3x3(x: Tensor) -> Tensor:
    """Sums over the 3x3 neighbourhoods inside (..., H, W); several times faster than average pooling is on a CPU."""
    rows = x[..., :-2, :] + x[..., 1:-1, :]
    rows += x[..., 2:, :]
    columns = rows[..., :-2] + rows[..., 1:-1]
    columns += rows[..., 2:]
    return columns


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
