"""Refinement: light pixels beside heavy ones are smoothed, so that no seam shows (paper, section 3.4).

A light pixel with at least #h heavy pixels among its 3x3 neighbours becomes the mean of its 3x3 neighbourhood, itself
included, of the prediction before any replacement. The image's outermost ring is never replaced.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

RING = 1
"""HR pixels around a region that its refinement depends on."""

NEVER = 9
"""The #h no light pixel can reach: eight neighbours at most are heavy."""

PUBLISHED = 1
"""The #h of the published results, all of which are x4."""

MIN_REFINED_SCALE = 3.0
"""Below this scale a mean of 3x3 pixels costs more than a seam: on Set14 0.29 dB at x2, but 0.02 dB at x3."""


def usual_refine(scale: float) -> int:
    """The default #h for a scale: as published, but none below x3."""
    return PUBLISHED if scale >= MIN_REFINED_SCALE else NEVER


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


def refine_bands(bands: Iterable[tuple[Tensor, Tensor]], minimum: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Refine a region that comes in bands of rows, top to bottom; the result is the same as for the whole at once.

    ``bands`` are predictions (n, W, 3) float32 with their branches (n, W) uint8, as are the results. A row is refined
    once the row below it has come, so results lag by one row and a band may be empty.
    """
    if minimum >= NEVER:
        yield from bands
        return
    tail: tuple[Tensor, Tensor] | None = None
    for prediction, labels in bands:
        first = 0
        if tail is not None:
            prediction, labels = torch.cat((tail[0], prediction)), torch.cat((tail[1], labels))
            first = tail[1].shape[0] - 1
        refined = refine(prediction, labels > 0, minimum)
        tail = (prediction[-2:].clone(), labels[-2:].clone())
        yield refined[first:-1], labels[first:-1]
    if tail is not None:
        yield tail[0][-1:], tail[1][-1:]
