"""Prepared samplers and classifier: the first layer is split, two logits become one, and all numbers are float32.

The first layer of a pixel is the sum of three terms: the shared product of its LR pixel, the term of its HR row and the
term of its HR column. At all pixels of some HR rows, the sum is spread over the rows and columns, without an index for
each pixel. At chosen pixels, one embedding bag gathers and sums three rows of a table. Both ways work at any scale.

Values are stored unit by unit, (rows, units, columns) or (parts, units, pixels): a layer with three outputs is several
times faster than in the order (pixels, units). Each layer is a batch of small products, because MKL shares the products
of a batch among its threads, but hardly uses a second thread for one product with few outputs.
"""

import copy
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcsr_cli.engine.device import upload
from pcsr_cli.engine.grid import Axis
from pcsr_cli.model.sampler import PixelSampler

PIECE = 4096
"""Chosen pixels in a piece on a CPU for each thread, few enough that the data between layers stays in the cache."""

PART = 512
"""Chosen pixels in one product on a CPU. The products of a piece run side by side."""


class PreparedMlp:
    """A sampler or classifier that can be evaluated at all HR pixels of some rows or at chosen ones."""

    def __init__(self, sampler: PixelSampler) -> None:
        self.sampler = sampler
        layers = [layer for layer in sampler.imnet.layers if isinstance(layer, nn.Linear)]
        self.outputs = len(layers[-1].weight)
        self.shared = layers[0].weight[:, : sampler.width].detach()
        self.layers = [(layer.weight.detach(), layer.bias.detach()[:, None]) for layer in layers[1:]]

    def planes(self, features: Tensor, rows: Axis, columns: Axis) -> tuple[Tensor, Tensor, Tensor]:
        """The first-layer terms of a band: LR pixels (h, n, w), HR rows (H, n, 1) and HR columns (n, W).

        ``features`` is (C, h, w).
        """
        of_rows, of_columns = self._terms(rows, columns)
        shared = torch.bmm(self.shared.expand(features.shape[1], -1, -1), features.transpose(0, 1))
        return shared, of_rows[:, :, None], of_columns.t().contiguous()

    def table(self, features: Tensor, rows: Axis, columns: Axis) -> Tensor:
        """The same terms as one table (LR pixels + HR rows + HR columns, n)."""
        by_pixel, terms = _by_pixel(features), self._terms(rows, columns)
        table = by_pixel.new_empty(len(by_pixel) + sum(map(len, terms)), len(self.shared))
        torch.mm(by_pixel, self.shared.t(), out=table[: len(by_pixel)])
        torch.cat(terms, out=table[len(by_pixel) :])
        return table

    def at(self, table: Tensor, bags: Tensor) -> Tensor:
        """Outputs (outputs, N) at N pixels. ``bags`` (N, 3) int32 holds each pixel's three rows of ``table``."""
        found = [
            self.finish(F.embedding_bag(piece, table, mode="sum").view(batch, -1, table.shape[1]).transpose(1, 2))
            for piece, batch in _pieces(bags)
        ]
        outputs = [each.transpose(0, 1).flatten(1) for each in found]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def finish(self, first: Tensor) -> Tensor:
        """Outputs (b, outputs, N) of the layers after the first, for a batch of b products. ``first`` (b, n, N) may be
        overwritten."""
        out = first
        for weight, bias in self.layers:
            out = torch.baddbmm(bias, weight.expand(len(out), -1, -1), out.relu_())
        return out

    def _terms(self, rows: Axis, columns: Axis) -> tuple[Tensor, Tensor]:
        return self.sampler.coordinate_terms(rows.rel, columns.rel, (rows.cell, columns.cell))


def _pieces(bags: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Cut chosen pixels (N, 3) into pieces, each with the number of equal parts that it consists of.

    On a CPU a part has PART pixels, and the pixels that remain are a piece of one part.
    """
    if bags.device.type != "cpu":
        yield bags, 1
        return
    for piece in torch.split(bags, PIECE * torch.get_num_threads()):
        parts = len(piece) // PART
        whole, rest = piece[: parts * PART], piece[parts * PART :]
        if parts:
            yield whole, parts
        if len(rest) or not parts:
            yield rest, 1


def _by_pixel(features: Tensor) -> Tensor:
    """Features (C, h, w) as (LR pixels, C), without a copy if they are channels-last."""
    return features.permute(1, 2, 0).reshape(-1, features.shape[0])


def one_logit(classifier: PixelSampler) -> PixelSampler:
    """A copy of a two-branch classifier with one output: the second logit minus the first."""
    return _changed(classifier, lambda last: last[1:] - last[:1])


def in_output_units(sampler: PixelSampler, std: tuple[float, float, float]) -> PixelSampler:
    """A copy of a sampler that gives its residuals in the units of the image, [0, 1], instead of the network's
    units."""

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
