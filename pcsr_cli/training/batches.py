"""Training batches. Each batch is a pure function of the seed, the stage and the step, so a run can resume anywhere.

Every process draws the plan of the whole batch and makes its own part, so batches do not depend on the number of
processes.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsr_cli.engine.grid import Axis, make_axis
from pcsr_cli.images.resize import resize_bicubic
from pcsr_cli.training.config import ScaleShare, StageConfig

POSITIONS = ("nearest", "rel", "low", "high", "weight")
"""The fields of an Axis that hold one value per position."""


def margin(hr_length: int, lr_length: int) -> int:
    """HR pixels that the bicubic kernel needs on each side of ``hr_length`` pixels that shrink to ``lr_length``."""
    return math.ceil(2 * hr_length / lr_length) + 1


@lru_cache(maxsize=256)
def shrinking_matrix(hr_length: int, lr_length: int) -> Tensor:
    """Bicubic shrinking as a matrix: (lr_length, hr_length + 2 margins), float32, whose rows sum to 1.

    The matrix is the middle third of the matrix for three adjacent crops, so no border affects the result.
    """
    wide = np.eye(3 * hr_length, dtype=np.float32)[:, :, None]
    matrix = resize_bicubic(wide, 3 * lr_length, 3 * hr_length)[lr_length : 2 * lr_length, :, 0]
    side = margin(hr_length, lr_length)
    return torch.from_numpy(np.ascontiguousarray(matrix[:, hr_length - side : 2 * hr_length + side]))


def shrink(windows: Tensor, hr_length: int, lr_length: int) -> Tensor:
    """Shrink (b, H, H, 3) uint8 windows, H = hr_length + 2 margins, to (b, 3, lr_length, lr_length) float32 in [0, 1].

    As in ``resize.make_lr``, rows are shrunk first and each pass rounds to 8 bits.
    """
    matrix = shrinking_matrix(hr_length, lr_length).to(windows.device)
    batch, side, _, channels = windows.shape
    rows = _round_8bit(matrix @ windows.reshape(batch, side, side * channels).float())
    columns = rows.view(batch, lr_length, side, channels).transpose(2, 3) @ matrix.T
    return _round_8bit(columns).permute(0, 2, 1, 3).div(255).contiguous(memory_format=torch.channels_last)


def _round_8bit(values: Tensor) -> Tensor:
    return values.add_(0.5).floor_().clamp_(0, 255)


@dataclass(frozen=True)
class Batch:
    """LR crops and the HR pixels to predict from them.

    ``lr`` (b, 3, n, n) and ``truth`` (b, R, C, 3) are float32 RGB in [0, 1]. ``rows`` and ``columns`` are the positions
    of the R x C chosen HR pixels, the same for every crop.
    """

    lr: Tensor
    truth: Tensor
    rows: Axis
    columns: Axis


def largest_window(crop: int, scales: tuple[ScaleShare, ...]) -> int:
    """The side of the largest HR window that a batch can need, margins included."""
    length = max(round(crop * share.high) for share in scales)
    return length + 2 * margin(length, crop)


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batches of one stage from ``patches`` (count, patch, patch, 3) uint8.

    A process makes part ``rank`` of ``processes`` equal parts of each batch.
    """

    patches: NDArray[np.uint8]
    stage: StageConfig
    scales: tuple[ScaleShare, ...]
    seed: tuple[int, ...]
    device: torch.device
    rank: int = 0
    processes: int = 1

    def make(self, step: int) -> Batch:
        """Make this process's part of the batch of iteration ``step``."""
        random = np.random.default_rng((*self.seed, step))
        crop = self.stage.crop
        shares = np.array([scale.share for scale in self.scales])
        scale = self.scales[int(random.choice(len(shares), p=shares / shares.sum()))]
        length = round(crop * float(random.uniform(scale.low, scale.high)))
        side = margin(length, crop)
        axis = make_axis(crop, length, 0, length, self.device)
        rows, columns = (_choose_positions(axis, self.stage.pixels, random) for _ in range(2))
        windows = torch.from_numpy(self._windows(length + 2 * side, random)).to(self.device)
        truth = windows[:, side : side + length, side : side + length]
        chosen = truth.index_select(1, rows[1]).index_select(2, columns[1])
        return Batch(shrink(windows, length, crop), chosen.float().div_(255), rows[0], columns[0])

    def _windows(self, side: int, random: np.random.Generator) -> NDArray[np.uint8]:
        """The HR windows of this process, (b, side, side, 3), flipped and transposed at random."""
        batch = self.stage.batch
        count, patch = self.patches.shape[:2]
        plan = np.column_stack(
            (
                random.integers(count, size=batch),
                random.integers(patch - side + 1, size=(batch, 2)),
                random.integers(2, size=(batch, 3)),
            )
        )
        own = np.array_split(plan, self.processes)[self.rank]
        windows = np.empty((len(own), side, side, 3), np.uint8)
        for window, (index, top, left, flip_rows, flip_columns, transpose) in zip(windows, own, strict=True):
            pixels = self.patches[index, top : top + side, left : left + side]
            pixels = pixels[:: 1 - 2 * flip_rows, :: 1 - 2 * flip_columns]
            window[:] = pixels.swapaxes(0, 1) if transpose else pixels
        return windows


def _choose_positions(axis: Axis, pixels: int, random: np.random.Generator) -> tuple[Axis, Tensor]:
    """Choose one random position from each of about sqrt(pixels) equal intervals of an axis."""
    length = axis.nearest.shape[0]
    count = min(length, max(1, round(pixels**0.5)))
    starts = (np.arange(count) + random.random(count)) * (length / count)
    chosen = torch.from_numpy(np.minimum(starts.astype(np.int64), length - 1)).to(axis.nearest.device)
    return replace(axis, **{name: getattr(axis, name)[chosen] for name in POSITIONS}), chosen
