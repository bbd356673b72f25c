"""BSRN (Li et al., CVPR workshops 2022): blueprint convolutions, and attention that reads the whole image.

The PCSR backbone ends with the LR features. Its width and depth (48 channels, 8 blocks) are a reconstruction, because
no BSRN-PCSR is published. The original network (64 channels) also upsamples."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcsr_cli.model.layers import Cost, conv

BLOCKS = 8
MIN_SIDE = 15
"""The smallest height and width that the strided layers of the spatial attention can reduce. A smaller map is padded
with zeros. The original network fails on a smaller map."""

MIN_VARIANCE = 1e-12
"""The smallest variance whose square root is computed, because the gradient of the square root is infinite at 0."""


class BlueprintConv(nn.Module):
    """A 1x1 convolution without bias, then a depthwise 3x3 convolution."""

    def __init__(self, channels: int, width: int, stride: int = 1, padding: int = 1) -> None:
        super().__init__()
        self.pw = nn.Conv2d(channels, width, 1, bias=False)
        self.dw = nn.Conv2d(width, width, 3, stride, padding, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dw(self.pw(x))
        return out


class SpatialAttention(nn.Module):
    """Multiply every pixel and channel by a weight. The weights come from a map of a sixth of the height and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = width // 4
        self.conv1 = nn.Conv2d(width, narrow, 1)
        self.conv_f = nn.Conv2d(narrow, narrow, 1)
        self.conv_max = BlueprintConv(narrow, narrow)
        self.conv2 = BlueprintConv(narrow, narrow, stride=2, padding=0)
        self.conv3 = BlueprintConv(narrow, narrow)
        self.conv3_ = BlueprintConv(narrow, narrow)
        self.conv4 = nn.Conv2d(narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.conv1(x)
        return x * torch.sigmoid(self.conv4(self.surroundings(narrow) + self.conv_f(narrow)))

    def surroundings(self, narrow: Tensor) -> Tensor:
        """Reduce the output of ``conv1`` (n, C / 4, h, w), convolve it, and enlarge it to the same shape."""
        height, width = narrow.shape[2:]
        padded = F.pad(narrow, (0, max(0, MIN_SIDE - width), 0, max(0, MIN_SIDE - height)))
        reduced = F.gelu(self.conv_max(F.max_pool2d(self.conv2(padded), 7, stride=3)))
        reduced = self.conv3_(F.gelu(self.conv3(reduced)))
        enlarged = F.interpolate(reduced, padded.shape[2:], mode="bilinear", align_corners=False)
        return enlarged[:, :, :height, :width]


class ChannelAttention(nn.Module):
    """Multiply every channel by a weight, from the channel's mean and standard deviation over the whole image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = width // 16
        self.conv_du = nn.Sequential(
            nn.Conv2d(width, narrow, 1), nn.ReLU(inplace=True), nn.Conv2d(narrow, width, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)

    def weights(self, x: Tensor) -> Tensor:
        """The weights (n, C, 1, 1) of a map (n, C, h, w)."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        variance = (x - mean).square().mean(dim=(2, 3), keepdim=True)  # six times as fast as torch.var_mean
        weights: Tensor = self.conv_du(variance.clamp(min=MIN_VARIANCE).sqrt() + mean)
        return weights


class Block(nn.Module):
    """Three steps that each keep half of the channels and refine all, the fusion of what was kept, and attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.c1_d, self.c2_d, self.c3_d = (nn.Conv2d(width, half, 1) for _ in range(3))
        self.c1_r, self.c2_r, self.c3_r = (BlueprintConv(width, width) for _ in range(3))
        self.c4 = BlueprintConv(width, half)
        self.c5 = nn.Conv2d(4 * half, width, 1)
        self.esa = SpatialAttention(width)
        self.cca = ChannelAttention(width)

    def forward(self, x: Tensor) -> Tensor:
        kept, refined = [], x
        for keep, refine in ((self.c1_d, self.c1_r), (self.c2_d, self.c2_r), (self.c3_d, self.c3_r)):
            kept.append(F.gelu(keep(refined)))
            refined = F.gelu(refine(refined) + refined)
        kept.append(F.gelu(self.c4(refined)))
        out: Tensor = self.cca(self.esa(self.c5(torch.cat(kept, dim=1)))) + x
        return out


class BsrnBackbone(nn.Module):
    """Compute LR features (n, width, h, w) from normalised RGB (n, 3, h, w)."""

    receptive_radius = None
    """Every feature depends on the whole image."""

    def __init__(self, width: int = 48, depth: int = BLOCKS) -> None:
        super().__init__()
        self.width = width
        self.depth = depth
        self.fea_conv = BlueprintConv(12, width)
        for index in range(depth):
            self.add_module(f"B{index + 1}", Block(width))
        self.c1 = nn.Conv2d(depth * width, width, 1)
        self.c2 = BlueprintConv(width, width)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks in their order."""
        return tuple(block for block in self.children() if isinstance(block, Block))

    def forward(self, x: Tensor) -> Tensor:
        first = out = self.fea_conv(x.repeat(1, 4, 1, 1))
        outputs = []
        for block in self.blocks:
            out = block(out)
            outputs.append(out)
        features: Tensor = self.c2(F.gelu(self.c1(torch.cat(outputs, dim=1)))) + first
        return features

    def cost(self) -> Cost:
        """FLOPs of one LR pixel. The executed FLOPs leave out the layers that ``reduced_flops`` counts."""
        narrow = self.width // 4
        strided = conv(narrow, narrow, 1) + conv(narrow, narrow, 3, narrow) * (1 / 4)
        reduced = self.depth * (strided + 3 * _blueprint(narrow, narrow) * (1 / 36))
        whole = self._full_resolution()
        return Cost(whole.paper + reduced.paper, whole.executed)

    def _full_resolution(self) -> Cost:
        width, half, narrow = self.width, self.width // 2, self.width // 4
        steps = 3 * (conv(width, half, 1) + _blueprint(width, width)) + _blueprint(width, half)
        attention = conv(width, narrow, 1) + conv(narrow, narrow, 1) + conv(narrow, width, 1)
        block = steps + conv(4 * half, width, 1) + attention
        return (
            _blueprint(12, width) + self.depth * block + conv(self.depth * width, width, 1) + _blueprint(width, width)
        )

    def reduced_flops(self, height: int, width: int) -> int:
        """Executed FLOPs of the attention's layers at a lower resolution, for an image of ``height`` x ``width``."""
        narrow = self.width // 4
        sides = [max(MIN_SIDE, side) for side in (height, width)]
        strided = [(side - 3) // 2 + 1 for side in sides]
        pooled = [(side - 7) // 3 + 1 for side in strided]
        flops = (
            sides[0] * sides[1] * conv(narrow, narrow, 1)
            + strided[0] * strided[1] * conv(narrow, narrow, 3, narrow)
            + 3 * pooled[0] * pooled[1] * _blueprint(narrow, narrow)
            + 2 * conv(self.width, self.width // 16, 1)
        )
        return round(self.depth * flops.executed)


class BsrnOriginal(BsrnBackbone):
    """The original network, which converts (n, 3, h, w) to (n, 3, 4h, 4w), both in normalised units."""

    def __init__(self, width: int = 64) -> None:
        super().__init__(width)
        step = nn.Sequential(nn.Conv2d(width, 48, 3, padding=1), nn.PixelShuffle(4))
        self.upsampler = nn.Sequential(OrderedDict(upsampleOneStep=step))

    def forward(self, x: Tensor) -> Tensor:
        upsampled: Tensor = self.upsampler(super().forward(x))
        return upsampled

    @property
    def last(self) -> nn.Conv2d:
        """The convolution before the pixel-shuffle."""
        layer = self.upsampler.get_submodule("upsampleOneStep.0")
        assert isinstance(layer, nn.Conv2d)
        return layer

    def cost(self) -> Cost:
        """FLOPs of one LR pixel of a large image, upsampling included."""
        flops = super().cost().paper + conv(self.width, 48, 3).paper
        return Cost(flops, flops)


def _blueprint(channels: int, width: int) -> Cost:
    return conv(channels, width, 1) + conv(width, width, 3, width)
