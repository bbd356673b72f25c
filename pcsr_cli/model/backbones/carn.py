"""CARN (Ahn et al., ECCV 2018), the mobile variant with shared residual blocks and grouped convolutions.

The PCSR backbone ends with the LR features (52 channels). The original network (64 channels) also upsamples."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from pcsr_cli.model.layers import Cost, batch_norm, conv

GROUPS = 4


class _ResidualBlock(nn.Module):
    """A residual block: grouped 3x3, grouped 3x3 and 1x1 convolutions, plus the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=GROUPS),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, groups=GROUPS),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + x)


def _fusion(channels: int, width: int, norm: bool) -> nn.Sequential:
    norms = [nn.BatchNorm2d(width)] if norm else []
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=not norm), *norms, nn.ReLU(inplace=True))


class _Cascade(nn.Module):
    """Three consecutive blocks, each followed by a 1x1 fusion of all outputs so far."""

    def __init__(self, width: int, norm: bool) -> None:
        super().__init__()
        self.c1 = _fusion(2 * width, width, norm)
        self.c2 = _fusion(3 * width, width, norm)
        self.c3 = _fusion(4 * width, width, norm)

    def cascade(self, x: Tensor, *blocks: nn.Module) -> Tensor:
        """The output of the last fusion."""
        out = fused = x
        for block, fuse in zip(blocks, (self.c1, self.c2, self.c3), strict=True):
            fused = torch.cat((fused, block(out)), dim=1)
            out = fuse(fused)
        return out


class _CascadingBlock(_Cascade):
    """The inner level of the cascade: one residual block whose weights are used three times."""

    def __init__(self, width: int, norm: bool) -> None:
        super().__init__(width, norm)
        self.b1 = _ResidualBlock(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.cascade(x, self.b1, self.b1, self.b1)


class CarnBackbone(_Cascade):
    """Compute LR features (n, width, h, w) from normalised RGB (n, 3, h, w). ``norm`` selects BatchNorm."""

    receptive_radius = 19

    def __init__(self, width: int = 52, norm: bool = True) -> None:
        super().__init__(width, norm)
        self.width = width
        self.norm = norm
        self.entry = nn.Conv2d(3, width, 3, padding=1)
        self.b1, self.b2, self.b3 = (_CascadingBlock(width, norm) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.cascade(self.entry(x), self.b1, self.b2, self.b3)

    def cost(self) -> Cost:
        """FLOPs of one LR pixel."""
        width = self.width
        residual = 2 * conv(width, width, 3, GROUPS) + conv(width, width, 1)
        fusions = conv((2 + 3 + 4) * width, width, 1) + 3 * self.norm * batch_norm(width)
        return conv(3, width, 3) + 9 * residual + 4 * fusions


class _PixelShuffleUpsampler(nn.Module):
    """Upsample by 4 in two steps, each a grouped 3x3 convolution to four times the channels, ReLU, and pixel-shuffle by
    2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        body = nn.Sequential(
            nn.Conv2d(width, 4 * width, 3, padding=1, groups=GROUPS),
            nn.ReLU(inplace=True),
            nn.PixelShuffle(2),
            nn.Conv2d(width, 4 * width, 3, padding=1, groups=GROUPS),
            nn.ReLU(inplace=True),
            nn.PixelShuffle(2),
        )
        self.up = nn.Sequential(OrderedDict(body=body))

    def forward(self, x: Tensor) -> Tensor:
        upsampled: Tensor = self.up(x)
        return upsampled


class CarnOriginal(CarnBackbone):
    """The original network, which converts (n, 3, h, w) to (n, 3, 4h, 4w), both in normalised units."""

    def __init__(self, width: int = 64, norm: bool = True) -> None:
        super().__init__(width, norm)
        self.upsample = _PixelShuffleUpsampler(width)
        self.exit = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        upsampled: Tensor = self.exit(self.upsample(super().forward(x)))
        return upsampled

    def cost(self) -> Cost:
        """FLOPs of one LR pixel, upsampling included."""
        width = self.width
        stage = conv(width, 4 * width, 3, GROUPS)
        return super().cost() + stage + 4 * stage + 16 * conv(width, 3, 3)
