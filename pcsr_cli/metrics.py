"""How close a result is to the truth."""

import math

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.errors import InputError


def psnr(result: NDArray[np.uint8], truth: NDArray[np.uint8], shave: int = 0) -> float:
    """PSNR in dB of two (H, W, 3) uint8 RGB pictures, over all channels, ``shave`` border pixels left out.

    Infinite for equal pictures. InputError if the sizes differ or nothing is left inside the border.
    """
    if result.shape != truth.shape:
        raise InputError(f"Pictures of {result.shape[:2]} and {truth.shape[:2]} (rows, columns) cannot be compared.")
    inside = slice(shave, -shave) if shave else slice(None)
    difference = result[inside, inside].astype(np.float64) - truth[inside, inside]
    if not difference.size:
        raise InputError(f"Nothing is left of a picture of {truth.shape[:2]} inside a border of {shave} pixels.")
    mean_square = float(np.mean(difference**2))
    return math.inf if mean_square == 0 else 10 * math.log10(255**2 / mean_square)
