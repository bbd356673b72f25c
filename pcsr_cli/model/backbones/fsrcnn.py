"""FSRCNN (Dong et al., ECCV 2016), with no activation between its four mapping convolutions.

The PCSR backbone ends with the LR features (48 channels). The original network (56 channels) adds a transposed
convolution."""

from torch import Tensor, nn

from pcsr_cli.model.layers import Cost, conv, prelu, transposed_conv

SHRUNK = 12
MAPPINGS = 4


class FsrcnnBackbone(nn.Module):
    """Compute LR features (n, width, h, w) from normalised RGB (n, 3, h, w)."""

    receptive_radius = 6

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.width = width
        self.head_conv = nn.Sequential(nn.Conv2d(3, width, 5, padding=2), nn.PReLU())
        self.body_conv = nn.Sequential(
            nn.Sequential(nn.Conv2d(width, SHRUNK, 1), nn.PReLU()),
            *(nn.Conv2d(SHRUNK, SHRUNK, 3, padding=1) for _ in range(MAPPINGS)),
            nn.PReLU(),
            nn.Sequential(nn.Conv2d(SHRUNK, width, 1), nn.PReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.body_conv(self.head_conv(x))
        return features

    def cost(self) -> Cost:
        """FLOPs of one LR pixel."""
        width = self.width
        head = conv(3, width, 5) + prelu(width)
        shrink = conv(width, SHRUNK, 1) + prelu(SHRUNK)
        mapping = MAPPINGS * conv(SHRUNK, SHRUNK, 3) + prelu(SHRUNK)
        expand = conv(SHRUNK, width, 1) + prelu(width)
        return head + shrink + mapping + expand


class FsrcnnOriginal(FsrcnnBackbone):
    """The original network, which converts (n, 3, h, w) to (n, 3, 4h, 4w), both in normalised units."""

    def __init__(self, width: int = 56) -> None:
        super().__init__(width)
        self.tail_conv = nn.ConvTranspose2d(width, 3, 9, stride=4, padding=3, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        upsampled: Tensor = self.tail_conv(super().forward(x))
        return upsampled

    def cost(self) -> Cost:
        """FLOPs of one LR pixel, upsampling included."""
        return super().cost() + transposed_conv(self.width, 3, 9, stride=4)
