"""Pairs to measure on: HR pictures with their LR, given or made; or LR pictures alone.

A ``Source`` tells where a pair lies; it is read when its turn comes, so that one broken file costs no other.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.errors import InputError, UsageError, in_full
from pcsr_cli.images.files import exists, is_file, is_folder, reason
from pcsr_cli.images.formats import readable_suffixes
from pcsr_cli.images.read import read_rgb
from pcsr_cli.images.resize import crop_to_multiple, make_lr

PATCH = 32
STRIDE = 28
"""The grid of LR patches that patch-wise methods cut pictures into; the paper's tables are measured on it."""


@dataclass(frozen=True)
class Source:
    """Where a pair lies: ``hr`` alone (its LR is made), both, or ``lr`` alone (nothing to compare with)."""

    name: str
    hr: Path | None
    lr: Path | None


@dataclass(frozen=True)
class LeftOut:
    """A picture that could not be measured, and why."""

    picture: str
    sentence: str


@dataclass(frozen=True)
class Pair:
    """A pair in memory: ``lr`` (h, w, 3) and ``hr`` (s*h, s*w, 3) or None, both uint8 RGB."""

    name: str
    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8] | None
    scale: float

    @property
    def lr_size(self) -> tuple[int, int]:
        """Height and width."""
        return self.lr.shape[0], self.lr.shape[1]


def find_pairs(
    paths: Sequence[Path], scale: float, lr: Path | None = None, no_reference: bool = False
) -> tuple[Source, ...]:
    """The pairs that some pictures and folders stand for, in the order given, a folder's by name; those
    of one name go by their paths.

    A picture is HR, or with ``no_reference`` LR. A folder is one of pictures, or of the folders HR and LR_x``scale``.
    ``lr`` is the LR picture of the one HR picture given, or the folder of those of the same names. Raises InputError
    where there is nothing to measure, UsageError where the request makes no sense.
    """
    if no_reference and lr is not None:
        raise UsageError("Without a reference every picture is LR, and --lr has no use.", "Leave one of them out.")
    if not no_reference and scale != int(scale):
        raise UsageError(
            f"LR pictures are x{in_full(scale)} smaller only for whole scales.", "Or measure --no-reference."
        )
    found: list[Source] = []
    for path in paths:
        if not exists(path):
            raise InputError(f"There is no file or folder {path}.", "Check the path.")
        found += _in_folder(path, scale, lr, no_reference) if is_folder(path) else [_of_file(path, lr, no_reference)]
    if lr is not None and not is_folder(lr) and (len(found) != 1 or not exists(lr)):
        raise InputError(f"{lr} is no folder of LR pictures.", "Give --lr a folder, or one picture for one picture.")
    times = Counter(source.name for source in found)
    return tuple(replace(s, name=str(s.hr or s.lr)) if times[s.name] > 1 else s for s in found)


def _of_file(path: Path, lr: Path | None, no_reference: bool) -> Source:
    if no_reference:
        return Source(path.name, None, path)
    return Source(path.name, path, lr / path.name if lr is not None and is_folder(lr) else lr)


def _in_folder(folder: Path, scale: float, lr: Path | None, no_reference: bool) -> list[Source]:
    hr_folder, lr_folder = folder / "HR", folder / f"LR_x{scale:g}"
    if is_folder(hr_folder) and lr is None:
        if no_reference:
            return _pictures_as_sources(lr_folder, None, True)
        given = lr_folder if is_folder(lr_folder) else None
        return _pictures_as_sources(hr_folder, given, False)
    return _pictures_as_sources(folder, lr, no_reference)


def _pictures_as_sources(folder: Path, lr: Path | None, no_reference: bool) -> list[Source]:
    files = pictures_in(folder)
    if not files:
        known = ", ".join(readable_suffixes())
        raise InputError(f"There is no picture in {folder}.", f"Give a folder with {known} files.")
    if lr is not None and is_folder(lr) and not any(is_file(lr / file.name) for file in files):
        raise InputError(f"No picture of {lr} has the name of one in {folder}.", "LR and HR go together by name.")
    return [_of_file(file, lr, no_reference) for file in files]


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder by name, hidden ones and folders within left out. Raises InputError."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names only
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read: {reason(error)}.", "Check its permissions.") from error
    paths = (folder / name for name in names if not name.startswith("."))
    return [path for path in paths if path.suffix.lower() in readable_suffixes() and is_file(path)]


def load_pair(source: Source, scale: float, paper: bool = False) -> Pair:
    """Read a pair; HR is cut at the bottom and right to a multiple of the scale.

    ``paper`` cuts both further, to the patch grid of the paper's tables. Raises InputError for a file that is missing
    or broken, and for sizes that do not match the scale.
    """
    if source.hr is None:
        assert source.lr is not None
        pair = Pair(source.name, read_rgb(source.lr), None, scale)
    else:
        hr = _cut(read_rgb(source.hr), source.hr, int(scale))
        lr = make_lr(hr, int(scale)) if source.lr is None else read_rgb(source.lr)
        _check_sizes(hr, lr, source, int(scale))
        pair = Pair(source.name, lr, hr, scale)
    return cut_to_patch_grid(pair) if paper else pair


def _cut(hr: NDArray[np.uint8], path: Path, scale: int) -> NDArray[np.uint8]:
    try:
        return crop_to_multiple(hr, scale)
    except InputError as error:
        raise error.within(str(path)) from error


def _check_sizes(hr: NDArray[np.uint8], lr: NDArray[np.uint8], source: Source, scale: int) -> None:
    if hr.shape != (lr.shape[0] * scale, lr.shape[1] * scale, 3):
        sizes = f"{lr.shape[1]}x{lr.shape[0]} and {hr.shape[1]}x{hr.shape[0]}"
        raise InputError(f"{source.lr} and {source.hr} do not go together at x{scale}: {sizes}.", "Check --scale.")


def cut_to_patch_grid(pair: Pair) -> Pair:
    """Cut LR at the bottom and right to what patches of 32 in steps of 28 cover, and HR accordingly."""
    height, width = (((side - PATCH + STRIDE) // STRIDE - 1) * STRIDE + PATCH for side in pair.lr_size)
    if min(pair.lr_size) < PATCH:
        raise InputError(f"{pair.name} is smaller than a patch of {PATCH} LR pixels.", "Leave --protocol paper out.")
    hr = None if pair.hr is None else pair.hr[: round(height * pair.scale), : round(width * pair.scale)]
    return replace(pair, lr=pair.lr[:height, :width], hr=hr)


def demo_picture() -> Path:
    """The photograph that comes with pcsr: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "examples" / "chelsea.png"
    return installed if installed.is_file() else package.parent / "examples" / "chelsea.png"
