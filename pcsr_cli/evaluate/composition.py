"""Composes the result of any routing from branches that ran once.

Before refinement, the value of a pixel depends only on its branch. Refinement changes only light pixels beside heavy
ones. If both branches are known at every pixel, the result of any routing follows without running the network."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsr_cli.engine.refine import seam_of, sum_3x3
from pcsr_cli.engine.rules import NEVER
from pcsr_cli.engine.sampling import Branches
from pcsr_cli.engine.tiles import Span
from pcsr_cli.errors import UsageError
from pcsr_cli.model.flops import Executed

BAND_PIXELS = 2**16
"""HR pixels composed at once, so that their values fit the cache."""


def check_branches(count: int) -> None:
    """Raise UsageError for a number of branches other than two."""
    if count != 2:
        raise UsageError(f"A sweep needs a model with two branches, but this model has {count}.", "Use another model.")


class Composer:
    """Composes results of a model with two branches for any mask (H, W) bool of heavy pixels.

    ``refine`` is the paper's #h. Raises UsageError for a model without two branches."""

    def __init__(self, branches: Branches, refine: int) -> None:
        check_branches(branches.rgb.shape[0])
        self.branches = branches
        self.size = branches.plan.hr_size
        self.refine = refine if min(self.size) >= 3 else NEVER
        self._predictions = _count_predictions(branches)

    def mask(self, cut: float) -> Tensor:
        """Return the heavy pixels, (H, W) bool, for a cut on p_heavy."""
        return self.branches.difficulty > cut

    @torch.inference_mode()
    def compose(self, mask: Tensor) -> NDArray[np.uint8]:
        """Return the result for a mask, (H, W, 3) uint8. The result equals that of ``upscale`` except for rounding
        ties."""
        result = torch.empty(*self.size, 3, dtype=torch.uint8)
        for rows, values in self.bands(mask, Span(0, self.size[0])):
            result[rows.start : rows.stop] = values.permute(1, 2, 0)
        return result.numpy()

    def bands(self, mask: Tensor, rows: Span) -> Iterator[tuple[Span, Tensor]]:
        """Yield rows of the result for a mask in bands (3, n, W) of 8-bit values as float32."""
        height = max(1, BAND_PIXELS // self.size[1])
        for top in range(rows.start, rows.stop, height):
            band = Span(top, min(top + height, rows.stop))
            yield band, self._compose_rows(mask, band)

    def _compose_rows(self, mask: Tensor, rows: Span) -> Tensor:
        around = rows.grown(1, self.size[0])
        heavy = mask[around.start : around.stop]
        # Interpolation at 0 and 1 returns one of the two values exactly, in less time than torch.where.
        one, other = self.branches.rgb[:, :, around.start : around.stop]
        values = torch.lerp(one, other, heavy.float())
        if self.refine < NEVER:
            values[:, 1:-1, 1:-1].lerp_(sum_3x3(values).div_(9), seam_of(heavy, self.refine).float())
        inside: Tensor = values[:, rows.start - around.start : rows.stop - around.start]
        return inside.mul(255).round_().clamp_(0, 255)

    def executed(self, mask: Tensor) -> Executed:
        """Return the work that ``upscale`` executes for a fixed mask, including refinement rings."""
        once, predictions = self.branches.executed, self._predictions
        heavy = int(torch.count_nonzero(mask) if predictions is None else predictions[mask].sum())
        return replace(once, branches=(once.classifier, heavy))


def _count_predictions(branches: Branches) -> Tensor | None:
    """Return the number of tiles that predict each pixel, (H, W) uint8; None if one tile predicts all."""
    tiles = branches.plan.tiles
    if len(tiles) == 1:
        return None
    count = torch.zeros(branches.plan.hr_size, dtype=torch.uint8)
    for tile in tiles:
        count[tile.region.slices] += 1
    return count


def patch_mask(difficulty: Tensor, side: int, heavy: int) -> Tensor:
    """Route whole patches by their mean p_heavy, and return the heavy pixels, (H, W) bool.

    ``difficulty`` is (H, W), ``side`` the side of a patch in HR pixels. The patches with the highest mean are heavy.
    Only the upper part of the last of these patches is heavy, so that exactly ``heavy`` pixels are heavy."""
    height, width = difficulty.shape
    across = -(-width // side)
    patch = (torch.arange(height) // side)[:, None] * across + torch.arange(width) // side
    count = torch.bincount(patch.view(-1))
    mean = torch.bincount(patch.view(-1), weights=difficulty.reshape(-1).double()) / count
    rank = torch.empty_like(count)
    rank[mean.argsort(descending=True, stable=True)] = torch.arange(len(count))
    order = rank[patch.view(-1)].argsort(stable=True)
    mask = torch.zeros(height * width, dtype=torch.bool)
    mask[order[:heavy]] = True
    return mask.view(height, width)
