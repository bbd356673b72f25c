"""Results composed from branches that were run once: any routing mask, refined exactly, as 8-bit levels.

A pixel's value before refinement depends on its branch alone, and refinement replaces only light pixels beside heavy
ones. So with both branches known everywhere, another mask costs a look at the seams and no network.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsr_cli.engine.refine import NEVER, bits, choose, seam_of, sum_3x3
from pcsr_cli.engine.sampling import Branches
from pcsr_cli.engine.tiles import Span
from pcsr_cli.errors import UsageError
from pcsr_cli.model.flops import Executed

BAND_PIXELS = 2**16
"""HR pixels composed at once: a few numbers of each have to share the cache."""


class Composer:
    """Composes results of a model with two branches for any mask (H, W) bool of heavy pixels.

    ``refine`` is the paper's #h. Raises UsageError for more than two branches.
    """

    def __init__(self, branches: Branches, refine: int) -> None:
        if branches.rgb.shape[0] != 2:
            raise UsageError(
                f"Cuts are compared between two branches, but this model has {branches.rgb.shape[0]}.",
                "Choose another model.",
            )
        self.branches = branches
        self.size = branches.plan.hr_size
        light, heavy = branches.rgb.permute(0, 3, 1, 2).contiguous().view(torch.int32)
        self._bits = torch.stack((light, light ^ heavy))
        self.refine = refine if min(self.size) >= 3 else NEVER
        self._covered = _coverage(branches)

    def mask(self, cut: float) -> Tensor:
        """The pixels that are heavy at a cut on p_heavy, (H, W) bool."""
        return self.branches.difficulty > cut

    @torch.inference_mode()
    def compose(self, mask: Tensor) -> NDArray[np.uint8]:
        """The result for a mask, (H, W, 3) uint8: what ``upscale`` makes of that routing, but for rounding ties."""
        result = torch.empty(*self.size, 3, dtype=torch.uint8)
        for rows, levels in self.bands(mask, Span(0, self.size[0])):
            result[rows.start : rows.stop] = levels.permute(1, 2, 0)
        return result.numpy()

    def bands(self, mask: Tensor, rows: Span) -> Iterator[tuple[Span, Tensor]]:
        """Some rows of the result for a mask, band by band: levels 0..255 (3, n, W), as float32."""
        height = max(1, BAND_PIXELS // self.size[1])
        for top in range(rows.start, rows.stop, height):
            band = Span(top, min(top + height, rows.stop))
            yield band, self._compose_rows(mask, band)

    def _compose_rows(self, mask: Tensor, rows: Span) -> Tensor:
        around = rows.grown(1, self.size[0])
        heavy = mask[around.start : around.stop]
        light, other = self._bits[:, :, around.start : around.stop]
        values = (other & bits(heavy)).bitwise_xor_(light).view(torch.float32)
        if self.refine < NEVER:
            choose(values[:, 1:-1, 1:-1], sum_3x3(values).div_(9), bits(seam_of(heavy, self.refine)))
        own: Tensor = values[:, rows.start - around.start : rows.stop - around.start]
        return own.mul(255).round_().clamp_(0, 255)

    def executed(self, mask: Tensor) -> Executed:
        """What ``upscale`` executes for a mask decided beforehand, refinement rings included."""
        once = self.branches.executed
        heavy = int(self._covered[mask].sum()) if self._covered is not None else int(torch.count_nonzero(mask))
        return Executed(
            backbone=once.backbone,
            classifier_shared=once.classifier_shared,
            classifier=once.classifier,
            branches_shared=once.branches_shared,
            branches=(once.classifier - heavy, heavy),
            repeated=once.repeated,
        )


def _coverage(branches: Branches) -> Tensor | None:
    """How many tiles predict each pixel, (H, W) uint8; None where every pixel is predicted once."""
    tiles = branches.plan.tiles
    if len(tiles) == 1:
        return None
    covered = torch.zeros(branches.plan.hr_size, dtype=torch.uint8)
    for tile in tiles:
        covered[tile.region.slices] += 1
    return covered
