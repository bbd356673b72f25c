"""Prepared samplers and classifier: the first layer is split, layers are fused, two logits become one.

The first layer of a pixel is the sum of three rows of one table: the shared product of its LR pixel, the term of its HR
row and the term of its HR column. One embedding bag gathers and sums the three rows, at any scale and for any selection
of pixels.
"""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcsr_cli.engine.device import upload
from pcsr_cli.engine.fused.kernels import FusedLinear
from pcsr_cli.engine.grid import Axis
from pcsr_cli.model.sampler import PixelSampler

PIECE = 4096
"""Pixels in a piece, few enough that the data between layers stays in the cache."""


class PreparedMlp:
    """A sampler or classifier that can be evaluated at chosen HR pixels."""

    def __init__(self, sampler: PixelSampler) -> None:
        self.sampler = sampler
        layers = [layer for layer in sampler.imnet.layers if isinstance(layer, nn.Linear)]
        self.shared = FusedLinear(layers[0].weight[:, : sampler.width], None)
        self.hidden = [FusedLinear(layer.weight, layer.bias, relu=True) for layer in layers[1:-1]]
        self.last = FusedLinear(layers[-1].weight, layers[-1].bias) if len(layers) > 1 else None

    def table(self, features: Tensor, rows: Axis, columns: Axis) -> Tensor:
        """The first-layer terms of a band: (LR pixels + HR rows + HR columns, n).

        ``features`` is (LR pixels, C).
        """
        terms = self.sampler.coordinate_terms(rows.rel, columns.rel, (rows.cell, columns.cell))
        return torch.cat((self.shared(features), *terms))

    def __call__(self, table: Tensor, bags: Tensor) -> Tensor:
        """Outputs (N, outputs) float32 at N pixels. ``bags`` (N, 3) int32 holds each pixel's three table rows."""
        return self._layers(F.embedding_bag(bags, table, mode="sum"), packed=True)

    def in_pieces(self, table: Tensor, bags: Tensor) -> Tensor:
        """Compute the outputs in pieces of PIECE pixels and a remainder, for wide layers or a varying N.

        oneDNN compiles a kernel for every new N, which takes longer than computing a few thousand pixels.
        """
        if bags.device.type != "cpu" or bags.shape[0] < PIECE:
            return self._layers(F.embedding_bag(bags, table, mode="sum"), packed=bags.device.type != "cpu")
        pieces = [
            self._layers(F.embedding_bag(piece, table, mode="sum"), packed=piece.shape[0] == PIECE)
            for piece in torch.split(bags, PIECE)
        ]
        return torch.cat(pieces)

    def _layers(self, first: Tensor, packed: bool) -> Tensor:
        if self.last is None:
            return first.float()
        out = first.relu_()
        for layer in (*self.hidden, self.last):
            out = layer(out) if packed else layer.plain(out)
        return out.float()


def one_logit(classifier: PixelSampler) -> PixelSampler:
    """A copy of a two-branch classifier with one output: the second logit minus the first."""
    return _changed(classifier, lambda last: last[1:] - last[:1])


def in_output_units(sampler: PixelSampler, std: tuple[float, float, float]) -> PixelSampler:
    """A copy of a sampler whose residuals are in [0, 1] units instead of the network's."""

    def scale(last: Tensor) -> Tensor:
        return last * upload(torch.tensor(std, dtype=last.dtype, device="cpu"), last.device)[:, None]

    return _changed(sampler, scale)


def _changed(sampler: PixelSampler, change: Callable[[Tensor], Tensor]) -> PixelSampler:
    """A copy with the linear ``change`` applied to the weights (out, in) and the bias (out, 1) of the last layer."""
    copied = copy.deepcopy(sampler)
    last = copied.imnet.layers[-1]
    assert isinstance(last, nn.Linear)
    last.weight = nn.Parameter(change(last.weight), requires_grad=False)
    last.bias = nn.Parameter(change(last.bias[:, None])[:, 0], requires_grad=False)
    return copied
