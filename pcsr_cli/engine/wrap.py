"""Wrap an image around its edges, so that the result of a tileable texture is tileable.

The image gets a border of pixels from its opposite edges, is upscaled as usual, and the border of the result is cut
off. The rest equals the same part of an endless tiling if positions are exact: a pixel of the result depends only on LR
pixels within ``reach``, which the border contains, and on its position on the LR grid, which repeats with the image at
an integer scale. The network's own padding reaches only pixels that are cut off. Computing the padded image in tiles
does not change its result. The routing must not depend on statistics of all pixels, because the pixels of the border
occur twice.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from pcsr_cli.errors import UsageError
from pcsr_cli.images.image import ImageData, Pixels
from pcsr_cli.model.network import Pcsr

Axes = Literal["x", "y", "xy"]
"""The directions in which an image is tiled."""


def reach(model: Pcsr) -> int:
    """The distance in LR pixels within which other pixels affect a pixel. The distance is the receptive radius, plus
    one for refinement and the bilinear base, plus three for bicubic resizing of the result. Raises UsageError for a
    backbone that reads the whole image."""
    radius = model.encoder.receptive_radius
    if radius is None:
        message = f"The backbone {model.spec.backbone.name} reads the whole image, so its results cannot be tileable."
        raise UsageError(message, "Use another model.", setting="wrap")
    return radius + 4


def wrapped(image: ImageData, axes: Axes, border: int) -> ImageData:
    """Add ``border`` LR pixels from the opposite edges on both sides of each axis."""
    sides = [(border, border) if axis in axes else (0, 0) for axis in "yx"]
    alpha = None if image.alpha is None else np.pad(image.alpha, sides, mode="wrap")
    return replace(image, rgb=np.pad(image.rgb, [*sides, (0, 0)], mode="wrap"), alpha=alpha)


def unwrapped(rows: Iterable[Pixels], size: tuple[int, int], axes: Axes, border: int) -> Iterator[Pixels]:
    """Yield the rows (n, W, C) of a result of ``size`` (height, width) without their ``border``, in HR pixels."""
    first, left = (border if axis in axes else 0 for axis in "yx")
    top = -first
    for block in rows:
        part = block[max(0, -top) : max(0, size[0] - top), left : left + size[1]]
        top += len(block)
        if len(part):
            yield np.ascontiguousarray(part)
