"""Convert the rows of an upscale to rows of a file: resize, merge grey channels, add alpha, round to 8 or 16 bits."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from pcsr_cli.engine.device import LEVELS, to_levels
from pcsr_cli.engine.upscale import BLOCK_BYTES, HrRows
from pcsr_cli.images.image import ImageData, Pixels, fill_transparent
from pcsr_cli.images.resize import RowResizer, resize_bicubic_rows


def output_rows(
    rows: Iterable[HrRows],
    image: ImageData,
    working_size: tuple[int, int],
    size: tuple[int, int],
    depth: int,
    strength: float = 1.0,
) -> Iterator[Pixels]:
    """Yield the rows of the enlarged ``image`` from the top, as blocks (n, W, C) of ``depth`` bits (uint8 or uint16).

    ``rows`` are the result at ``working_size`` (height, width). If ``working_size`` differs from ``size``, the rows are
    float32 and are resized bicubically. If the sizes are equal, the rows are integers of ``depth`` bits. A grey image
    gets one colour channel. A ``strength`` below 1 mixes float32 rows with the bicubically enlarged image, which is the
    result at 0. An image with alpha gets its bicubically enlarged alpha as the last channel.
    """
    resizer = None if working_size == size else RowResizer(working_size, size)
    step = max(1, BLOCK_BYTES * working_size[0] // (12 * max(size[1], working_size[1]) * max(size[0], working_size[0])))
    plain = fill_transparent(image.rgb, image.alpha) if strength < 1 else image.rgb
    peak = np.float32(2**image.depth - 1)
    alpha = None if image.alpha is None else Alpha(image.alpha, size, depth)
    top = 0
    for block in rows:
        for part in (block.rgb,) if resizer is None else torch.split(block.rgb, step):
            levels = part
            if resizer is not None:
                levels = torch.from_numpy(resizer.push(part.numpy()))
            if strength < 1 and len(levels):
                bicubic = torch.from_numpy(resize_bicubic_rows(plain, *size, top, top + len(levels)) / peak)
                levels = bicubic + strength * (levels - bicubic)
            if levels.dtype == torch.float32:
                levels = to_levels(levels, LEVELS[depth])
            rgb: Pixels = levels.numpy()
            if not len(rgb):
                continue
            channels = _grey(rgb) if image.grey else rgb
            if alpha is not None:
                channels = np.concatenate((channels, alpha.rows(top, top + len(rgb))[..., None]), axis=2)
            top += len(rgb)
            yield channels


class Alpha:
    """Enlarges alpha (h, w) uint8 or uint16 bicubically to ``size`` at ``depth`` bits, some rows at a time.

    A constant alpha keeps its value exactly.
    """

    def __init__(self, alpha: Pixels, size: tuple[int, int], depth: int) -> None:
        self.alpha = alpha
        self.size = size
        self.dtype = np.uint8 if depth == 8 else np.uint16
        self.peak = np.iinfo(self.dtype).max
        self.factor = np.float32(self.peak / np.iinfo(alpha.dtype).max)
        self.constant = bool((alpha == alpha[0, 0]).all())

    def rows(self, start: int, stop: int) -> Pixels:
        """Rows ``start``..``stop``, (n, W)."""
        if self.constant:
            level = np.rint(self.alpha[0, 0] * self.factor)
            return np.full((stop - start, self.size[1]), level, dtype=self.dtype)
        enlarged = resize_bicubic_rows(self.alpha[..., None], *self.size, start, stop)[..., 0]
        levels: Pixels = np.rint(enlarged * self.factor).clip(0, self.peak).astype(self.dtype)
        return levels


def _grey(rgb: Pixels) -> Pixels:
    """The mean of the channels, (n, W, 1), because the network may tint a grey image."""
    grey: Pixels = np.rint(rgb.mean(axis=2, dtype=np.float32, keepdims=True)).astype(rgb.dtype)
    return grey
