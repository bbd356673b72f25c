"""Whether tiles see all that their pixels depend on, shown by pixels that are no numbers."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.refine import NEVER
from pcsr_cli.engine.routing import default_routing
from pcsr_cli.engine.upscale import FloatCanvas, Settings, upscale
from pcsr_cli.model.network import Pcsr

WHOLE = 2**31
"""A tile larger than any picture."""


@dataclass(frozen=True)
class HaloCheck:
    """How far a pixel depends on others, ``reach``, against the ``halo`` that tiles are given, both in LR pixels;
    ``same`` if nothing that a tile's pixels depend on was kept from them."""

    halo: int
    reach: int
    same: bool

    @property
    def passed(self) -> bool:
        """Whether tiles saw as much as the whole picture does."""
        return self.same and self.halo >= self.reach


@torch.inference_mode()
def check_halo(model: Pcsr, scale: float) -> HaloCheck:
    """Whether the halo is as wide as the backbone sees.

    What lies at the end of a halo moves a pixel by less than the last bit of its number, so no picture can show this.
    A pixel that is no number can: everything that depends on it, however faintly, becomes none either. It is done on
    the CPU in float64, where only plain operations are used: oneDNN's ReLU would make 0 of it."""
    probe = copy.deepcopy(model).to("cpu", torch.float64)
    halo = probe.encoder.receptive_radius
    reach = _reach(probe, halo + 3)
    side = reach + 3
    lr = torch.zeros(1, 3, 2 * side, 2 * side)
    # The first pixels of the lower and right tiles just reach the one, the last pixels of the others the other.
    for at in (side - reach, side - 1 + reach):
        lr[:, :, at, at] = torch.nan
    whole, tiled = (_lost(probe, lr, scale, tile) for tile in (WHOLE, side))
    return HaloCheck(halo, reach, torch.equal(whole, tiled))


def _reach(model: Pcsr, middle: int) -> int:
    """How many pixels away a change is felt, of at most ``middle``."""
    lr = torch.zeros(1, 3, 2 * middle + 1, 2 * middle + 1)
    lr[:, :, middle, middle] = torch.nan
    rows = _lost(model, lr, 1, WHOLE).any(dim=1).nonzero()
    return int(rows[-1]) - middle


def _lost(model: Pcsr, lr: Tensor, scale: float, tile: int) -> Tensor:
    """(H, W) bool: the pixels of the result that are no numbers."""
    canvas = FloatCanvas(*hr_size((lr.shape[2], lr.shape[3]), scale))
    upscale(model, lr, scale, Settings(default_routing(model.spec.branches), refine=NEVER, tile=tile), canvas)
    return canvas.rgb.isnan().any(dim=0)
