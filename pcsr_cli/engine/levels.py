"""Levels of 8 and 16 bits, as files have them, and numbers in [0, 1], as networks do."""

import torch
from torch import Tensor

PEAKS = {torch.uint8: 255, torch.uint16: 65_535}
"""The level of 1.0, by type."""


def to_levels(rgb: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers in [0, 1], or somewhat outside, as levels of uint8 or uint16, rounded and clamped."""
    peak = PEAKS[dtype]
    return rgb.mul(peak).round_().clamp_(0, peak).to(dtype)


def to_numbers(pixels: Tensor) -> Tensor:
    """Levels of uint8 or uint16 as float32 in [0, 1]; what is floating point already stays as it is."""
    return pixels if pixels.is_floating_point() else pixels.float().div_(PEAKS[pixels.dtype])
