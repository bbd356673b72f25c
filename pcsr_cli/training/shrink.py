"""LR crops from HR windows, as shrinking the whole picture would give them.

A window is an HR crop with a margin wide enough for the bicubic kernel, so nothing depends on where a crop ends.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pcsr_cli.resize import resize_bicubic


def margin(hr_length: int, lr_length: int) -> int:
    """HR pixels the kernel needs on each side of a crop of ``hr_length`` that shrinks to ``lr_length``."""
    return math.ceil(2 * hr_length / lr_length) + 1


@lru_cache(maxsize=256)
def shrinking_matrix(hr_length: int, lr_length: int) -> Tensor:
    """The bicubic as a matrix: (lr_length, hr_length + 2 margins), float32; its rows sum to 1.

    It is the middle third of shrinking three crops side by side, where no border is near.
    """
    wide = np.eye(3 * hr_length, dtype=np.float32)[:, :, None]
    matrix = resize_bicubic(wide, 3 * lr_length, 3 * hr_length)[lr_length : 2 * lr_length, :, 0]
    side = margin(hr_length, lr_length)
    return torch.from_numpy(np.ascontiguousarray(matrix[:, hr_length - side : 2 * hr_length + side]))


def shrink(windows: Tensor, hr_length: int, lr_length: int) -> Tensor:
    """(b, H, H, 3) uint8 windows, H = hr_length + 2 margins, to (b, 3, lr_length, lr_length) float32 in [0, 1].

    Rows first, rounded to 8 bits after each pass, as ``resize.make_lr`` does it.
    """
    matrix = shrinking_matrix(hr_length, lr_length).to(windows.device)
    batch, side, _, channels = windows.shape
    rows = _round_8bit(matrix @ windows.reshape(batch, side, side * channels).float())
    columns = rows.view(batch, lr_length, side, channels).transpose(2, 3) @ matrix.T
    return _round_8bit(columns).permute(0, 2, 1, 3).div(255).contiguous(memory_format=torch.channels_last)


def _round_8bit(values: Tensor) -> Tensor:
    return values.add_(0.5).floor_().clamp_(0, 255)
