"""Pixels of 8 and 16 bits, as files have them, and numbers in [0, 1], as networks do."""

import torch
from torch import Tensor

from pcsr_cli.images.image import Pixels

PEAKS = {torch.uint8: 255, torch.uint16: 65_535}
"""The level of 1.0, by type."""


def as_lr(rgb: Pixels) -> Tensor:
    """A picture (h, w, 3) of levels as the engine takes it, (1, 3, h, w); not copied where PyTorch can do without."""
    usable = rgb.flags.writeable and all(stride >= 0 for stride in rgb.strides)
    return torch.from_numpy(rgb if usable else rgb.copy()).permute(2, 0, 1)[None]


def to_levels(rgb: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers in [0, 1], or somewhat outside, as levels of uint8 or uint16, rounded and clamped."""
    peak = PEAKS[dtype]
    return rgb.mul(peak).round_().clamp_(0, peak).to(dtype)


def to_numbers(pixels: Tensor) -> Tensor:
    """Pixels of uint8 or uint16 as float32 in [0, 1]; what is floating point already stays as it is."""
    return pixels if pixels.is_floating_point() else pixels.float().div_(PEAKS[pixels.dtype])
