"""Training batches: determinism, alignment of crop and truth, augmentation, and the shrinking kernel."""

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from pcsr_cli.engine.grid import bilinear
from pcsr_cli.images import degrade
from pcsr_cli.images.resize import make_lr, resize_bicubic_8bit
from pcsr_cli.training.batches import Batch, BatchMaker, _gather, largest_window, margin, shrink, shrinking_matrix
from pcsr_cli.training.config import DegradationConfig, Range, ScaleShare, StageConfig

STAGE = StageConfig(iterations=1, batch=4, crop=8, pixels=100)
SCALES = (ScaleShare(2, 2), ScaleShare(1, 4))
PATCHES = np.random.default_rng(0).integers(256, size=(5, 64, 64, 3), dtype=np.uint8)
SMOOTH = np.repeat(np.repeat(np.random.default_rng(1).integers(256, size=(5, 16, 16, 3), dtype=np.uint8), 4, 1), 4, 2)


def maker(
    stage: StageConfig = STAGE,
    patches: np.ndarray = PATCHES,
    scales: tuple[ScaleShare, ...] = SCALES,
    rank: int = 0,
    processes: int = 1,
) -> BatchMaker:
    return BatchMaker(torch.from_numpy(patches), stage, scales, (1, 2), None, rank, processes)


def test_batches_depend_only_on_the_step() -> None:
    first, again, other = (maker()[step] for step in (3, 3, 4))
    assert torch.equal(first.lr, again.lr) and torch.equal(first.truth, again.truth)
    assert not torch.equal(first.lr, other.lr)


def test_processes_divide_a_batch() -> None:
    whole, parts = maker()[5], [maker(rank=rank, processes=2)[5] for rank in range(2)]
    assert torch.equal(whole.lr, torch.cat([part.lr for part in parts]))
    assert torch.equal(whole.truth, torch.cat([part.truth for part in parts]))


def test_batches_have_the_stated_shapes_and_ranges() -> None:
    for step in range(20):
        batch = maker()[step]
        assert batch.lr.shape == (4, 3, 8, 8)
        assert batch.truth.shape == (4, *batch.rows.nearest.shape, *batch.columns.nearest.shape, 3)
        assert batch.truth.shape[1] <= 10
        assert batch.lr.min() >= 0 and batch.lr.max() <= 1
        assert batch.truth.min() >= 0 and batch.truth.max() <= 1


def test_truth_and_crop_are_aligned() -> None:
    """On a smooth image, the bilinear base of the crop is close to the truth."""
    y, x = np.mgrid[:64, :64]
    image = np.stack([2 * x + y, 190 - x - y, 3 * x], axis=2).astype(np.uint8)
    for step in range(20):
        batch = maker(patches=image[None])[step]
        base = bilinear(batch.lr, batch.rows, batch.columns).permute(0, 2, 3, 1)
        inside = (batch.rows.weight > 0) & (batch.rows.low < batch.rows.high)
        across = (batch.columns.weight > 0) & (batch.columns.low < batch.columns.high)
        difference = (base - batch.truth)[:, inside][:, :, across].abs()
        assert difference.numel() == 0 or difference.max() < 0.02


def test_every_flip_and_transpose_occurs() -> None:
    stage = replace(STAGE, batch=64)
    corner = np.zeros((1, 64, 64, 3), np.uint8)
    corner[0, :32, :32, 0] = 255
    corner[0, :32, 32:, 1] = 255
    lr = maker(stage, corner, (ScaleShare(4, 4),))[0].lr
    corners = {str([crop[:2, y, x].gt(0.5).tolist() for y, x in ((0, 0), (0, -1), (-1, 0))]) for crop in lr}
    assert len(corners) >= 8


@pytest.mark.parametrize("crop", [8, 13])
def test_no_window_exceeds_the_largest(crop: int) -> None:
    stage = replace(STAGE, crop=crop)
    side = largest_window(crop, SCALES)
    patches = np.zeros((1, side, side, 3), np.uint8)
    for step in range(30):
        maker(stage, patches)[step]


def noise(side: int) -> np.ndarray:
    return np.random.default_rng(side).integers(256, size=(side, side, 3), dtype=np.uint8)


def shrunk(image: np.ndarray, start: int, source: int, crop: int) -> np.ndarray:
    """The square of ``source`` pixels at ``start`` on the diagonal, shrunk to ``crop`` pixels, as 8-bit values."""
    window = slice(start - margin(source, crop), start + source + margin(source, crop))
    lr = shrink(torch.from_numpy(image[None, window, window].copy()), source, crop)
    return lr[0].numpy().astype(float)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_shrinking_a_crop_equals_shrinking_the_whole_image(scale: int) -> None:
    image = noise(scale * 20)
    difference = shrunk(image, 5 * scale, 8 * scale, 8) - make_lr(image, scale)[5:13, 5:13]
    assert np.abs(difference).max() <= (1 if scale == 3 else 0)


def test_real_scales_agree_with_resize_away_from_borders() -> None:
    image = noise(3 * 29)
    difference = shrunk(image, 29, 29, 12) - resize_bicubic_8bit(image, 3 * 12, 3 * 12)[12:24, 12:24]
    assert np.abs(difference).max() <= 1


def test_flat_areas_stay_flat() -> None:
    assert torch.allclose(shrinking_matrix(37, 16).sum(dim=1), torch.ones(16), atol=1e-6)


LOSSY = DegradationConfig(jpeg=Range(0.5, 30, 90), webp=Range(0.3, 50, 90), noise=Range(0.5, 1, 3), twice=0.5)


def degraded(config: DegradationConfig | None, step: int = 0) -> Batch:
    stage = replace(STAGE, batch=32)
    return BatchMaker(torch.from_numpy(SMOOTH), stage, (ScaleShare(2, 2),), (1,), config)[step]


def difference(config: DegradationConfig) -> torch.Tensor:
    """The mean difference of each degraded crop to the clean one, in 8-bit values."""
    return (degraded(config).lr - degraded(DegradationConfig()).lr).abs().mean(dim=(1, 2, 3)) * 255


def test_degraded_batches_depend_only_on_the_step_and_keep_the_truth() -> None:
    first, again, clean = degraded(LOSSY), degraded(LOSSY), degraded(None)
    assert torch.equal(first.lr, again.lr)
    assert torch.equal(first.truth, clean.truth) and not torch.equal(first.lr, clean.lr)
    assert torch.equal(degraded(DegradationConfig()).lr, clean.lr)


def test_lower_qualities_and_more_noise_degrade_more() -> None:
    for weak, strong in (
        (DegradationConfig(jpeg=Range(1, 90, 90)), DegradationConfig(jpeg=Range(1, 20, 20))),
        (DegradationConfig(webp=Range(1, 90, 90)), DegradationConfig(webp=Range(1, 20, 20))),
        (DegradationConfig(noise=Range(1, 1, 1)), DegradationConfig(noise=Range(1, 5, 5))),
        (DegradationConfig(blur=Range(1, 0.3, 0.3)), DegradationConfig(blur=Range(1, 1, 1))),
    ):
        assert 0 < difference(weak).mean() < difference(strong).mean()


def test_a_share_of_the_crops_is_degraded() -> None:
    changed = (difference(DegradationConfig(jpeg=Range(0.5, 20, 20))) > 0).float().mean()
    assert 0.2 < changed < 0.8


@pytest.mark.parametrize("filter", ["area", "bilinear", "lanczos"])
def test_other_reductions_agree_with_the_codec_library(filter: str) -> None:
    """The matrix of a filter gives Pillow's numbers, up to the rounding between Pillow's passes."""
    image, source, crop = noise(3 * 29) // 2 + 64, 29, 12
    window = image[29 - margin(source, crop) : 58 + margin(source, crop)][
        :, 29 - margin(source, crop) : 58 + margin(source, crop)
    ]
    lr = shrink(torch.from_numpy(window[None].copy()), source, crop, filter)[0].numpy().astype(int)
    assert np.abs(lr - degrade.reduce(image, 36, 36, filter)[12:24, 12:24]).max() <= 1


def test_windows_gathered_by_index_equal_windows_cut_by_slices() -> None:
    made = maker(replace(STAGE, batch=64))
    plan = made._plan(40, np.random.default_rng(3))
    assert torch.equal(_gather(made.patches, plan, 40), made._windows(40, np.random.default_rng(3)))
