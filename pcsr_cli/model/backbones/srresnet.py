"""SRResNet (Ledig et al., CVPR 2017), modified: no BatchNorm, residual to the bilinear enlargement.

The PCSR backbone ends with the LR features (58 channels). The original network (64 channels) also upsamples."""

import torch.nn.functional as F
from torch import Tensor, nn

from pcsr_cli.model.layers import Cost, ResidualBlock, conv

BLOCKS = 16
SLOPE = 0.1


class SrresnetBackbone(nn.Module):
    """Compute LR features (n, width, h, w) from normalised RGB (n, 3, h, w)."""

    receptive_radius = 33

    def __init__(self, width: int = 58) -> None:
        super().__init__()
        self.width = width
        self.conv_first = nn.Conv2d(3, width, 3, padding=1)
        self.recon_trunk = nn.Sequential(*(ResidualBlock(width) for _ in range(BLOCKS)))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.recon_trunk(F.leaky_relu(self.conv_first(x), SLOPE))
        return features

    def cost(self) -> Cost:
        """FLOPs of one LR pixel."""
        return conv(3, self.width, 3) + 2 * BLOCKS * conv(self.width, self.width, 3)


class SrresnetOriginal(SrresnetBackbone):
    """The original network, which converts (n, 3, h, w) to (n, 3, 4h, 4w), both in normalised units."""

    def __init__(self, width: int = 64) -> None:
        super().__init__(width)
        self.upconv1 = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.upconv2 = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.HRconv = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        for conv_up in (self.upconv1, self.upconv2):
            out = F.leaky_relu(F.pixel_shuffle(conv_up(out), 2), SLOPE)
        residual: Tensor = self.conv_last(F.leaky_relu(self.HRconv(out), SLOPE))
        return residual + F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)

    def cost(self) -> Cost:
        """FLOPs of one LR pixel, upsampling included."""
        width = self.width
        upsampling = (1 + 4) * conv(width, 4 * width, 3)
        return super().cost() + upsampling + 16 * (conv(width, width, 3) + conv(width, 3, 3))
