"""Where finished pixels go: the whole result in memory, as numbers or as 8-bit levels."""

from typing import Protocol

import torch
from torch import Tensor

from pcsr_cli.tiles import Rect


class Canvas(Protocol):
    """Takes finished areas, each pixel of the result exactly once."""

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area: ``rgb`` (n, W, 3) float32 in [0, 1] but not clamped, ``labels`` (n, W) uint8 branches."""
        ...


class FloatCanvas:
    """The whole result as float32 RGB (3, H, W), not clamped, and its branches (H, W) uint8, on the CPU."""

    def __init__(self, height: int, width: int) -> None:
        self.rgb = torch.empty(3, height, width, dtype=torch.float32, device="cpu")
        self.labels = torch.empty(height, width, dtype=torch.uint8, device="cpu")

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area of the result."""
        self.rgb[:, *area.slices] = rgb.permute(2, 0, 1).cpu()
        self.labels[area.slices] = labels.cpu()


class LevelCanvas:
    """The whole result as uint8 RGB (H, W, 3), rounded and clamped, on the CPU; branches are forgotten."""

    def __init__(self, height: int, width: int) -> None:
        self.rgb = torch.empty(height, width, 3, dtype=torch.uint8, device="cpu")

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area of the result."""
        levels = rgb.mul(255).round_().clamp_(0, 255).to(torch.uint8)
        self.rgb[area.slices] = levels.cpu()


class ByteCanvas(LevelCanvas):
    """The same with its branches (H, W) uint8."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__(height, width)
        self.labels = torch.empty(height, width, dtype=torch.uint8, device="cpu")

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area of the result."""
        super().write(area, rgb, labels)
        self.labels[area.slices] = labels.cpu()
