"""Layers that several networks use, and the FLOPs of one layer, in the paper's convention and as executed.

The paper's convention (Jeong et al., ECCV 2024, as in its tables) counts 2 x the multiply-adds of convolutions and
linear layers. For each input element, a PReLU counts one FLOP and a BatchNorm two. Bias and ReLU count nothing. A
transposed convolution counts at every *output* pixel. The executed FLOPs are 2 x the executed multiply-adds."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Cost:
    """FLOPs in both conventions. Costs can be added, and multiplied by a count."""

    paper: float = 0
    executed: float = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.paper + other.paper, self.executed + other.executed)

    def __mul__(self, count: float) -> "Cost":
        return Cost(self.paper * count, self.executed * count)

    __rmul__ = __mul__


def conv(channels_in: int, channels_out: int, kernel: int, groups: int = 1) -> Cost:
    """FLOPs of one output pixel of a convolution. A linear layer is a convolution with ``kernel=1``."""
    flops = 2 * kernel * kernel * (channels_in // groups) * channels_out
    return Cost(flops, flops)


def transposed_conv(channels_in: int, channels_out: int, kernel: int, stride: int) -> Cost:
    """FLOPs of one *input* pixel of a transposed convolution.

    The layer executes k x k multiply-adds for each input pixel. The paper's convention counts the k x k multiply-adds
    for each of the stride x stride output pixels."""
    flops = 2 * kernel * kernel * channels_in * channels_out
    return Cost(flops * stride * stride, flops)


def prelu(channels: int) -> Cost:
    """FLOPs of one pixel of a PReLU: one per element in the paper's convention, no multiply-adds."""
    return Cost(channels, 0)


def batch_norm(channels: int) -> Cost:
    """FLOPs of one pixel of a BatchNorm: two per element in the paper's convention, no multiply-adds."""
    return Cost(2 * channels, 0)


class ResidualBlock(nn.Module):
    """A residual block: 3x3 convolution, ReLU, 3x3 convolution, plus the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv2(F.relu(self.conv1(x)))
        return x + residual
