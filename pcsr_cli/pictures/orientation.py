"""Pictures turned upright, as EXIF says the camera was held."""

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.pictures.picture import Picture

_Level = TypeVar("_Level", bound=np.generic)

TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
"""For each orientation, whether rows and columns change places, and then whether rows and columns run backwards."""


def upright(picture: Picture, orientation: int) -> Picture:
    """A picture whose file says EXIF's ``orientation`` (1 to 8), as it is to be seen."""
    if orientation == 1:
        return picture
    alpha = None if picture.alpha is None else _turned(picture.alpha, orientation)
    return replace(picture, rgb=_turned(picture.rgb, orientation), alpha=alpha)


def _turned(pixels: NDArray[_Level], orientation: int) -> NDArray[_Level]:
    swap, down, across = TURNS[orientation]
    turned = pixels.swapaxes(0, 1) if swap else pixels
    turned = turned[::-1] if down else turned
    return np.ascontiguousarray(turned[:, ::-1] if across else turned)
