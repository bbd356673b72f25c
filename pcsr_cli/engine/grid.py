"""The positions of HR pixels on the LR grid: nearest LR pixel, relative position, bilinear neighbours.

Coordinates are in [-1, 1]: the centre of pixel i of n is at -1 + (2i + 1)/n. Rows and columns are independent, so one
``Axis`` describes each. Positions refer to the whole image, so a tile gets the same numbers as the whole image.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from pcsr_cli.engine.device import upload


def hr_length(lr_length: int, scale: float) -> int:
    """Length of an enlarged side: round(n * s), at least 1."""
    return max(1, round(lr_length * scale))


def hr_size(lr_size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Size (H, W) of an enlarged image."""
    return hr_length(lr_size[0], scale), hr_length(lr_size[1], scale)


Positions = TypeVar("Positions", int, Tensor)

MAX_SINGLE = 2**20
"""Maximum HR length whose positions are computed in float32, as the published results are. On longer sides, the error
of float32 grows to several LR pixels."""


@dataclass(frozen=True)
class Axis:
    """Consecutive HR rows (or columns) and their positions on the LR grid.

    ``nearest`` (int64) is the nearest LR row. ``rel`` (float32, in [-1, 1]) is the distance to the centre of that row
    in half LR rows, and ``cell`` (float32, no dimensions) is the size of an HR row in the same unit. The bilinear base
    interpolates between rows ``low`` and ``high`` (int64, clamped at the border) as low + weight * (high - low), in
    float32.
    """

    nearest: Tensor
    rel: Tensor
    cell: Tensor
    low: Tensor
    high: Tensor
    weight: Tensor

    def part(self, rows: slice) -> "Axis":
        """The axis of some of the rows."""
        parts = (each[rows] for each in (self.low, self.high, self.weight))
        return Axis(self.nearest[rows], self.rel[rows], self.cell, *parts)


def nearest_index(lr_length: int, hr_length: int, positions: Positions) -> Positions:
    """The index of the LR pixel whose centre is nearest to an HR pixel. A tie goes to the even index.

    ``positions`` is an HR index, or int64 HR indices, from 0 to ``hr_length`` - 1. Nearest sampling on a pixel grid
    also rounds ties to even. Integer arithmetic makes the result exact.
    """
    # HR centre in LR pixel units is ((2p + 1) h - H) / 2H, an exact fraction.
    numerator = (2 * positions + 1) * lr_length - hr_length
    denominator = 2 * hr_length
    whole = numerator // denominator
    twice_rest = 2 * (numerator - whole * denominator)
    up = (twice_rest > denominator) | ((twice_rest == denominator) & (whole % 2 == 1))
    return whole + up


def first_hr_index(lr_length: int, hr_length: int, lr_index: int) -> int:
    """The first HR pixel whose nearest LR pixel is ``lr_index`` or a later one; ``hr_length`` if there is none."""
    # HR pixel p is nearest to r or later if (2p + 1) h >= 2rH. At equality it is at the tie below r.
    index, rest = divmod(2 * lr_index * hr_length - lr_length, 2 * lr_length)
    return index if not rest and lr_index % 2 == 0 else index + 1


def pixel_centres(length: int, positions: Tensor) -> Tensor:
    """The centres of the pixels ``positions`` on a side of ``length`` pixels, in the precision of ``positions``: the
    centre of pixel i of n is at -1 + (2i + 1)/n.

    The order of the terms in the sum -1 + (2i + 1)/n is deliberate. Published results contain the float32 rounding of
    the sum in this order, which moves positions near the right border by up to 2e-5 LR pixels. With exact arithmetic,
    ten times as many 8-bit values would differ from the published ones.
    """
    half = 1 / length
    return (-1 + half) + (2 * half) * positions


def make_axis(lr_length: int, hr_length: int, start: int, stop: int, device: torch.device, exact: bool = False) -> Axis:
    """The axis of HR rows ``start``..``stop``, where ``lr_length`` rows are enlarged to ``hr_length``.

    ``exact`` positions are computed in float64, so they do not contain the rounding of the published results. The axis
    is computed on the host, where int64 is always exact, and copied to ``device`` once.
    """
    positions = torch.arange(start, stop, dtype=torch.int64, device="cpu")
    nearest = nearest_index(lr_length, hr_length, positions)
    dtype = torch.float64 if exact or hr_length > MAX_SINGLE else torch.float32
    centres = pixel_centres(hr_length, positions.to(dtype))
    rel = (centres - pixel_centres(lr_length, nearest.to(dtype))) * lr_length
    lr_position = (((centres + 1) * lr_length - 1) / 2).clamp(0, lr_length - 1)
    low = lr_position.floor()
    return Axis(
        nearest=upload(nearest, device),
        rel=upload(rel.float(), device),
        cell=upload(torch.tensor(2 * lr_length / hr_length, dtype=torch.float32, device="cpu"), device),
        low=upload(low.long(), device),
        high=upload((low.long() + 1).clamp(max=lr_length - 1), device),
        weight=upload((lr_position - low).float(), device),
    )


def bilinear(x: Tensor, rows: Axis, columns: Axis, origin: tuple[int, int] = (0, 0)) -> Tensor:
    """Enlarge ``x`` (1, 3, h, w) bilinearly at the given HR rows and columns: the base, (1, 3, H, W).

    Pixel centres are aligned and borders replicated. ``x`` may be a crop that starts at ``origin`` of the LR image and
    contains every LR pixel that the axes refer to.
    """
    # Columns first: selecting columns is slow, and there are fewer LR rows than HR rows.
    return interpolate(interpolate(x, columns, 3, origin[1]), rows, 2, origin[0])


def interpolate(x: Tensor, axis: Axis, dim: int, origin: int = 0) -> Tensor:
    """Enlarge dimension ``dim`` of ``x`` linearly to the positions of ``axis``. ``x`` starts at ``origin`` of the LR
    image."""
    if dim == x.ndim - 1 > 1:  # the selection of columns is several times faster in two dimensions
        return interpolate(x.reshape(-1, x.shape[dim]), axis, 1, origin).view(*x.shape[:dim], -1)
    weight = axis.weight.view(-1, *(1,) * (x.ndim - 1 - dim))
    return x.index_select(dim, axis.low - origin).lerp_(x.index_select(dim, axis.high - origin), weight)
