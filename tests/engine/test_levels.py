"""Pixels and numbers: each the other's, rounded and clamped."""

import numpy as np
import pytest
import torch

from pcsr_cli.engine.levels import PEAKS, as_lr, to_levels, to_numbers

each_type = pytest.mark.parametrize("dtype", PEAKS, ids=str)


@each_type
def test_every_level_survives(dtype: torch.dtype) -> None:
    every = torch.arange(PEAKS[dtype] + 1, dtype=torch.int32).to(dtype)
    assert torch.equal(to_levels(to_numbers(every), dtype).int(), every.int())


@each_type
def test_numbers_are_rounded_and_clamped(dtype: torch.dtype) -> None:
    peak = PEAKS[dtype]
    given = torch.tensor([-1e9, 0.0, 0.49 / peak, 0.51 / peak, 1.0, 7.0])
    assert to_levels(given, dtype).tolist() == [0, 0, 0, 1, peak, peak]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_numbers_stay_as_they_are(dtype: torch.dtype) -> None:
    numbers = torch.rand(4).to(dtype)
    assert to_numbers(numbers) is numbers


def test_a_picture_is_taken_as_it_lies_in_memory() -> None:
    picture = np.arange(4 * 5 * 3, dtype=np.uint16).reshape(4, 5, 3)
    lr = as_lr(picture)
    assert lr.shape == (1, 3, 4, 5) and lr[0, 2, 1, 3] == picture[1, 3, 2]
    assert lr.data_ptr() == picture.ctypes.data


def test_a_picture_that_pytorch_cannot_share_is_copied() -> None:
    picture = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    assert (as_lr(picture[:, ::-1])[0, 0] == torch.from_numpy(picture[:, ::-1, 0].copy())).all()
    picture.flags.writeable = False
    assert (as_lr(picture)[0, 0] == torch.from_numpy(picture[..., 0].copy())).all()
