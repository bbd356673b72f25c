"""From the rows that the network paints to the rows that a file gets: reduced, of one grey, with transparency."""

import numpy as np
import torch
from torch import Tensor

from pcsr_cli.engine.levels import to_levels
from pcsr_cli.images.image import Pixels
from pcsr_cli.images.resize import RowResizer, resize_bicubic_rows
from pcsr_cli.images.write import PictureWriter

DTYPES = {8: torch.uint8, 16: torch.uint16}
"""Types of levels, by bits a channel."""

BAND_BYTES = 2**24
"""Finished rows handed over at once: what else is made of them is then small beside a strip of the result."""


class ResultRows:
    """The way from painted rows to a writer.

    ``painted`` is the (height, width) the network works at, ``size`` that of the result: where they differ, rows are
    painted as numbers and reduced bicubically. ``depth`` is 8 or 16 bits; with ``grey`` the writer gets one colour
    channel, and with ``alpha`` (h, w), levels of any size and depth, their enlargement as the last channel."""

    def __init__(
        self,
        painted: tuple[int, int],
        size: tuple[int, int],
        depth: int,
        grey: bool,
        alpha: Pixels | None,
        writer: PictureWriter,
    ) -> None:
        self.size = size
        self.levels = DTYPES[depth]
        self.grey = grey
        self.alpha = None if alpha is None else Alpha(alpha, size, depth)
        self.writer = writer
        self.resizer = None if painted == size else RowResizer(painted, size)
        self.done = 0

    @property
    def painted_dtype(self) -> torch.dtype:
        """What ``take`` wants: float32 numbers where they are to be reduced, else levels."""
        return self.levels if self.resizer is None else torch.float32

    def take(self, rows: Tensor) -> None:
        """The next painted rows, (n, W, 3) on the CPU."""
        step = max(1, BAND_BYTES // (rows.shape[1] * 3 * rows.itemsize))
        for band in torch.split(rows, step):
            if self.resizer is not None:
                band = to_levels(torch.from_numpy(self.resizer.push(band.numpy())), self.levels)
            if len(band):
                self._write(band.numpy())

    def _write(self, rgb: Pixels) -> None:
        start, self.done = self.done, self.done + len(rgb)
        channels = _grey(rgb) if self.grey else rgb
        if self.alpha is not None:
            channels = np.concatenate((channels, self.alpha.rows(start, self.done)[..., None]), axis=2)
        # A writer that lags behind must not keep all of a strip alive by a view of it.
        self.writer.write(channels.copy() if channels is rgb else channels)


class Alpha:
    """Transparency (h, w) uint8 or uint16, enlarged bicubically to ``size`` at ``depth`` bits, some rows at a time.

    Where it is the same everywhere it stays so exactly."""

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
    """One grey level a pixel, (n, W, 1): the network may tint what came in grey."""
    grey: Pixels = np.rint(rgb.mean(axis=2, dtype=np.float32, keepdims=True)).astype(rgb.dtype)
    return grey
