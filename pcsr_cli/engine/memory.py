"""Sizes of tiles and strips, from an estimate of the memory that they and cached features take.

On a CPU, rows pass through the backbone in bands that fit the cache, so the width of a tile sets the size of a band,
and the height of a tile costs no memory. Devices other than a CPU compute a tile at once, so a tile may fill half of
the free memory of the device. A result is computed in strips of limited size. Each strip computes the halo above and
below the strip again.
"""

import math
import os

import torch

from pcsr_cli.engine.limits import available_memory
from pcsr_cli.model.network import Pcsr

CPU_TILE_WIDTH = 768
"""LR columns of a tile on a CPU. The halo adds a twentieth to the backbone's work, and a band of ten rows fits the
cache.
"""

CPU_TILE_PIXELS = 2**23
"""Maximum LR pixels of a tile on a CPU. A tile of this size takes 100 MB in float32, and the halo adds little work to a
long tile."""

DEVICE_TILES = range(64, 2049)
"""Range of the side of a tile in LR pixels, on devices other than a CPU."""

STRIP_BYTES = 2**28
"""Maximum bytes of a strip of the result (256 MiB). A 16K image has two strips and computes 2% of its rows twice."""

MIN_STRIP_ROWS = 128
"""Minimum LR rows of a strip; lower strips are mostly halo. At 40,000 LR columns, x4 and 8 bits, a strip of this height
takes 250 MiB."""

FEATURE_MAPS = 12
"""Maximum number of feature maps that a backbone holds at once, in CARN's cascade with its concatenations."""

MAX_BUDGET = 2**30
"""Maximum bytes of features that ADM keeps for its second pass by default. The default is a quarter of the free memory.
"""

KERNEL_CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
"""The environment variables with which PyTorch and oneDNN limit their caches of kernels."""

MAX_KERNELS = 96
"""Kernels per cache. An image needs up to 32, so images of up to three sizes reuse them."""


def limit_kernel_caches() -> None:
    """Limit the caches of kernels that PyTorch and oneDNN compile for each shape, unless the user set a limit.

    By default the caches hold 1,024 kernels, and a folder of images of different sizes takes up to 1 GB more. The
    limits are read once in a process, at the first convolution.
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, str(MAX_KERNELS))


def auto_tile(model: Pcsr, scale: float, lr_size: tuple[int, int], strip_pixel_bytes: int = 0) -> tuple[int, int]:
    """The tile (height, width) in LR pixels for an image of (height, width).

    ``strip_pixel_bytes`` is the memory of one HR pixel of a strip of the result, 0 if strips take none.
    """
    rows = strip_rows(lr_size, scale, strip_pixel_bytes)
    if model.device.type == "cpu":
        return min(rows, CPU_TILE_PIXELS // min(lr_size[1], CPU_TILE_WIDTH)), CPU_TILE_WIDTH
    side = math.isqrt(int(free_memory(model.device) / 2 / bytes_per_lr_pixel(model, scale)))
    side = min(max(side, DEVICE_TILES.start), DEVICE_TILES.stop - 1)
    return min(side, max(rows, DEVICE_TILES.start)), side


def strip_rows(lr_size: tuple[int, int], scale: float, pixel_bytes: int) -> int:
    """Return the number of LR rows in a strip. The result of a strip takes at most STRIP_BYTES, unless the strip has
    only MIN_STRIP_ROWS.

    A small result is one strip and computes no halo twice.
    """
    if not pixel_bytes:
        return lr_size[0]
    row = pixel_bytes * lr_size[1] * scale * scale
    return min(lr_size[0], max(MIN_STRIP_ROWS, int(STRIP_BYTES / row)))


def bytes_per_lr_pixel(model: Pcsr, scale: float) -> float:
    """Approximate bytes per LR pixel of a tile on a device that computes the tile at once.

    The estimate counts the backbone's feature maps per LR pixel. Per HR pixel, the estimate counts three layers of the
    widest sampler, the indices of the table rows, and RGB as predicted, refined and rounded.
    """
    widest = max(size for hidden in (*model.spec.samplers, model.spec.classifier) for size in (*hidden, 3))
    return FEATURE_MAPS * model.spec.backbone.width * model.dtype.itemsize + scale**2 * 4 * (3 * widest + 3 + 12)


def feature_budget(device: torch.device, asked: int | None) -> int:
    """Bytes of features to keep between ADM's passes: ``asked``, or a quarter of the free memory, at most 1 GiB."""
    return min(MAX_BUDGET, free_memory(device) // 4) if asked is None else asked


def free_memory(device: torch.device) -> int:
    """Free bytes of a CUDA device, including PyTorch's cache, or else of the machine or its container."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return available_memory()
