"""Training batches. Each batch is a pure function of the seed, the stage and the step, so a run can resume anywhere.

Every process draws the plan of the whole batch and makes its own part, so batches do not depend on the number of
processes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pcsr_cli.engine.device import to_numbers, upload
from pcsr_cli.engine.grid import Axis, make_axis
from pcsr_cli.engine.limits import allowed_threads
from pcsr_cli.images import degrade
from pcsr_cli.images.resize import resize_bicubic
from pcsr_cli.training.config import DegradationConfig, Range, ScaleShare, StageConfig
from pcsr_cli.training.patches import Pixels

POSITIONS = ("nearest", "rel", "low", "high", "weight")
"""The fields of an Axis that hold one value per position."""


def margin(hr_length: int, lr_length: int) -> int:
    """HR pixels that the bicubic kernel needs on each side of ``hr_length`` pixels that shrink to ``lr_length``."""
    return math.ceil(2 * hr_length / lr_length) + 1


@lru_cache(maxsize=256)
def shrinking_matrix(hr_length: int, lr_length: int, filter: str = "bicubic") -> Tensor:
    """Shrinking as a matrix: (lr_length, hr_length + 2 margins), float32, whose rows sum to 1.

    ``filter`` is a filter of ``degrade.reduce``. The matrix is the middle third of the matrix for three adjacent crops,
    so no border affects the result."""
    wide = np.eye(3 * hr_length, dtype=np.float32)
    if filter == "bicubic":
        matrix = resize_bicubic(wide[:, :, None], 3 * lr_length, 3 * hr_length)[:, :, 0]
    else:
        size = (3 * hr_length, 3 * lr_length)
        matrix = np.asarray(Image.fromarray(wide).resize(size, degrade.FILTERS[filter]))
    side = margin(hr_length, lr_length)
    middle = matrix[lr_length : 2 * lr_length, hr_length - side : 2 * hr_length + side]
    return torch.from_numpy(np.ascontiguousarray(middle))


def shrink(windows: Tensor, hr_length: int, lr_length: int, filter: str = "bicubic") -> Tensor:
    """Shrink (b, H, H, 3) uint8 windows, H = hr_length + 2 margins, to (b, lr_length, lr_length, 3) uint8.

    As in ``resize.make_lr``, rows are shrunk first and each pass rounds to 8 bits."""
    matrix = upload(shrinking_matrix(hr_length, lr_length, filter), windows.device)
    batch, side, _, channels = windows.shape
    rows = _round_8bit(matrix @ windows.reshape(batch, side, side * channels).float())
    columns = rows.view(batch, lr_length, side, channels).transpose(2, 3) @ matrix.T
    return _round_8bit(columns).permute(0, 1, 3, 2).byte().contiguous()


def _round_8bit(values: Tensor) -> Tensor:
    return values.add_(0.5).floor_().clamp_(0, 255)


@dataclass(frozen=True)
class Batch:
    """LR crops and the HR pixels to predict from them.

    ``lr`` (b, 3, n, n) and ``truth`` (b, R, C, 3) are float32 RGB in [0, 1]. ``rows`` and ``columns`` are the positions
    of the R x C chosen HR pixels, the same for every crop."""

    lr: Tensor
    truth: Tensor
    rows: Axis
    columns: Axis

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors of the batch, in a fixed order."""
        axes = [getattr(axis, field.name) for axis in (self.rows, self.columns) for field in fields(Axis)]
        return [self.lr, self.truth, *axes]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> "Batch":
        """The batch whose ``tensors`` are these."""
        lr, truth, *axes = tensors
        count = len(axes) // 2
        return cls(lr, truth, Axis(*axes[:count]), Axis(*axes[count:]))

    def to(self, device: torch.device) -> "Batch":
        """Move the batch to a device."""
        return Batch.of([upload(tensor, device) for tensor in self.tensors])


def largest_window(crop: int, scales: tuple[ScaleShare, ...]) -> int:
    """The side of the largest HR window that a batch can need, margins included."""
    length = max(round(crop * share.high) for share in scales)
    return length + 2 * margin(length, crop)


@dataclass(frozen=True)
class BatchMaker(Dataset[Batch]):
    """Makes the batches of one stage from ``patches`` (count, patch, patch, 3) uint8, on the device of the patches.

    A process makes part ``rank`` of ``processes`` equal parts of each batch."""

    patches: Tensor
    stage: StageConfig
    scales: tuple[ScaleShare, ...]
    seed: tuple[int, ...]
    degradation: DegradationConfig | None = None
    rank: int = 0
    processes: int = 1

    def __getitem__(self, step: int) -> Batch:
        """Make this process's part of the batch of iteration ``step``."""
        random = np.random.default_rng((*self.seed, step))
        crop, device = self.stage.crop, self.patches.device
        shares = np.array([scale.share for scale in self.scales])
        scale = self.scales[int(random.choice(len(shares), p=shares / shares.sum()))]
        length = round(crop * float(random.uniform(scale.low, scale.high)))
        side = margin(length, crop)
        axis = make_axis(crop, length, 0, length, device)
        rows, columns = (_choose_positions(axis, self.stage.pixels, random) for _ in range(2))
        windows = self._windows(length + 2 * side, random)
        truth = windows[:, side : side + length, side : side + length]
        chosen = truth.index_select(1, rows[1]).index_select(2, columns[1])
        if self.degradation is None:
            lr = shrink(windows, length, crop)
        else:
            lr = self._degraded(self.degradation, windows, length, random)
        return Batch(to_numbers(lr).permute(0, 3, 1, 2), to_numbers(chosen), rows[0], columns[0])  # channels last

    def _plan(self, side: int, random: np.random.Generator) -> NDArray[np.int64]:
        """This process's rows of the batch plan: patch, top, left, flip rows, flip columns, transpose."""
        batch = self.stage.batch
        count, patch = self.patches.shape[:2]
        plan = np.column_stack(
            (
                random.integers(count, size=batch),
                random.integers(patch - side + 1, size=(batch, 2)),
                random.integers(2, size=(batch, 3)),
            )
        )
        return np.array_split(plan, self.processes)[self.rank]

    def _windows(self, side: int, random: np.random.Generator) -> Tensor:
        """The HR windows of this process, (b, side, side, 3) uint8, flipped and transposed at random."""
        plan = self._plan(side, random)
        if self.patches.is_cuda:
            return _gather(self.patches, plan, side)
        windows = torch.empty(len(plan), side, side, 3, dtype=torch.uint8)
        for window, (index, top, left, flip_rows, flip_columns, transpose) in zip(windows, plan, strict=True):
            pixels = self.patches[index, top : top + side, left : left + side]
            flipped = [axis for axis, flip in enumerate((flip_rows, flip_columns)) if flip]
            pixels = pixels.flip(flipped) if flipped else pixels
            window.copy_(pixels.transpose(0, 1) if transpose else pixels)
        return windows

    def _degraded(self, config: DegradationConfig, windows: Tensor, length: int, random: np.random.Generator) -> Tensor:
        """Shrink the windows with a random filter and degrade each crop at random. Overwrites the windows."""
        for window in windows if config.twice else ():
            if config.jpeg and random.random() < config.twice:  # saved, reduced, and saved again below
                window.numpy()[:] = _save(window.numpy(), config.jpeg, random, _jpeg(config, random))
        lr = shrink(windows, length, self.stage.crop, _draw(config.reductions, random))
        for each in lr:
            each.numpy()[:] = degrade_crop(each.numpy(), config, random)
        return lr


def degrade_crop(rgb: Pixels, config: DegradationConfig, random: np.random.Generator) -> Pixels:
    """Degrade an LR crop, (h, w, 3) uint8: blur, then noise, then at most one codec, each with its share."""
    if config.blur and random.random() < config.blur.share:
        rgb = degrade.blur(rgb, random.uniform(config.blur.low, config.blur.high))
    if config.noise and random.random() < config.noise.share:
        rgb = degrade.noise(rgb, random.uniform(config.noise.low, config.noise.high), random)
    choice = random.random()
    for codec, save in ((config.jpeg, _jpeg(config, random)), (config.webp, degrade.webp)):
        if codec is None:
            continue
        if choice < codec.share:
            return _save(rgb, codec, random, save)
        choice -= codec.share
    return rgb


def _jpeg(config: DegradationConfig, random: np.random.Generator) -> Callable[[Pixels, int], Pixels]:
    subsampling: str = _draw(config.subsamplings, random)
    return lambda rgb, quality: degrade.jpeg(rgb, quality, subsampling)


def _save(rgb: Pixels, codec: Range, random: np.random.Generator, save: Callable[[Pixels, int], Pixels]) -> Pixels:
    """Save a crop at a random quality and a random position on the codec's grid of 16x16 pixels."""
    top, left = random.integers(16, size=2)
    quality = int(random.integers(round(codec.low), round(codec.high) + 1))
    height, width = rgb.shape[:2]
    padded = np.pad(rgb, ((top, 0), (left, 0), (0, 0)), mode="reflect")
    return save(padded, quality)[top : top + height, left : left + width]


def _draw(shares: Mapping[Any, float], random: np.random.Generator) -> Any:
    weights = np.array(list(shares.values()))
    return list(shares)[int(random.choice(len(weights), p=weights / weights.sum()))]


def _gather(patches: Tensor, plan: NDArray[np.int64], side: int) -> Tensor:
    """The windows of a plan, gathered on the GPU in one operation: (b, side, side, 3)."""
    numbers = upload(torch.from_numpy(plan.T.copy()), patches.device)[:, :, None, None]
    index, top, left, flip_rows, flip_columns, transpose = numbers
    positions = torch.arange(side, device=patches.device)
    # A window pixel (i, j) is the pixel (i, j) or (j, i) of its flipped area.
    i, j = positions[:, None], positions[None, :]
    row, column = torch.where(transpose == 1, j, i), torch.where(transpose == 1, i, j)
    row = top + torch.where(flip_rows == 1, side - 1 - row, row)
    column = left + torch.where(flip_columns == 1, side - 1 - column, column)
    patch = patches.shape[1]
    return patches.view(-1, 3)[(index * patch + row) * patch + column]


def batches(maker: BatchMaker, steps: range, device: torch.device) -> Iterator[Batch]:
    """Yield the batches of ``steps`` on ``device``. For a GPU, all cores of the CPU except one run the codecs."""
    degraded = maker.degradation is not None and device.type == "cuda"
    workers = allowed_threads() - 1 if degraded else 0
    loader: DataLoader[Batch] = DataLoader(maker, sampler=steps, batch_size=None, num_workers=workers)
    for batch in loader:
        yield batch.to(device)


def _choose_positions(axis: Axis, pixels: int, random: np.random.Generator) -> tuple[Axis, Tensor]:
    """Choose one random position from each of about sqrt(pixels) equal intervals of an axis."""
    length = axis.nearest.shape[0]
    count = min(length, max(1, round(pixels**0.5)))
    starts = (np.arange(count) + random.random(count)) * (length / count)
    chosen = torch.from_numpy(np.minimum(starts.astype(np.int64), length - 1)).to(axis.nearest.device)
    return replace(axis, **{name: getattr(axis, name)[chosen] for name in POSITIONS}), chosen
