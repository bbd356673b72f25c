"""How close a result is to the truth: PSNR and SSIM, as super-resolution reports them."""

import math
from functools import cache
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pcsr_cli.errors import InputError

PEAK = 255
LUMA = (65.481 / PEAK, 128.553 / PEAK, 24.966 / PEAK)
"""Weights of R, G, B in the luma of ITU-R BT.601; black is 16, white 235."""

WINDOW = 11
SIGMA = 1.5
"""SSIM's Gaussian window (Wang et al., 2004)."""

_C1, _C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
_MIDDLE = PEAK / 2
_BLOCK = 64
"""Rows of the SSIM map made at once: few enough to stay in cache."""

LANES = 16
"""Strips that are worked on side by side: the width of a vector register."""

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


def luma(picture: NDArray[np.uint8]) -> Plane:
    """(H, W, 3) uint8 RGB to luma (H, W) float32, 16..235, not rounded: ITU-R BT.601 as MATLAB's rgb2ycbcr has it."""
    channels = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32))
    plane: Plane = luma_of(channels, torch.empty(picture.shape[:2])).numpy()
    return plane


def luma_of(channels: Tensor, out: Tensor) -> Tensor:
    """The same of levels (3, H, W) float32, into ``out`` (H, W) float32."""
    red, green, blue = channels
    # A sum over channels, as a matrix product takes ten times as long for a matrix of three columns.
    return torch.mul(red, LUMA[0], out=out).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).add_(16)


def ssim(result: Plane, truth: Plane, shave: int = 0) -> float:
    """Mean SSIM of two luma pictures (H, W), levels 0..255, ``shave`` border pixels left out.

    Gaussian window of 11x11 and sigma 1.5, population covariance, only where the window lies inside. 1 for equal
    pictures; NaN where no window fits. InputError as for ``psnr``.
    """
    a, b = _inside(result, truth, shave)
    return SsimTruth(b)(a)


class SsimTruth:
    """A true luma picture (H, W) prepared to be compared with many: what depends on it alone is computed once.

    The picture is cut into LANES vertical strips, which lie side by side in memory number by number: (rows, columns of
    a strip, LANES). Then a Gaussian mean is a convolution with one window for each of LANES channels.
    """

    def __init__(self, truth: Plane) -> None:
        self.fits = min(truth.shape) >= WINDOW
        if not self.fits:
            return
        self.height, self.width = int(truth.shape[0]) - WINDOW + 1, int(truth.shape[1]) - WINDOW + 1
        self.strip = -(-self.width // LANES)
        columns = torch.arange(LANES) * self.strip + torch.arange(self.strip)[:, None]
        self.valid = (columns < self.width).float().view(-1)
        blocks = [self._in_strips(block) for block in self._blocks(truth)]
        self.blocks = [(block, _gaussian_means(block[None])[0]) for block in blocks]

    @torch.inference_mode()
    def __call__(self, result: Plane) -> float:
        """Mean SSIM of a picture of the same size."""
        if not self.fits:
            return math.nan
        total = 0.0
        for block, (y, mean_y) in zip(self._blocks(result), self.blocks, strict=True):
            maps = torch.empty(3, *y.shape)
            x = self._in_strips(block, maps[0])
            torch.mul(x, y, out=maps[1])
            torch.sub(x, y, out=maps[2]).mul_(maps[2])
            similar = _similarity(_gaussian_means(maps), mean_y)
            total += float(torch.dot(similar.view(-1, self.valid.numel()).sum(dim=0), self.valid))
        return total / (self.height * self.width)

    def _blocks(self, picture: Plane) -> list[Plane]:
        """Rows that the map's rows depend on, block by block."""
        stops = [min(top + _BLOCK, self.height) for top in range(0, self.height, _BLOCK)]
        return [
            picture[top : stop + WINDOW - 1] for top, stop in zip(range(0, self.height, _BLOCK), stops, strict=True)
        ]

    def _in_strips(self, rows: Plane, out: Tensor | None = None) -> Tensor:
        """Levels about mid-grey, which leaves float32 the digits that variances need, in strips."""
        wide = torch.zeros(rows.shape[0], LANES * self.strip + WINDOW - 1)
        torch.sub(torch.from_numpy(rows), _MIDDLE, out=wide[:, : rows.shape[1]])
        strips = wide.unfold(1, self.strip + WINDOW - 1, self.strip).transpose(1, 2)
        return strips.contiguous() if out is None else out.copy_(strips)


def _similarity(means: Tensor, mean_y: Tensor) -> Tensor:
    """The SSIM map from the means of x, x y and (x - y)^2, which are overwritten, and of y; all about mid-grey.

    The denominators are the numerators plus what differs: mx^2 + my^2 = 2 mx my + (mx - my)^2, and the variances
    likewise.
    """
    mean_x, mean_xy, mean_square = means
    product = mean_x * mean_y
    structure = mean_xy.sub_(product).mul_(2).add_(_C2)
    # Counted from black, (mx + M)(my + M) = mx my + M (mx + my) + M^2.
    lightness = product.add_(mean_x, alpha=_MIDDLE).add_(mean_y, alpha=_MIDDLE).mul_(2).add_(2 * _MIDDLE**2 + _C1)
    apart = mean_x.sub_(mean_y).square_()
    different = mean_square.sub_(apart).add_(structure)
    both: Tensor = structure.mul_(lightness).div_(different.mul_(apart.add_(lightness)))
    return both


def _gaussian_means(maps: Tensor) -> Tensor:
    """Gaussian means of maps in strips, (n, H, W, LANES) to (n, H - 10, W - 10, LANES)."""
    down, across = _windows()
    channels_last = maps.permute(0, 3, 1, 2)
    return F.conv2d(F.conv2d(channels_last, down, groups=LANES), across, groups=LANES).permute(0, 2, 3, 1)


@cache
def _windows() -> tuple[Tensor, Tensor]:
    """The Gaussian window down a column and across a row, as convolutions of LANES channels each on its own."""
    weights = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    window = torch.from_numpy(weights / weights.sum()).float()
    return window.view(1, 1, -1, 1).repeat(LANES, 1, 1, 1), window.view(1, 1, 1, -1).repeat(LANES, 1, 1, 1)


def _inside(result: NDArray[_Number], truth: NDArray[_Number], shave: int) -> tuple[NDArray[_Number], NDArray[_Number]]:
    if result.shape != truth.shape:
        raise InputError(
            f"Pictures of {result.shape[:2]} and {truth.shape[:2]} (rows, columns) cannot be compared.",
            "Give pictures of one size.",
        )
    inside = slice(shave, -shave) if shave else slice(None)
    if not truth[inside, inside].size:
        raise InputError(
            f"Nothing is left of a picture of {truth.shape[:2]} inside a border of {shave} pixels.",
            "Measure larger pictures.",
        )
    return result[inside, inside], truth[inside, inside]
