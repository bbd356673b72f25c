"""Masks from files: which pixels they mark, and which files are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pcsr_cli.errors import InputError
from pcsr_cli.jobs.maps import read_forced
from tests.failing import fails
from tests.images import save

LR, HR = (6, 8), (12, 16)


def white(height: int, width: int, marked: tuple[slice, slice]) -> np.ndarray:
    pixels = np.zeros((height, width, 1), np.uint8)
    pixels[marked] = 255
    return pixels


def test_no_mask_forces_nothing() -> None:
    assert read_forced(None, None, LR, HR, HR) is None


@pytest.mark.parametrize("size", [LR, HR], ids=["like the picture", "like the result"])
def test_bright_pixels_are_marked(size: tuple[int, int], tmp_path: Path) -> None:
    marked = (slice(0, 2), slice(1, 4))
    mask = save(tmp_path / "mask.png", white(*size, marked))
    forced = read_forced(mask, None, LR, HR, HR)
    assert forced is not None and forced.light is None and forced.heavy is not None
    expected = torch.zeros(*size, dtype=torch.bool)
    expected[marked] = True
    assert torch.equal(forced.heavy, expected)
    assert forced.counts == (0, 6 * (HR[0] * HR[1] // (size[0] * size[1])))


@pytest.mark.parametrize(("level", "is_marked"), [(127, False), (128, True)])
def test_a_colour_is_as_bright_as_its_brightest_channel(level: int, is_marked: bool, tmp_path: Path) -> None:
    pixels = np.zeros((*LR, 3), np.uint8)
    pixels[..., 1] = level
    forced = read_forced(None, save(tmp_path / "mask.png", pixels), LR, HR, HR)
    assert forced is not None and forced.light is not None
    assert bool(forced.light.all()) == is_marked == bool(forced.light.any())


def test_what_is_transparent_is_not_marked(tmp_path: Path) -> None:
    pixels = np.full((*LR, 4), 255, np.uint8)
    pixels[:3, :, 3] = 100
    forced = read_forced(save(tmp_path / "mask.png", pixels), None, LR, HR, HR)
    assert forced is not None and forced.heavy is not None
    assert not forced.heavy[:3].any() and forced.heavy[3:].all()


def test_another_size_is_refused(tmp_path: Path) -> None:
    mask = save(tmp_path / "mask.png", white(7, 8, (slice(0, 1), slice(0, 1))))
    with fails(InputError, f"The mask {mask} is 8x7, not 8x6 like the picture or 16x12 like its result."):
        read_forced(mask, None, LR, HR, HR)


def test_masks_that_want_the_same_pixels_are_refused(tmp_path: Path) -> None:
    heavy = save(tmp_path / "heavy.png", white(*LR, (slice(0, 2), slice(0, 1))))
    light = save(tmp_path / "light.png", white(*HR, (slice(3, 9), slice(0, 16))))
    with fails(InputError, "The masks force 2 pixels of the result to be both heavy and light."):
        read_forced(heavy, light, LR, HR, HR)


def test_a_mask_that_is_not_there_is_told(tmp_path: Path) -> None:
    with fails(InputError, "There is no file"):
        read_forced(tmp_path / "nowhere.png", None, LR, HR, HR)
