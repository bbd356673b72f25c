"""How much is done at once: a small model of the memory that tiles and kept features take.

On a CPU rows flow through in bands that fit the cache, so a tile's height costs nothing; its width sets the size of
a band. Other devices take a tile at once, as large as half of their free memory holds. A result is computed strip by
strip, and a strip has as many rows as fit a bound; each strip computes the halo above and below it again."""

import math

import psutil
import torch

from pcsr_cli.model.network import Pcsr

CPU_TILE_WIDTH = 768
"""LR columns of a tile on a CPU: the halo adds a twentieth to the backbone's work, and a band of ten rows fits the
cache."""

DEVICE_TILES = range(64, 2049)
"""LR pixels a side of a tile on other devices."""

STRIP_BYTES = 2**28
"""Bytes of a strip of the result (256 MiB): a 16K image has two, and computes two rows in a hundred twice."""

MIN_STRIP_ROWS = 128
"""LR rows of the shortest strip; shorter ones are mostly halo. At 40,000 LR columns, x4 and 8 bits it takes 250 MiB."""

FEATURE_MAPS = 12
"""Feature maps a backbone holds at once, at most: CARN's cascade with its concatenations."""

MAX_BUDGET = 2**30
"""Features that ADM keeps for its second pass by default: a quarter of the free memory, at most this."""


def auto_tile(model: Pcsr, scale: float, lr_size: tuple[int, int], strip_pixel_bytes: int = 0) -> tuple[int, int]:
    """The tile (height, width) in LR pixels for an image of (height, width).

    ``strip_pixel_bytes`` is what one HR pixel of a strip of the result costs in memory, 0 where strips cost nothing.
    """
    rows = strip_rows(lr_size, scale, strip_pixel_bytes)
    if model.device.type == "cpu":
        return rows, CPU_TILE_WIDTH
    side = math.isqrt(int(free_memory(model.device) / 2 / bytes_per_lr_pixel(model, scale)))
    side = min(max(side, DEVICE_TILES.start), DEVICE_TILES.stop - 1)
    return min(side, max(rows, DEVICE_TILES.start)), side


def strip_rows(lr_size: tuple[int, int], scale: float, pixel_bytes: int) -> int:
    """LR rows of a strip whose result takes at most STRIP_BYTES, but no fewer than MIN_STRIP_ROWS.

    A result that is small enough is one strip, and nothing is computed twice for it.
    """
    if not pixel_bytes:
        return lr_size[0]
    row = pixel_bytes * lr_size[1] * scale * scale
    return min(lr_size[0], max(MIN_STRIP_ROWS, int(STRIP_BYTES / row)))


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
    return min(MAX_BUDGET, free_memory(device) // 4) if asked is None else asked


def free_memory(device: torch.device) -> int:
    """Free bytes: of the device if it is a CUDA one, PyTorch's own cache included, else of the machine."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return int(psutil.virtual_memory().available)
