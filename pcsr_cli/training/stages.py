"""The two stages as losses: what is predicted, what is compared, what is trained.

Everything is a mean over this process's part of the batch, made so that the mean over processes is the whole batch's.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from pcsr_cli.engine.grid import Axis, bilinear
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.sampler import PixelSampler
from pcsr_cli.model.spec import sampler_names
from pcsr_cli.training.batches import Batch
from pcsr_cli.training.config import StageConfig

PIXEL_WEIGHT = 1000.0
"""Weight of the L1 term in the second stage; the balance term's is the recipe's (3 in the paper)."""


@dataclass(frozen=True)
class Loss:
    """What is minimised; ``heavy_share`` is the mean probability of the heaviest branch, in the second stage."""

    total: Tensor
    heavy_share: Tensor | None = None


def trained_parts(model: Pcsr, stage: int) -> tuple[nn.Module, ...]:
    """The modules a stage trains; all others are frozen."""
    names = sampler_names(model.spec.branches)
    if stage == 1:
        return model.encoder, model.get_submodule(names[-1])
    return model.classifier, *(model.get_submodule(name) for name in names[:-1])


def branch_pixels(sampler: PixelSampler, features: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """A sampler at a grid of R x C HR pixels: features (b, C, h, w) to (b, R, C, outputs).

    The first layer is computed once for every LR pixel and handed to its HR pixels.
    """
    weight = sampler.first.weight[:, : sampler.width]
    shared = F.linear(features.permute(0, 2, 3, 1), weight)
    row_terms, column_terms = sampler.coordinate_terms(rows.rel, columns.rel, (rows.cell, columns.cell))
    first = shared.index_select(1, rows.nearest).index_select(2, columns.nearest)
    first = first + row_terms.to(first.dtype)[:, None] + column_terms.to(first.dtype)
    return sampler.finish(first)


class HeavyStage(nn.Module):
    """Stage 1: backbone and heaviest sampler, L1 (or the mean square) in normalised units."""

    def __init__(self, model: Pcsr) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, square: bool = False) -> Loss:
        """The batch's mean absolute error, or with ``square`` its mean square."""
        x = self.model.normalise(batch.lr)
        rgb = branch_pixels(self.model.samplers[-1], self.model.features(x), batch.rows, batch.columns)
        distance = F.mse_loss if square else F.l1_loss
        return Loss(distance(rgb.float(), _residual(self.model, x, batch)))


class RoutingStage(nn.Module):
    """Stage 2: the lighter samplers and the classifier, with everything of stage 1 frozen."""

    def __init__(self, model: Pcsr, config: StageConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def forward(self, batch: Batch) -> Loss:
        """1000 x L1 of the branches mixed by their probabilities, plus the balance term."""
        x = self.model.normalise(batch.lr)
        with torch.no_grad():
            features = self.model.features(x)
        place = (batch.rows, batch.columns)
        branches = torch.stack([branch_pixels(s, features, *place).float() for s in self.model.samplers], dim=-2)
        logits = branch_pixels(self.model.classifier, features, *place)
        probabilities = logits.float().softmax(dim=-1)
        rgb = (probabilities[..., None] * branches).sum(dim=-2)
        pixel = F.l1_loss(rgb, _residual(self.model, x, batch))
        share = probabilities.flatten(0, -2).mean(dim=0)
        total = PIXEL_WEIGHT * pixel + self.config.balance * balance(share, self.config.heavy_share)
        return Loss(total, share[-1].detach())


def balance(share: Tensor, heavy_share: float) -> Tensor:
    """How far the mean probabilities (M,) are from the wished ones, the mean of |share - wish| / wish over branches.

    The heaviest branch is wished ``heavy_share``, the others an equal part of the rest. With two branches and a half it
    is the paper's | sum(p_heavy) - N/2 | / (N/2). The sign is taken from the whole batch, so that the mean of
    this over processes is the whole batch's value, and so are the gradients'.
    """
    lighter = share.shape[0] - 1
    wish = torch.tensor([(1 - heavy_share) / lighter] * lighter + [heavy_share], device=share.device)
    whole = share.detach().clone()
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(whole)
        whole /= distributed.get_world_size()
    return (torch.sign(whole - wish) * (share - wish) / wish).mean()


def _residual(model: Pcsr, x: Tensor, batch: Batch) -> Tensor:
    """What a sampler has to add to the base: (b, R, C, 3) in normalised units."""
    base = bilinear(x, batch.rows, batch.columns).permute(0, 2, 3, 1)
    truth = model.normalise(batch.truth.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return truth - base


def freeze(model: Pcsr, trained: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Leave only ``trained`` trainable; returns their parameters in a fixed order."""
    model.requires_grad_(False)
    for module in trained:
        module.requires_grad_(True)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
