"""How close a result is to the truth: PSNR and SSIM, as super-resolution reports them."""

import math
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsr_cli.failures import measuring

PEAK = 255
LUMA = (65.481 / PEAK, 128.553 / PEAK, 24.966 / PEAK)
"""Weights of R, G, B in the luma of ITU-R BT.601; black is 16, white 235."""

WINDOW = 11
SIGMA = 1.5
"""SSIM's Gaussian window (Wang et al., 2004)."""

_C1, _C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
_BLOCK = 32
"""Rows and columns of the SSIM map that one matrix product makes."""

Levels = NDArray[np.uint8]
Plane = NDArray[np.float32]

_Number = TypeVar("_Number", np.uint8, np.float32)


def psnr(result: NDArray[_Number], truth: NDArray[_Number], shave: int = 0) -> float:
    """PSNR in dB of two pictures of levels 0..255, over all that they hold, ``shave`` border pixels left out.

    Each is (H, W, 3) uint8 RGB, or (H, W) float32 luma. Infinite for equal pictures. InputError if the sizes differ or
    nothing is left inside the border.
    """
    a, b = _inside(result, truth, shave)
    return decibels(float(np.mean((a.astype(np.float64) - b) ** 2)))


def decibels(mean_square: float) -> float:
    """PSNR in dB of a mean squared error between levels 0..255; infinite for 0."""
    return math.inf if mean_square == 0 else 10 * math.log10(PEAK**2 / mean_square)


def luma(picture: Levels) -> Plane:
    """(H, W, 3) uint8 RGB to luma (H, W) float32, 16..235, not rounded: ITU-R BT.601 as MATLAB's rgb2ycbcr has it."""
    weights = np.asarray(LUMA, dtype=np.float32)
    # A sum over channels, as a matrix product takes ten times as long for a matrix of three columns.
    channels = [picture[..., index].astype(np.float32) * weights[index] for index in range(3)]
    total: Plane = (channels[0] + channels[1] + channels[2]) + np.float32(16)
    return total


def ssim(result: Plane, truth: Plane, shave: int = 0) -> float:
    """Mean SSIM of two luma pictures (H, W), levels 0..255, ``shave`` border pixels left out.

    Gaussian window of 11x11 and sigma 1.5, population covariance, only where the window lies inside. 1 for equal
    pictures; NaN where no window fits. InputError as for ``psnr``.
    """
    a, b = _inside(result, truth, shave)
    return SsimTruth(b)(a)


class SsimTruth:
    """A true luma picture (H, W) prepared to be compared with many: what depends on it alone is computed once."""

    def __init__(self, truth: Plane) -> None:
        self.truth = _centred(truth)
        self.fits = min(truth.shape) >= WINDOW
        self.blocks = [(block, *_moments(block, block * block)) for block in self._blocks(self.truth)]

    def __call__(self, result: Plane) -> float:
        """Mean SSIM of a picture of the same size."""
        if not self.fits:
            return math.nan
        total = 0.0
        for x, (y, mean_y, mean_yy) in zip(self._blocks(_centred(result)), self.blocks, strict=True):
            mean_x, mean_xx, mean_xy = _moments(x, x * x, x * y)
            product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
            # Means are about mid-grey; in the first factor they count from black.
            shift = PEAK * (mean_x + mean_y)
            lightness = (2 * product + shift + (2 * _MIDDLE**2 + _C1)) / (squares + shift + (2 * _MIDDLE**2 + _C1))
            structure = (2 * (mean_xy - product) + _C2) / (mean_xx + mean_yy - squares + _C2)
            total += lightness.mul_(structure).sum(dtype=torch.float64).item()
        height, width = self.truth.shape
        return total / ((height - WINDOW + 1) * (width - WINDOW + 1))

    def _blocks(self, picture: Tensor) -> list[Tensor]:
        """Rows that the map's rows depend on, block by block."""
        if not self.fits:
            return []
        rows = picture.shape[0] - WINDOW + 1
        return [picture[top : min(top + _BLOCK, rows) + WINDOW - 1] for top in range(0, rows, _BLOCK)]


_MIDDLE = PEAK / 2


def _centred(picture: Plane) -> Tensor:
    """Levels about 0, which leaves float32 the digits that variances need."""
    return torch.from_numpy(np.ascontiguousarray(picture, dtype=np.float32)) - _MIDDLE


def _moments(*maps: Tensor) -> tuple[Tensor, ...]:
    """Gaussian means of maps (H, W), each (H - 10, W - 10), by two products with banded matrices."""
    height, width = (side - WINDOW + 1 for side in maps[0].shape)
    count = -(-width // _BLOCK)
    wide = torch.zeros(len(maps), height, count * _BLOCK + WINDOW - 1)
    for number, each in enumerate(maps):
        torch.mm(_band(height), each, out=wide[number, :, : each.shape[1]])
    windows = wide.unfold(2, _BLOCK + WINDOW - 1, _BLOCK)
    means = windows.reshape(-1, _BLOCK + WINDOW - 1) @ _band(_BLOCK).T
    return tuple(means.view(len(maps), height, count * _BLOCK)[..., :width])


@cache
def _band(length: int) -> Tensor:
    """The matrix (length, length + 10) that takes Gaussian means."""
    weights = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    matrix = np.zeros((length, length + WINDOW - 1))
    for row in range(length):
        matrix[row, row : row + WINDOW] = weights / weights.sum()
    return torch.from_numpy(matrix).float()


def _inside(result: NDArray[_Number], truth: NDArray[_Number], shave: int) -> tuple[NDArray[_Number], NDArray[_Number]]:
    if result.shape != truth.shape:
        raise measuring.UNEQUAL_SIZES(result=result.shape[:2], truth=truth.shape[:2])
    inside = slice(shave, -shave) if shave else slice(None)
    if not truth[inside, inside].size:
        raise measuring.NOTHING_LEFT(size=truth.shape[:2], border=shave)
    return result[inside, inside], truth[inside, inside]
