from dataclasses import replace

import numpy as np
import pytest
import torch

from pcsr_cli.engine.grid import bilinear
from pcsr_cli.training.batches import Batch, BatchMaker, Share, largest_window
from pcsr_cli.training.config import ScaleShare, StageConfig

STAGE = StageConfig(iterations=1, batch=4, crop=8, pixels=100)
SCALES = (ScaleShare(2, 2), ScaleShare(1, 4))
PATCHES = np.random.default_rng(0).integers(256, size=(5, 64, 64, 3), dtype=np.uint8)


def make(step: int = 0, stage: StageConfig = STAGE, share: Share | None = None, patches: np.ndarray = PATCHES) -> Batch:
    maker = BatchMaker(patches, stage, SCALES, seed=(1, 2), share=share or Share(), device=torch.device("cpu"))
    return maker.make(step)


def test_batches_are_a_function_of_the_step() -> None:
    first, again, other = make(3), make(3), make(4)
    assert torch.equal(first.lr, again.lr) and torch.equal(first.truth, again.truth)
    assert not torch.equal(first.lr, other.lr)


def test_processes_share_a_batch() -> None:
    whole, parts = make(5), [make(5, share=Share(rank, 2)) for rank in range(2)]
    assert torch.equal(whole.lr, torch.cat([part.lr for part in parts]))
    assert torch.equal(whole.truth, torch.cat([part.truth for part in parts]))


def test_shapes_and_ranges() -> None:
    for step in range(20):
        batch = make(step)
        assert batch.lr.shape == (4, 3, 8, 8)
        assert batch.truth.shape == (4, *batch.rows.nearest.shape, *batch.columns.nearest.shape, 3)
        assert batch.truth.shape[1] <= 10
        assert batch.lr.min() >= 0 and batch.lr.max() <= 1
        assert batch.truth.min() >= 0 and batch.truth.max() <= 1


def test_truth_and_crop_lie_on_each_other() -> None:
    """On a smooth picture the bilinear base of the crop is nearly the truth, wherever the pixels were chosen."""
    y, x = np.mgrid[:64, :64]
    picture = np.stack([2 * x + y, 190 - x - y, 3 * x], axis=2).astype(np.uint8)
    for step in range(20):
        batch = make(step, patches=picture[None])
        base = bilinear(batch.lr, batch.rows, batch.columns).permute(0, 2, 3, 1)
        inside = (batch.rows.weight > 0) & (batch.rows.low < batch.rows.high)
        across = (batch.columns.weight > 0) & (batch.columns.low < batch.columns.high)
        difference = (base - batch.truth)[:, inside][:, :, across].abs()
        assert difference.numel() == 0 or difference.max() < 0.02


def test_every_flip_and_transpose_comes_up() -> None:
    stage = replace(STAGE, batch=64)
    corner = np.zeros((1, 64, 64, 3), np.uint8)
    corner[0, :32, :32, 0] = 255
    corner[0, :32, 32:, 1] = 255
    maker = BatchMaker(corner, stage, (ScaleShare(4, 4),), seed=(0,), share=Share(), device=torch.device("cpu"))
    lr = maker.make(0).lr
    corners = {str([crop[:2, y, x].gt(0.5).tolist() for y, x in ((0, 0), (0, -1), (-1, 0))]) for crop in lr}
    assert len(corners) >= 8


@pytest.mark.parametrize("crop", [8, 13])
def test_the_largest_window_is_never_exceeded(crop: int) -> None:
    stage = replace(STAGE, crop=crop)
    side = largest_window(crop, SCALES)
    patches = np.zeros((1, side, side, 3), np.uint8)
    maker = BatchMaker(patches, stage, SCALES, seed=(0,), share=Share(), device=torch.device("cpu"))
    for step in range(30):
        maker.make(step)
