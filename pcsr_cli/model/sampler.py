"""Pixel samplers and the classifier: small MLPs, each evaluated at one HR pixel.

The input of a pixel is q = [feature of the nearest LR pixel, rel_y, rel_x, cell_y, cell_x] (C + 4 numbers). The
first layer is linear in q, so it splits without approximation (at any real scale):

    W q + b  =  W_feature @ feature[LR pixel]  +  row term[HR row]  +  column term[HR column]

All HR pixels of an LR pixel share the first product. Each row term and each column term is one small
vector."""

from itertools import pairwise

from torch import Tensor, nn

from pcsr_cli.model.layers import Cost, conv

COORDINATES = 4


class _Mlp(nn.Module):
    """An MLP: Linear, ReLU, ..., Linear. Without hidden sizes, the MLP is one Linear."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size_in, size_out in pairwise(sizes):
            layers += [nn.Linear(size_in, size_out), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])


class PixelSampler(nn.Module):
    """An MLP from q to ``outputs`` numbers: RGB for a sampler, one logit for each branch for the classifier."""

    def __init__(self, width: int, hidden: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.width = width
        self.sizes = (width + COORDINATES, *hidden, outputs)
        self.imnet = _Mlp(self.sizes)

    @property
    def first(self) -> nn.Linear:
        """The first layer, which splits into feature, row and column terms."""
        layer = self.imnet.layers[0]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, q: Tensor) -> Tensor:
        """Apply the whole MLP: (..., C + 4) to (..., outputs)."""
        out: Tensor = self.imnet.layers(q)
        return out

    def coordinate_terms(
        self, rel_y: Tensor, rel_x: Tensor, cell: tuple[float | Tensor, float | Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The row terms (H, n), which include bias and cell, and the column terms (W, n)."""
        weight = self.first.weight[:, self.width :].float()
        w_rel_y, w_rel_x, w_cell_y, w_cell_x = weight.unbind(dim=1)
        constant = self.first.bias.float() + cell[0] * w_cell_y + cell[1] * w_cell_x
        rows = rel_y[:, None] * w_rel_y + constant
        columns = rel_x[:, None] * w_rel_x
        return rows.to(self.first.weight.dtype), columns.to(self.first.weight.dtype)

    def finish(self, first: Tensor) -> Tensor:
        """Apply all layers after the first: (N, n) pre-activations, which may be overwritten, to (N, outputs)."""
        out: Tensor = self.imnet.layers[1:](first)
        return out

    def shared_cost(self) -> Cost:
        """FLOPs of W_feature @ feature for one LR pixel. The paper's convention counts these FLOPs in
        ``pixel_cost``."""
        return Cost(0, conv(self.width, self.sizes[1], 1).executed)

    def pixel_cost(self) -> Cost:
        """FLOPs of one HR pixel. The paper's convention counts the whole MLP; the executed FLOPs exclude the first
        layer."""
        layers = [conv(size_in, size_out, 1) for size_in, size_out in pairwise(self.sizes)]
        paper = sum(layer.paper for layer in layers)
        return Cost(paper, sum(layer.executed for layer in layers[1:]))
