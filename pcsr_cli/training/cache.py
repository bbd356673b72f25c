"""Pictures cut into patches: decoded once, kept as one memory-mapped uint8 array on disk.

The array holds (count, patch, patch, 3) RGB, the most detailed patches of all pictures. A fingerprint of the
settings and the files beside it tells whether it is still the right one.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.errors import InputError
from pcsr_cli.failures import training
from pcsr_cli.pictures.formats import readable_suffixes
from pcsr_cli.pictures.reading import read_rgb
from pcsr_cli.resize import resize_bicubic
from pcsr_cli.training.config import DataConfig, TrainConfig
from pcsr_cli.training.events import Decoded, Observer, Skipped

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class _Picture:
    """A file with the reductions it is used at."""

    path: Path
    reductions: tuple[float, ...]


def open_patches(config: TrainConfig, smallest: int, observe: Observer) -> Pixels:
    """The patches of a recipe, made if they are not there or no longer fit: (count, patch, patch, 3), read only.

    ``smallest`` is the side the largest training window needs. Raises TrainingError if the patches are
    smaller than that, the folders hold no usable picture, or OutputError if the disk is full.
    """
    data = config.data
    if data.patch < smallest:
        raise training.SMALL_PATCHES(side=data.patch, smallest=smallest)
    pictures = list(_pictures(config))
    folder = config.locate(data.cache)
    fingerprint = _fingerprint(data, pictures)
    if not _fits(folder, fingerprint):
        _build(folder, data, pictures, fingerprint, observe)
    patches: Pixels = np.load(folder / "patches.npy", mmap_mode="r")
    return patches


def _pictures(config: TrainConfig) -> Iterator[_Picture]:
    """Every picture of every source, in a fixed order. TrainingError for a folder that is missing or has none."""
    for source in config.data.sources:
        folder = config.locate(source.path)
        if not folder.is_dir():
            raise training.NO_FOLDER(folder=folder)
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in readable_suffixes())
        kept = [path for path in files if not any(path.match(pattern) for pattern in source.exclude)]
        if not kept:
            raise training.NO_PICTURE(folder=folder)
        yield from (_Picture(path, source.reductions) for path in kept)


def _fingerprint(data: DataConfig, pictures: list[_Picture]) -> str:
    entries = [(p.path.name, p.reductions, p.path.stat().st_size) for p in pictures]
    return hashlib.sha256(json.dumps([data.patch, data.keep, entries]).encode()).hexdigest()


def _fits(folder: Path, fingerprint: str) -> bool:
    try:
        return bool(json.loads((folder / "patches.json").read_text())["fingerprint"] == fingerprint)
    except (OSError, ValueError, KeyError):
        return False


def _build(folder: Path, data: DataConfig, pictures: list[_Picture], fingerprint: str, observe: Observer) -> None:
    """Cut everything, then keep the most detailed patches; the array appears under its name only when complete."""
    scores: list[float] = []
    cut = folder / f"cut.{os.getpid()}.raw"
    chosen = folder / f"chosen.{os.getpid()}.npy"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with cut.open("wb") as stream:
            for done, picture in enumerate(pictures, start=1):
                for patch in _patches(picture, data.patch, observe):
                    scores.append(detail(patch))
                    stream.write(patch.tobytes())
                observe(Decoded(picture.path, done, len(pictures)))
        if not scores:
            raise training.SMALL_PICTURES(side=data.patch)
        _choose(cut, chosen, scores, data)
        chosen.replace(folder / "patches.npy")
        (folder / "patches.json").write_text(json.dumps({"fingerprint": fingerprint, "cut": len(scores)}))
    except OSError as error:
        raise training.NOT_WRITTEN(what="The patches", place=folder, reason=error.strerror or error) from error
    finally:
        cut.unlink(missing_ok=True)
        chosen.unlink(missing_ok=True)


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
