"""Image pairs to measure on: HR images with LR versions that are given or computed, or LR images alone.

``find_pairs`` returns the files of each pair. A pair is loaded only when it is measured, so one damaged file does not
stop the others."""

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pcsr_cli.errors import InputError, UsageError, in_full, is_out_of_memory
from pcsr_cli.images.files import exists, is_file, is_folder, reason
from pcsr_cli.images.formats import readable_suffixes

if TYPE_CHECKING:  # these modules import numpy, and a wrong path is found without it
    import numpy as np
    from numpy.typing import NDArray

    from pcsr_cli.images.degrade import Degradation

Measured = TypeVar("Measured")

PATCH = 32
STRIDE = 28
"""The grid of LR patches of patch-based methods. The paper's tables are measured on images cropped to this grid."""


@dataclass(frozen=True)
class PairFiles:
    """The files of a pair: ``hr`` alone (LR is computed from it), both, or ``lr`` alone (there is no reference).

    The LR image is degraded by ``degradation``. HR is cropped so that its sides are multiples of the scale and of
    ``multiple``. With ``lr_float``, the LR image is computed from HR in floating point, neither rounded nor clipped."""

    name: str
    hr: Path | None
    lr: Path | None
    degradation: "Degradation | None" = None
    multiple: int = 1
    lr_float: bool = False

    @property
    def lossy(self) -> bool:
        """Whether the degradation or the header of the LR file states that the LR image is from a lossy source."""
        if self.degradation is not None:
            return self.degradation.lossy
        from pcsr_cli.images.source import read_kind

        with suppress(InputError):  # it is reported when the image is loaded
            return self.lr is not None and read_kind(self.lr).lossy
        return False


@dataclass(frozen=True)
class SkippedImage:
    """An image that could not be measured, and the reason."""

    image: str
    reason: str


@dataclass(frozen=True)
class Pair:
    """A loaded pair: ``lr`` (h, w, 3) and ``hr`` (s*h, s*w, 3) or None, both uint8 RGB. LR may be float32, where
    1 is white."""

    name: str
    lr: "NDArray[Any]"
    hr: "NDArray[np.uint8] | None"
    scale: float

    @property
    def lr_size(self) -> tuple[int, int]:
        """Height and width of the LR image."""
        return self.lr.shape[0], self.lr.shape[1]


def find_pairs(
    paths: Sequence[Path],
    scale: float,
    lr: Path | None = None,
    no_reference: bool = False,
    degradation: "Degradation | None" = None,
) -> tuple[PairFiles, ...]:
    """Find the pairs of images and folders, in the given order and by name inside a folder.

    An image is HR, or LR with ``no_reference``. A folder contains images, or the folders HR and LR_x``scale``. ``lr``
    is the LR image of the only HR image, or a folder of LR images with the same names. Pairs whose files have the same
    name are named by their paths. ``degradation`` is applied to all LR images. Raises InputError if nothing is found
    and UsageError for an invalid request."""
    if no_reference and lr is not None:
        raise UsageError("Separate LR images need a reference.", "Measure with HR images.", setting="lr")
    if not no_reference and scale != int(scale):
        message = f"Cannot compute LR images at x{in_full(scale)}: the scale must be a whole number."
        raise UsageError(message, "Use a whole number, or measure without a reference.", setting="no_reference")
    found: list[PairFiles] = []
    for path in paths:
        if not exists(path):
            raise InputError(f"{path} does not exist.", "Check the path.")
        found += _in_folder(path, scale, lr, no_reference) if is_folder(path) else [_pair_of(path, lr, no_reference)]
    if lr is not None and not is_folder(lr) and (len(found) != 1 or not exists(lr)):
        raise InputError(f"{lr} is not a folder of LR images.", "Use a folder, or one image for one HR image.")
    count = Counter(pair.name for pair in found)
    return tuple(
        replace(pair, name=str(pair.hr or pair.lr) if count[pair.name] > 1 else pair.name, degradation=degradation)
        for pair in found
    )


def _pair_of(path: Path, lr: Path | None, no_reference: bool) -> PairFiles:
    if no_reference:
        return PairFiles(path.name, None, path)
    return PairFiles(path.name, path, lr / path.name if lr is not None and is_folder(lr) else lr)


def _in_folder(folder: Path, scale: float, lr: Path | None, no_reference: bool) -> list[PairFiles]:
    hr_folder, lr_folder = folder / "HR", folder / f"LR_x{scale:g}"
    if is_folder(hr_folder) and lr is None:
        if no_reference:
            folder = lr_folder
        else:
            folder, lr = hr_folder, lr_folder if is_folder(lr_folder) else None
    files = images_in(folder)
    if not files:
        raise InputError(f"{folder} contains no images.", f"Supported suffixes: {', '.join(readable_suffixes())}.")
    if lr is not None and is_folder(lr) and not any(is_file(lr / file.name) for file in files):
        raise InputError(f"{lr} contains no image with the name of an image in {folder}.", "Rename the LR images.")
    return [_pair_of(file, lr, no_reference) for file in files]


def images_in(folder: Path) -> list[Path]:
    """Return the images in a folder by name, without hidden files and subfolders. Raises InputError."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names only
    except OSError as error:
        raise InputError(f"Cannot read the folder {folder}: {reason(error)}.", "Check the permissions.") from error
    paths = (folder / name for name in names if not name.startswith("."))
    return [path for path in paths if path.suffix.lower() in readable_suffixes() and is_file(path)]


def load_pair(files: PairFiles, scale: float, paper: bool = False) -> Pair:
    """Load a pair. HR is cropped at the bottom and right to a multiple of the scale.

    ``paper`` crops both images further, to the patch grid of the paper's tables. Raises InputError if a file is
    missing or damaged, or if the sizes do not match the scale, and UsageError for a degradation that reduces given LR
    images."""
    from pcsr_cli.images.degrade import Degradation
    from pcsr_cli.images.read import read_rgb
    from pcsr_cli.images.resize import make_lr_float

    degradation = files.degradation or Degradation()
    if files.hr is None:
        assert files.lr is not None
        pair = Pair(files.name, degradation.degrade(read_rgb(files.lr)), None, scale)
    else:
        hr = _cropped(read_rgb(files.hr), files.hr, int(scale))
        cut = _cropped(hr, files.hr, math.lcm(int(scale), files.multiple))
        height, width = (side // int(scale) for side in cut.shape[:2])
        lr: NDArray[Any]
        if files.lr_float:
            lr = make_lr_float(cut, int(scale))
        elif files.lr is None:
            lr = degradation.make_lr(cut, (height, width))
        else:
            lr = degradation.degrade(read_rgb(files.lr))
            if hr.shape != (lr.shape[0] * int(scale), lr.shape[1] * int(scale), 3):
                sizes = f"{lr.shape[1]}x{lr.shape[0]} and {hr.shape[1]}x{hr.shape[0]}"
                message = f"The sizes of {files.lr} and {files.hr} do not match x{int(scale)}: {sizes}."
                raise InputError(message, "Check the scale.", setting="scale")
        pair = Pair(files.name, lr[:height, :width], cut, scale)
    return crop_to_patch_grid(pair) if paper else pair


def _cropped(hr: "NDArray[np.uint8]", path: Path, scale: int) -> "NDArray[np.uint8]":
    from pcsr_cli.images.resize import crop_to_multiple

    try:
        return crop_to_multiple(hr, scale)
    except InputError as error:
        raise error.within(str(path)) from error


def patch_grid(height: int, width: int) -> tuple[int, int]:
    """Return the height and width of the part of an LR image that whole patches cover."""
    return (height - PATCH) // STRIDE * STRIDE + PATCH, (width - PATCH) // STRIDE * STRIDE + PATCH


def crop_to_patch_grid(pair: Pair) -> Pair:
    """Crop LR at the bottom and right to its ``patch_grid``, and HR to the same area.

    Raises InputError for an LR image smaller than a patch."""
    if min(pair.lr_size) < PATCH:
        raise InputError(f"{pair.name} is smaller than a patch of {PATCH} LR pixels.", "Use larger images.")
    height, width = patch_grid(*pair.lr_size)
    hr = None if pair.hr is None else pair.hr[: round(height * pair.scale), : round(width * pair.scale)]
    return replace(pair, lr=pair.lr[:height, :width], hr=hr)


def each_pair(
    files: Sequence[PairFiles],
    scale: float,
    measure: Callable[[Pair], Measured],
    skip: Callable[[SkippedImage], None],
    paper: bool = False,
) -> tuple[list[Measured], tuple[SkippedImage, ...]]:
    """Load and measure every pair, and call ``skip`` for each one that fails. Raises InputError if all pairs fail."""
    done: list[Measured] = []
    skipped: list[SkippedImage] = []
    for each in files:
        try:
            done.append(measure(load_pair(each, scale, paper)))
        except Exception as error:
            if len(files) == 1 or not (isinstance(error, InputError) or is_out_of_memory(error)):
                raise
            known = error if isinstance(error, InputError) else InputError("There is not enough memory.")
            skipped.append(SkippedImage(each.name, str(known.about(each.name))))
            skip(skipped[-1])
    if not done:
        raise InputError("All images failed.", skipped[0].reason)
    return done, tuple(skipped)


def demo_image() -> Path:
    """Return the path of the photograph that ships with pcsr, in the installed package or in the checkout."""
    package = Path(__file__).parent.parent
    installed = package / "examples" / "chelsea.png"
    return installed if installed.is_file() else package.parent / "examples" / "chelsea.png"
