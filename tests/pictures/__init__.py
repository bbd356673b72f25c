"""Small picture files to give to the command."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def levels(height: int = 6, width: int = 8, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """(height, width, channels) uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path: Path, pixels: NDArray[np.uint8] | None = None) -> Path:
    """Write an array, or some picture, in the format of the suffix; returns the path."""
    chosen = levels() if pixels is None else pixels
    Image.fromarray(chosen[..., 0] if chosen.shape[2] == 1 else chosen).save(path)
    return path


def load(path: Path) -> NDArray[np.uint8]:
    """The pixels of a file, (H, W) or (H, W, C)."""
    with Image.open(path) as image:
        return np.asarray(image)
