"""A backbone of dense 3x3 convolutions, which CPUs and GPUs run near their peak speed.

The backbone has one convolution, then ``depth`` residual blocks of two convolutions each."""

from torch import Tensor, nn

from pcsr_cli.model.layers import Cost, ResidualBlock, conv


class DenseBackbone(nn.Module):
    """Compute LR features (n, width, h, w) from normalised RGB (n, 3, h, w)."""

    def __init__(self, width: int = 32, depth: int = 7) -> None:
        super().__init__()
        self.width = width
        self.depth = depth
        self.receptive_radius = 1 + 2 * depth
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.head(x))
        return features

    def cost(self) -> Cost:
        """FLOPs of one LR pixel."""
        return conv(3, self.width, 3) + 2 * self.depth * conv(self.width, self.width, 3)
