"""Refinement: smooth light pixels beside heavy ones to hide seams (paper, section 3.4).

A light pixel with at least #h heavy pixels among its 3x3 neighbours becomes the mean of its 3x3 neighbourhood, itself
included. The mean uses the prediction before refinement. The outermost ring of the image is not refined.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pcsr_cli.engine.rules import NEVER

RING = 1
"""HR pixels around a region that its refinement reads."""


def refine(prediction: Tensor, heavy: Tensor, minimum: int) -> Tensor:
    """Refine a region in place, except its outermost ring of pixels, and return it.

    ``prediction`` is (3, H, W) float32 in any units. ``heavy`` is (H, W) bool. ``minimum`` is #h, from 0
    (replace every light pixel) to 9 (none). To refine a part of an image, include one more pixel on each side that is
    not a border of the image.
    """
    height, width = heavy.shape
    if minimum >= NEVER or height < 3 or width < 3:
        return prediction
    # At weights of 0 and 1, interpolation returns one of the two values exactly.
    prediction[:, 1:-1, 1:-1].lerp_(sum_3x3(prediction).div_(9), seam_of(heavy, minimum).float())
    return prediction


def seam_of(heavy: Tensor, minimum: int) -> Tensor:
    """The pixels that refinement replaces, without the outermost ring: (H - 2, W - 2) bool."""
    return (sum_3x3(heavy.to(torch.uint8)) >= minimum) & ~heavy[1:-1, 1:-1]


def sum_3x3(x: Tensor) -> Tensor:
    """Sum over 3x3 neighbourhoods: (..., H, W) to (..., H - 2, W - 2), several times faster than average pooling on a
    CPU.
    """
    rows = x[..., :-2, :] + x[..., 1:-1, :]
    rows += x[..., 2:, :]
    columns = rows[..., :-2] + rows[..., 1:-1]
    columns += rows[..., 2:]
    return columns


def refine_bands(bands: Iterable[tuple[Tensor, Tensor]], minimum: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Refine a region given in bands of rows, top to bottom. The result equals ``refine`` on the whole region.

    ``bands`` and the results are predictions (3, n, W) float32 with their branches (n, W) uint8. A row is refined once
    the next row is available, so results lag by one row and a band may be empty.
    """
    if minimum >= NEVER:
        yield from bands
        return
    tail: tuple[Tensor, Tensor] | None = None
    for prediction, labels in bands:
        first = 0
        if tail is not None:
            prediction, labels = torch.cat((tail[0], prediction), dim=1), torch.cat((tail[1], labels))
            first = tail[1].shape[0] - 1
        tail = (prediction[:, -2:].clone(), labels[-2:].clone())
        refined = refine(prediction, labels > 0, minimum)
        yield refined[:, first:-1], labels[first:-1]
    if tail is not None:
        yield tail[0][:, -1:], tail[1][-1:]
