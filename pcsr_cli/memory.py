"""How much is done at once: a small model of what tiles and kept features cost in memory.

On a CPU rows flow through in bands that fit the cache, so a tile's height costs nothing; its width sets the size of
a band. Other devices take a tile at once, as large as half of their free memory holds."""

import math

import psutil
import torch

from pcsr_cli.model import Pcsr

CPU_TILE_WIDTH = 768
"""LR columns of a tile on a CPU: the halo adds a twentieth to the backbone's work, and a band of ten rows fits the
cache."""

DEVICE_TILES = range(64, 2049)
"""LR pixels a side of a tile on other devices."""

FEATURE_MAPS = 12
"""Feature maps a backbone holds at once, at most: CARN's cascade with its concatenations."""

LARGEST_BUDGET = 2**30
"""Features that ADM keeps for its second pass unless told otherwise: a quarter of what is free, but no more than
this."""


def auto_tile(model: Pcsr, scale: float, lr_size: tuple[int, int]) -> tuple[int, int]:
    """The tile (height, width) in LR pixels for a picture of (height, width)."""
    if model.device.type == "cpu":
        return lr_size[0], CPU_TILE_WIDTH
    side = math.isqrt(int(free_memory(model.device) / 2 / bytes_per_lr_pixel(model, scale)))
    side = min(max(side, DEVICE_TILES.start), DEVICE_TILES.stop - 1)
    return side, side


def bytes_per_lr_pixel(model: Pcsr, scale: float) -> float:
    """Roughly what one LR pixel of a tile needs on a device that takes the tile at once.

    Per LR pixel the backbone's feature maps; per HR pixel three layers of the widest sampler, the indices of its
    table rows, and the colour as predicted, refined and rounded.
    """
    number = model.dtype.itemsize
    widest = max(size for hidden in (*model.spec.samplers, model.spec.classifier) for size in (*hidden, 3))
    return FEATURE_MAPS * model.spec.backbone.width * number + scale**2 * (3 * widest * number + 12 + 4 * 12)


def feature_budget(device: torch.device, asked: int | None) -> int:
    """Bytes of features to keep between ADM's passes: as ``asked``, else a quarter of what is free, at most 1 GiB."""
    return min(LARGEST_BUDGET, free_memory(device) // 4) if asked is None else asked


def free_memory(device: torch.device) -> int:
    """Free bytes: of the device if it is a CUDA one, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)
