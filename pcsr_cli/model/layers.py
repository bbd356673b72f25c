"""Arithmetic of FLOPs, in the paper's convention and as executed.

Paper's convention (Jeong et al., ECCV 2024, as its tables are computed): 2 x multiply-adds of convolutions and
linear layers; bias and ReLU free; PReLU one and BatchNorm two per input element; a transposed convolution
counted at every *output* pixel. As executed: 2 x the multiply-adds really done.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Cost:
    """FLOPs in both conventions; adds up, and multiplies by a count."""

    paper: float = 0
    executed: float = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.paper + other.paper, self.executed + other.executed)

    def __mul__(self, count: float) -> "Cost":
        return Cost(self.paper * count, self.executed * count)

    __rmul__ = __mul__


def conv(channels_in: int, channels_out: int, kernel: int, groups: int = 1) -> Cost:
    """One output pixel of a convolution (a linear layer is ``kernel=1``)."""
    flops = 2 * kernel * kernel * (channels_in // groups) * channels_out
    return Cost(flops, flops)


def transposed_conv(channels_in: int, channels_out: int, kernel: int, stride: int) -> Cost:
    """One *input* pixel of a transposed convolution.

    It executes k x k multiply-adds per input pixel; the paper's convention charges them to each of the
    stride x stride output pixels.
    """
    flops = 2 * kernel * kernel * channels_in * channels_out
    return Cost(flops * stride * stride, flops)


def prelu(channels: int) -> Cost:
    """One pixel of a PReLU: one FLOP an element by the paper's convention, no multiply-adds."""
    return Cost(channels, 0)


def batch_norm(channels: int) -> Cost:
    """One pixel of a BatchNorm: two FLOPs an element by the paper's convention, no multiply-adds."""
    return Cost(2 * channels, 0)


class ResidualBlock(nn.Module):
    """3x3, ReLU, 3x3, plus the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv2(F.relu(self.conv1(x)))
        return x + residual
