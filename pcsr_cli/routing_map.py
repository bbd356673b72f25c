"""What routing decided, pixel by pixel: difficulty and branch, taken down in the pass that makes the result."""

import torch
from torch import Tensor

from pcsr_cli.routing import difficulty
from pcsr_cli.tiles import Rect


class RoutingMap:
    """The difficulty (H, W) float32 and the branch (H, W) uint8 of every pixel of a result, on the CPU.

    For two branches difficulty is p_heavy. A pixel that was forced has the branch it was forced to.
    """

    def __init__(self, height: int, width: int) -> None:
        self.difficulty = torch.empty(height, width, dtype=torch.float32, device="cpu")
        self.labels = torch.empty(height, width, dtype=torch.uint8, device="cpu")

    def write(self, area: Rect, probabilities: Tensor, labels: Tensor) -> None:
        """Take an area: class probabilities (n, W, M), lightest branch first, and branches (n, W) uint8."""
        values = difficulty(probabilities.flatten(0, 1)).view(labels.shape)
        self.difficulty[area.slices] = values.cpu()
        self.labels[area.slices] = labels.cpu()
