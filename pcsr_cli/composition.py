"""Results composed from branches that were run once: any routing mask, refined exactly, as 8-bit levels.

A pixel's value before refinement depends on its branch alone, and refinement replaces only light pixels beside heavy
ones. So with both branches known everywhere, another mask costs a look at the seams and no network.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsr_cli.failures import measuring
from pcsr_cli.flops import Executed
from pcsr_cli.refine import NEVER, seam_of, sum_3x3
from pcsr_cli.sampling import Branches

SEAM_PIXELS = 2**18
"""Seam pixels refined at once."""

MANY = 24
"""Where more than one pixel in so many is refined, all of them are, in rows that fit the cache."""

ROWS = 32


@dataclass(frozen=True)
class Seam:
    """The pixels that refinement replaces: ``index`` (n,) int64 into the flat picture, ``levels`` (n, 3) uint8."""

    index: Tensor
    levels: Tensor


class Composer:
    """Composes results of a model with two branches for any mask (H, W) bool of heavy pixels.

    ``refine`` is the paper's #h. Raises UsageError for more than two branches.
    """

    def __init__(self, branches: Branches, refine: int) -> None:
        if branches.rgb.shape[0] != 2:
            raise measuring.MORE_BRANCHES(branches=branches.rgb.shape[0])
        self.branches = branches
        self.refine = refine
        self.size = branches.plan.hr_size
        self.light, self.heavy = (_levels(rgb) for rgb in branches.rgb)
        self._rows = branches.rgb.view(-1, 3)
        self._covered = _coverage(branches)

    def mask(self, cut: float) -> Tensor:
        """The pixels that are heavy at a cut on p_heavy, (H, W) bool."""
        return self.branches.difficulty > cut

    def compose(self, mask: Tensor) -> NDArray[np.uint8]:
        """The result for a mask, (H, W, 3) uint8: what ``upscale`` makes of that routing, but for rounding ties."""
        result = torch.where(mask[..., None], self.heavy, self.light)
        seam = self.seam(mask)
        result.view(-1, 3)[seam.index] = seam.levels
        return result.numpy()

    def seam(self, mask: Tensor) -> Seam:
        """What refinement changes."""
        inside = seam_of(mask, self.refine) if self.refine < NEVER and min(self.size) >= 3 else None
        if inside is None:
            return Seam(torch.empty(0, dtype=torch.int64), torch.empty(0, 3, dtype=torch.uint8))
        width = self.size[1]
        found = torch.from_numpy(np.flatnonzero(inside.numpy()))
        index = found + width + 1 + found.div(width - 2, rounding_mode="floor") * 2
        if index.numel() * MANY > mask.numel():
            return Seam(index, self._all_means(mask).view(-1, 3).index_select(0, found))
        flat = mask.reshape(-1).long() * mask.numel()
        levels = [_levels(self._means(part, flat)) for part in torch.split(index, SEAM_PIXELS)]
        return Seam(index, torch.cat(levels))

    def _all_means(self, mask: Tensor) -> Tensor:
        """3x3 means of all pixels inside, (H - 2, W - 2, 3) uint8: where many are wanted, faster than one by one."""
        light, heavy = self.branches.rgb
        height, width = self.size
        means = torch.empty(height - 2, width - 2, 3, dtype=torch.uint8)
        for top in range(0, height - 2, ROWS):
            rows = slice(top, min(top + ROWS, height - 2) + 2)
            composed = torch.where(mask[rows, :, None], heavy[rows], light[rows])
            means[top : rows.stop - 2] = _levels(sum_3x3(composed).div_(9))
        return means

    def _means(self, index: Tensor, branch: Tensor) -> Tensor:
        """3x3 means about some pixels, (n, 3) float32, summed in the order of ``refine`` to the last bit.

        ``branch`` (H*W,) is where each pixel's branch starts in the table of both.
        """
        width = self.size[1]
        total: Tensor | None = None
        for across in (-1, 0, 1):
            around = [index + (across + down * width) for down in (-1, 0, 1)]
            above, here, below = (self._rows.index_select(0, at + branch[at]) for at in around)
            column = above.add_(here).add_(below)
            total = column if total is None else total.add_(column)
        assert total is not None
        return total.div_(9)

    def executed(self, mask: Tensor) -> Executed:
        """What ``upscale`` executes for a mask decided beforehand, refinement rings included."""
        once = self.branches.executed
        heavy = int(self._covered[mask].sum()) if self._covered is not None else int(mask.sum())
        return Executed(
            backbone=once.backbone,
            classifier_shared=once.classifier_shared,
            classifier=once.classifier,
            branches_shared=once.branches_shared,
            branches=(once.classifier - heavy, heavy),
            repeated=once.repeated,
        )


def _levels(rgb: Tensor) -> Tensor:
    return rgb.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def _coverage(branches: Branches) -> Tensor | None:
    """How many tiles predict each pixel, (H, W) uint8; None where every pixel is predicted once."""
    tiles = branches.plan.tiles
    if len(tiles) == 1:
        return None
    covered = torch.zeros(branches.plan.hr_size, dtype=torch.uint8)
    for tile in tiles:
        covered[tile.region.slices] += 1
    return covered
