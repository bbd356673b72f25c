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
    """Refine a region except its outermost ring of pixels, which is returned unchanged.

    ``prediction`` is (H, W, 3) float32 in any units, contiguous. ``heavy`` is (H, W) bool. ``minimum`` is #h, from 0
    (replace every light pixel) to 9 (none). To refine a part of an image, include one more pixel on each side that is
    not a border of the image.
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
    """Convert a mask to int32 with all bits set or none, for ``choose``."""
    return mask.to(torch.int32).neg_()


def choose(values: Tensor, others: Tensor, where: Tensor) -> None:
    """Replace ``values`` by ``others``, both float32, where the bits of ``where`` are set. ``others`` is overwritten.

    The result is exact. This form is several times faster than ``torch.where``, which branches on every number.
    """
    kept, chosen = values.view(torch.int32), others.view(torch.int32)
    kept.bitwise_xor_(chosen.bitwise_xor_(kept).bitwise_and_(where))


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
    """Refine a region given in bands of rows, top to bottom. The result equals that of ``refine`` on the whole region.

    ``bands`` and the results are predictions (n, W, 3) float32 with their branches (n, W) uint8. A row is refined once
    the next row is available, so results lag by one row and a band may be empty.
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
