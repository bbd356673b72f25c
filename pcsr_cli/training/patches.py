"""Pictures cut into patches: decoded once, kept as one memory-mapped uint8 array on disk.

The array holds (count, patch, patch, 3) RGB, the most detailed patches of all pictures. Its name is a fingerprint of
the settings and the pictures' files, so that one that is there is the right one.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.errors import InputError, OutputError, TrainingError
from pcsr_cli.images.files import atomic_write, is_file, remove_leftovers, temporary_file
from pcsr_cli.images.formats import readable_suffixes
from pcsr_cli.images.read import read_rgb
from pcsr_cli.images.resize import resize_bicubic
from pcsr_cli.training.config import DataConfig, TrainConfig
from pcsr_cli.training.events import Decoded, Observer, Skipped

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class _Picture:
    """A file, its name within its source, and the reductions it is used at."""

    path: Path
    name: str
    reductions: tuple[float, ...]


def open_patches(config: TrainConfig, smallest: int, observe: Observer) -> Pixels:
    """The patches of a recipe, made if they are not there or no longer fit: (count, patch, patch, 3), read only.

    ``smallest`` is the side the largest training window needs. Raises TrainingError if the patches are
    smaller than that, the folders hold no usable picture, or OutputError if the disk is full.
    """
    data = config.data
    if data.patch < smallest:
        raise TrainingError(f"Patches of {data.patch} pixels are too small.", f"Set data.patch to at least {smallest}.")
    pictures = list(_pictures(config))
    place = config.locate(data.cache) / f"patches-{_fingerprint(data, pictures)}.npy"
    if not is_file(place):
        _build(place, data, pictures, observe)
    patches: Pixels = np.load(place, mmap_mode="r")
    return patches


def _pictures(config: TrainConfig) -> Iterator[_Picture]:
    """Every picture of every source, in a fixed order. TrainingError for a folder that is missing or has none."""
    for source in config.data.sources:
        folder = config.locate(source.path)
        if not folder.is_dir():
            raise TrainingError(f"There is no folder {folder}.", "data.sources names folders of pictures.")
        files = sorted(
            path for path in folder.rglob("*") if path.suffix.lower() in readable_suffixes() and is_file(path)
        )
        kept = [path for path in files if not any(path.match(pattern) for pattern in source.exclude)]
        if not kept:
            raise TrainingError(f"There is no picture in {folder}.", "data.sources names folders of pictures.")
        yield from (_Picture(path, path.relative_to(folder).as_posix(), source.reductions) for path in kept)


def _fingerprint(data: DataConfig, pictures: list[_Picture]) -> str:
    stats = [picture.path.stat() for picture in pictures]
    entries = [
        (picture.name, picture.reductions, stat.st_size, stat.st_mtime_ns)
        for picture, stat in zip(pictures, stats, strict=True)
    ]
    return hashlib.sha256(json.dumps([data.patch, data.keep, entries]).encode()).hexdigest()[:16]


def _build(place: Path, data: DataConfig, pictures: list[_Picture], observe: Observer) -> None:
    """Cut everything, keep the most detailed patches, and remove those of other settings or pictures."""
    folder = place.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error.strerror}.", "Choose another.") from error
    remove_leftovers(folder)
    with temporary_file(place) as cut, atomic_write(place) as chosen:
        scores: list[float] = []
        with cut.open("wb") as stream:
            for done, picture in enumerate(pictures, start=1):
                for patch in _patches(picture, data.patch, observe):
                    scores.append(detail(patch))
                    stream.write(patch.tobytes())
                observe(Decoded(picture.path, done, len(pictures)))
        if not scores:
            raise TrainingError(f"No picture holds a patch of {data.patch} pixels.", "Set data.patch smaller.")
        _choose(cut, chosen, scores, data)
    for old in folder.glob("patches-*.npy"):
        if old != place:
            old.unlink(missing_ok=True)


def _choose(cut: Path, chosen: Path, scores: list[float], data: DataConfig) -> None:
    """Write the ``keep`` share of the patches with the highest scores, in their order."""
    count = max(1, round(data.keep * len(scores)))
    best = np.sort(np.argsort(scores, kind="stable")[-count:])
    shape = (len(scores), data.patch, data.patch, 3)
    everything = np.memmap(cut, np.uint8, "r", shape=shape)
    target = np.lib.format.open_memmap(chosen, "w+", np.uint8, (count, *shape[1:]))
    for row, index in enumerate(best):
        target[row] = everything[index]
    target.flush()


def _patches(picture: _Picture, side: int, observe: Observer) -> Iterator[Pixels]:
    """The squares of one picture at each of its reductions; the unusable picture is named and skipped."""
    try:
        pixels = read_rgb(picture.path)
    except InputError as error:
        observe(Skipped(picture.path, error.sentence))
        return
    used = False
    for reduction in picture.reductions:
        smaller = _reduce(pixels, reduction)
        rows, columns = smaller.shape[0] // side, smaller.shape[1] // side
        for row in range(rows):
            for column in range(columns):
                used = True
                yield smaller[row * side : (row + 1) * side, column * side : (column + 1) * side]
    if not used:
        observe(Skipped(picture.path, f"It is smaller than a patch of {side} pixels."))


def _reduce(pixels: Pixels, reduction: float) -> Pixels:
    if reduction == 1:
        return pixels
    height, width = (max(1, round(length / reduction)) for length in pixels.shape[:2])
    smaller = resize_bicubic(pixels.astype(np.float32), height, width)
    levels: Pixels = np.floor(smaller + 0.5).clip(0, 255).astype(np.uint8)
    return levels


def detail(patch: Pixels) -> float:
    """How much there is to restore: the mean step between neighbouring pixels, in grey levels."""
    grey = patch.astype(np.float32).mean(axis=2)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())
