"""Training images cut into patches and cached as one memory-mapped array, (count, patch, patch, 3) uint8 RGB.

The file name contains a fingerprint of the settings and the image files, so a file with the expected name is up to
date. The file ends with ``MARK``, which shows that pcsr wrote the file."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.errors import InputError, TrainingError
from pcsr_cli.images.files import atomic_write, is_file, make_folder, remove_leftovers, temporary_file
from pcsr_cli.images.formats import readable_suffixes
from pcsr_cli.images.read import read_rgb
from pcsr_cli.images.resize import resize_bicubic
from pcsr_cli.training.config import DataConfig, TrainConfig
from pcsr_cli.training.log import Decoded, Observer, Skipped

Pixels = NDArray[np.uint8]

MARK = b"\npcsr patch cache 1\n"
"""The last bytes of a cache file, after the array. pcsr deletes only cache files that end with these bytes."""


@dataclass(frozen=True)
class _Image:
    """An image file, its name within its source, and the reductions at which the image is used."""

    path: Path
    name: str
    reductions: tuple[float, ...]


def open_patches(config: TrainConfig, smallest: int, observe: Observer) -> Pixels:
    """Open the patches of a recipe, (count, patch, patch, 3). Missing, outdated or damaged patches are made again.

    A change of the array does not change the file.

    ``smallest`` is the side of the largest training window. Raises TrainingError if the patches are smaller or the
    folders hold no usable image, OutputError if the cache cannot be written."""
    data = config.data
    if data.patch < smallest:
        raise TrainingError(f"Patches of {data.patch} pixels are too small.", f"Set data.patch to at least {smallest}.")
    images = list(_find_images(config))
    folder = config.locate(data.cache)
    path = folder / f"patches-{_fingerprint(data, images)}.npy"
    remove_leftovers(folder)
    patches = _load(path, data.patch)
    if patches is None:
        _build(path, data, images, observe)
        for old in folder.glob("patches-*.npy"):
            if old != path and _is_cache(old):
                old.unlink(missing_ok=True)
        patches = _load(path, data.patch)
        assert patches is not None
    return patches


def _load(path: Path, side: int) -> Pixels | None:
    """The patches in a complete cache file, None if the file is missing or damaged."""
    if not _is_cache(path):
        return None
    try:
        patches = np.load(path, mmap_mode="c")
    except (OSError, ValueError, EOFError):
        return None
    fits = patches.dtype == np.uint8 and patches.ndim == 4 and patches.shape[1:] == (side, side, 3)
    return patches if fits and patches.offset + patches.nbytes + len(MARK) == path.stat().st_size else None


def _is_cache(path: Path) -> bool:
    if path.is_symlink() or not is_file(path):
        return False
    with path.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - len(MARK)))
        return stream.read() == MARK


def _find_images(config: TrainConfig) -> Iterator[_Image]:
    """Yield the images of every source in a fixed order. Raises TrainingError if a folder is missing or empty."""
    for source in config.data.sources:
        folder = config.locate(source.path)
        if not folder.is_dir():
            raise TrainingError(f"There is no folder {folder}.", "Set data.sources to folders of images.")
        files = sorted(
            path for path in folder.rglob("*") if path.suffix.lower() in readable_suffixes() and is_file(path)
        )
        kept = [path for path in files if not any(path.match(pattern) for pattern in source.exclude)]
        if not kept:
            raise TrainingError(f"There is no image in {folder}.", "Set data.sources to folders of images.")
        yield from (_Image(path, path.relative_to(folder).as_posix(), source.reductions) for path in kept)


def _fingerprint(data: DataConfig, images: list[_Image]) -> str:
    stats = [(image, image.path.stat()) for image in images]
    entries = [(image.name, image.reductions, stat.st_size, stat.st_mtime_ns) for image, stat in stats]
    return hashlib.sha256(json.dumps([data.patch, data.keep, entries]).encode()).hexdigest()[:16]


def _build(path: Path, data: DataConfig, images: list[_Image], observe: Observer) -> None:
    """Cut all images into patches and write the most detailed ones to ``path``."""
    make_folder(path.parent)
    with temporary_file(path) as cut, atomic_write(path) as chosen:
        scores: list[float] = []
        with cut.open("wb") as stream:
            for done, image in enumerate(images, start=1):
                for patch in _patches(image, data.patch, observe):
                    scores.append(detail(patch))
                    stream.write(patch.tobytes())
                observe(Decoded(image.path, done, len(images)))
        if not scores:
            raise TrainingError(f"No image is as large as a patch of {data.patch} pixels.", "Use a smaller data.patch.")
        _choose(cut, chosen, scores, data)


def _choose(cut: Path, chosen: Path, scores: list[float], data: DataConfig) -> None:
    """Copy the ``keep`` share of the patches with the highest scores, in their original order."""
    count = max(1, round(data.keep * len(scores)))
    best = np.sort(np.argsort(scores, kind="stable")[-count:])
    shape = (len(scores), data.patch, data.patch, 3)
    every_patch = np.memmap(cut, np.uint8, "r", shape=shape)
    target = np.lib.format.open_memmap(chosen, "w+", np.uint8, (count, *shape[1:]))
    for row, index in enumerate(best):
        target[row] = every_patch[index]
    target.flush()
    with chosen.open("ab") as stream:
        stream.write(MARK)


def _patches(image: _Image, side: int, observe: Observer) -> Iterator[Pixels]:
    """Yield the patches of one image at each of its reductions; report and skip an image that cannot be used."""
    try:
        pixels = read_rgb(image.path)
    except InputError as error:
        observe(Skipped(image.path, error.sentence))
        return
    used = False
    for reduction in image.reductions:
        smaller = reduce(pixels, reduction)
        rows, columns = smaller.shape[0] // side, smaller.shape[1] // side
        grid = smaller[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
        yield from grid.swapaxes(1, 2).reshape(-1, side, side, 3)
        used = used or rows * columns > 0
    if not used:
        observe(Skipped(image.path, f"It is smaller than a patch of {side} pixels."))


def reduce(pixels: Pixels, reduction: float) -> Pixels:
    """Shrink an image (H, W, 3) bicubically by the factor ``reduction``."""
    if reduction == 1:
        return pixels
    height, width = (max(1, round(length / reduction)) for length in pixels.shape[:2])
    smaller = resize_bicubic(pixels.astype(np.float32), height, width)
    levels: Pixels = np.floor(smaller + 0.5).clip(0, 255).astype(np.uint8)
    return levels


def detail(patch: Pixels) -> float:
    """The amount of detail in a patch: the mean difference between neighbouring pixels, in grey levels."""
    grey = patch.astype(np.float32).mean(axis=2)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())
