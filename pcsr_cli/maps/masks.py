"""Masks from files: what a person painted to force pixels heavy or light."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcsr_cli.engine.forced import Forced
from pcsr_cli.errors import InputError
from pcsr_cli.pictures.reading import read_picture


def read_forced(
    heavy: Path | None, light: Path | None, lr_size: tuple[int, int], hr_size: tuple[int, int], painted: tuple[int, int]
) -> Forced | None:
    """The masks for one picture, None without any; sizes are (height, width).

    A mask has the size of the picture or of its result, ``hr_size``; ``painted`` is that at which the network works.
    It marks the pixels that are bright, at least half of full in some channel, and not transparent. Raises InputError
    for a mask that cannot be read or has another size, and for pixels that both masks want.
    """
    if heavy is None and light is None:
        return None
    light_marks, heavy_marks = (None if path is None else _read(path, lr_size, hr_size) for path in (light, heavy))
    forced = Forced(painted, light_marks, heavy_marks)
    if count := forced.clashes:
        raise InputError(
            f"The masks force {count:,} pixels of the result to be both heavy and light.", "Clear one of the two."
        )
    return forced


def _read(path: Path, lr_size: tuple[int, int], hr_size: tuple[int, int]) -> Tensor:
    """(h, w) bool."""
    picture = read_picture(path)
    if picture.size not in (lr_size, hr_size):
        raise InputError(
            f"The mask {path} is {_told(picture.size)}, not {_told(lr_size)} like the picture or {_told(hr_size)} "
            "like its result.",
            "Give it one of these sizes.",
        )
    half = np.iinfo(picture.rgb.dtype).max / 2
    marks = picture.rgb.max(axis=2) > half
    if picture.alpha is not None:
        marks &= picture.alpha > half
    return torch.from_numpy(marks)


def _told(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
