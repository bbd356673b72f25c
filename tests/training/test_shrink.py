import numpy as np
import pytest
import torch

from pcsr_cli.images.resize import make_lr, resize_bicubic_8bit
from pcsr_cli.training.batches import margin, shrink, shrinking_matrix


def noise(side: int) -> np.ndarray:
    return np.random.default_rng(side).integers(256, size=(side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_a_crop_is_what_the_whole_picture_gives(scale: int) -> None:
    crop, at = 8, 5
    picture = noise(scale * 20)
    whole = make_lr(picture, scale)
    side = margin(crop * scale, crop)
    start = at * scale - side
    window = picture[start : start + crop * scale + 2 * side, start : start + crop * scale + 2 * side]
    lr = shrink(torch.from_numpy(window[None].copy()), crop * scale, crop)
    levels = lr[0].permute(1, 2, 0).mul(255).round().numpy()
    assert np.abs(levels - whole[at : at + crop, at : at + crop]).max() <= (0 if scale in (1, 2, 4) else 1)


def test_a_real_scale_agrees_with_the_resize_away_from_borders() -> None:
    picture = noise(3 * 29)
    whole = resize_bicubic_8bit(picture, 3 * 12, 3 * 12)
    side = margin(29, 12)
    window = picture[29 - side : 58 + side, 29 - side : 58 + side]
    lr = shrink(torch.from_numpy(window[None].copy()), 29, 12)
    levels = lr[0].permute(1, 2, 0).mul(255).round().numpy()
    assert np.abs(levels - whole[12:24, 12:24]).max() <= 1


def test_the_matrix_keeps_flat_areas_flat() -> None:
    assert torch.allclose(shrinking_matrix(37, 16).sum(dim=1), torch.ones(16), atol=1e-6)
