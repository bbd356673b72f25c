"""The losses of the two training stages, and the parts of the network that each stage trains.

A loss is a mean over this process's part of the batch. The mean of the losses over the processes is the loss of the
whole batch."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from pcsr_cli.engine.grid import Axis, bilinear
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.sampler import PixelSampler
from pcsr_cli.training.batches import Batch
from pcsr_cli.training.config import StageConfig

PIXEL_WEIGHT = 1000.0
"""Weight of the L1 term in the second stage. The recipe sets the weight of the balance term (3 in the paper)."""


@dataclass(frozen=True)
class Loss:
    """The loss to minimise. ``heavy_share`` is the mean probability of the heaviest branch, in the second stage."""

    total: Tensor
    heavy_share: Tensor | None = None


def freeze(model: Pcsr, stage: int) -> list[nn.Parameter]:
    """Freeze the parts that a stage does not train; return the other parameters in a fixed order."""
    *lighter, heaviest = model.samplers
    model.requires_grad_(False)
    for module in (model.encoder, heaviest) if stage == 1 else (model.classifier, *lighter):
        module.requires_grad_(True)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def branch_pixels(sampler: PixelSampler, features: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """Evaluate a sampler at a grid of R x C HR pixels: features (b, C, h, w) to (b, R, C, outputs).

    The feature part of the first layer is computed once per LR pixel and copied to its HR pixels."""
    weight = sampler.first.weight[:, : sampler.width]
    shared = F.linear(features.permute(0, 2, 3, 1), weight)
    row_terms, column_terms = sampler.coordinate_terms(rows.rel, columns.rel, (rows.cell, columns.cell))
    first = shared.index_select(1, rows.nearest).index_select(2, columns.nearest)
    first = first + row_terms.to(first.dtype)[:, None] + column_terms.to(first.dtype)
    return sampler.finish(first)


class HeavyStage(nn.Module):
    """Stage 1: backbone and heaviest sampler, mean absolute or squared error in normalised units."""

    def __init__(self, model: Pcsr) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, square: bool = False) -> Loss:
        """The mean absolute error of the batch, or with ``square`` the mean squared error."""
        x = self.model.normalise(batch.lr)
        rgb = branch_pixels(self.model.samplers[-1], self.model.features(x), batch.rows, batch.columns)
        distance = F.mse_loss if square else F.l1_loss
        return Loss(distance(rgb.float(), _residual(self.model, x, batch)))


class RoutingStage(nn.Module):
    """Stage 2: the lighter samplers and the classifier; the parts of stage 1 are frozen."""

    def __init__(self, model: Pcsr, config: StageConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def forward(self, batch: Batch) -> Loss:
        """Return the loss: 1000 x L1 of the branches weighted by their probabilities, plus the balance term."""
        x = self.model.normalise(batch.lr)
        with torch.no_grad():
            features = self.model.features(x)
        grid = (batch.rows, batch.columns)
        branches = torch.stack([branch_pixels(s, features, *grid).float() for s in self.model.samplers], dim=-2)
        logits = branch_pixels(self.model.classifier, features, *grid)
        probabilities = logits.float().softmax(dim=-1)
        rgb = (probabilities[..., None] * branches).sum(dim=-2)
        pixel = F.l1_loss(rgb, _residual(self.model, x, batch))
        share = probabilities.flatten(0, -2).mean(dim=0)
        total = PIXEL_WEIGHT * pixel + self.config.balance * balance(share, self.config.heavy_share)
        return Loss(total, share[-1].detach())


def balance(share: Tensor, heavy_share: float) -> Tensor:
    """The balance term: the mean over branches of |share - target| / target for mean probabilities ``share`` (M,).

    The target of the heaviest branch is ``heavy_share``. The branches except the heaviest divide the remaining target
    equally. With two branches and a target of 0.5, the term is the paper's | sum(p_heavy) - N/2 | / (N/2). The sign of
    the balance term comes from the whole batch. The mean of the term over the processes, and the mean of its gradient,
    therefore equal the values for the whole batch."""
    lighter = share.shape[0] - 1
    targets = [(1 - heavy_share) / lighter] * lighter + [heavy_share]
    whole = share.detach().clone()
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(whole)
        whole /= distributed.get_world_size()
    # One number at a time: a CUDA graph cannot copy a tensor of targets from the host.
    terms = [torch.sign(whole[i] - target) * (share[i] - target) / target for i, target in enumerate(targets)]
    return torch.stack(terms).mean()


def _residual(model: Pcsr, x: Tensor, batch: Batch) -> Tensor:
    """The difference of truth and bilinear base, which a sampler predicts: (b, R, C, 3) in normalised units."""
    base = bilinear(x, batch.rows, batch.columns).permute(0, 2, 3, 1)
    truth = model.normalise(batch.truth.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return truth - base
