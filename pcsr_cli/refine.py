"""Refinement: light pixels beside heavy ones are smoothed, so that no seam shows (paper, section 3.4).

A light pixel with at least #h heavy pixels among its 3x3 neighbours becomes the mean of its 3x3 neighbourhood, itself
included, of the prediction before any replacement. The image's outermost ring is never replaced.
"""

import torch.nn.functional as F
from torch import Tensor

RING = 1
"""HR pixels around a region that its refinement depends on."""

NEVER = 9
"""The #h no light pixel can reach: eight neighbours at most are heavy."""


def refine(prediction: Tensor, heavy: Tensor, minimum: int) -> Tensor:
    """Refine the inside of a region; its outermost ring of pixels is returned as it came.

    ``prediction`` (3, H, W) float32, any units; ``heavy`` (H, W) bool; ``minimum`` is #h, from 0 (replace every
    light pixel) to 9 (none). To refine a part of an image, give it with a ring of one pixel around, but for the
    image's own border."""
    height, width = heavy.shape
    if minimum >= NEVER or height < 3 or width < 3:
        return prediction
    mean = F.avg_pool2d(prediction[None], 3, stride=1)[0]
    heavy_neighbours = F.avg_pool2d(heavy[None, None].float(), 3, stride=1, divisor_override=1)[0, 0]
    inside = (slice(1, -1), slice(1, -1))
    replaced = ~heavy[inside] & (heavy_neighbours >= minimum)
    refined = prediction.clone()
    refined[:, 1:-1, 1:-1] = mean.where(replaced, prediction[:, 1:-1, 1:-1])
    return refined
