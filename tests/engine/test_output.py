"""Rows for a file: bands give the same result as the whole."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pcsr_cli.engine.device import LEVELS, to_levels
from pcsr_cli.engine.output import Alpha, output_rows
from pcsr_cli.engine.upscale import BLOCK_BYTES, HrRows
from pcsr_cli.images.image import ImageData, Pixels
from pcsr_cli.images.resize import resize_bicubic

sides = st.integers(1, 12)
depths = st.sampled_from([8, 16])


def numbers(height: int, width: int) -> torch.Tensor:
    """(H, W, 3) with values below 0 and above 1."""
    return 1.6 * torch.rand(height, width, 3, generator=torch.Generator().manual_seed(height)) - 0.3


def levels(height: int, width: int, depth: int) -> Pixels:
    random = np.random.default_rng(width)
    return random.integers(0, 2**depth, (height, width), dtype=np.uint8 if depth == 8 else np.uint16)


def streamed(rgb: torch.Tensor, image: ImageData, size: tuple[int, int], depth: int, cuts: list[int]) -> Pixels:
    """The output rows of a result in blocks that end at the cuts."""
    edges = [0, *sorted(cut % len(rgb) for cut in cuts), len(rgb)]
    labels = torch.zeros(rgb.shape[:2], dtype=torch.uint8)
    blocks = (HrRows(rgb[start:stop], labels[start:stop]) for start, stop in pairwise(edges))
    return np.concatenate(list(output_rows(blocks, image, (rgb.shape[0], rgb.shape[1]), size, depth)))


@given(sides, sides, st.floats(0.3, 5), depths, st.lists(st.integers(0, 99), max_size=4))
def test_rows_of_any_other_size_are_resized_bicubically(
    height: int, width: int, factor: float, depth: int, cuts: list[int]
) -> None:
    size = max(1, round(height * factor)), max(1, round(width * factor))
    rgb = numbers(height, width)
    got = streamed(rgb, ImageData(np.zeros((height, width, 3), np.uint8)), size, depth, cuts)
    wanted = rgb if size == (height, width) else torch.from_numpy(resize_bicubic(rgb.numpy(), *size))
    if size != (height, width):
        assert np.array_equal(got, to_levels(wanted, LEVELS[depth]).numpy())


def test_a_block_that_becomes_much_larger_is_resized_in_parts() -> None:
    parts = list(
        output_rows(
            [HrRows(numbers(64, 64), torch.zeros(64, 64))],
            ImageData(np.zeros((1, 1, 3), np.uint8)),
            (64, 64),
            (4096, 4096),
            8,
        )
    )
    assert max(map(len, parts)) * 4096 * 12 <= 3 * BLOCK_BYTES


@given(sides, sides, depths, st.booleans(), st.booleans(), st.lists(st.integers(0, 99), max_size=4))
def test_rows_in_any_strips_equal_the_whole(
    height: int, width: int, depth: int, grey: bool, with_alpha: bool, cuts: list[int]
) -> None:
    size = (2 * height, 2 * width)
    rgb = to_levels(numbers(*size), LEVELS[depth])
    alpha = levels(height, width, depth) if with_alpha else None
    got = streamed(rgb, ImageData(np.zeros((height, width, 3), np.uint8), alpha, grey), size, depth, cuts)
    colour = rgb.numpy()
    if grey:
        colour = np.rint(colour.mean(axis=2, keepdims=True, dtype=np.float32)).astype(colour.dtype)
    assert np.array_equal(got[..., : colour.shape[2]], colour)
    assert got.shape[2] == colour.shape[2] + with_alpha
    if alpha is not None:
        assert np.array_equal(got[..., -1], enlarged(alpha, size))


def enlarged(alpha: Pixels, size: tuple[int, int]) -> NDArray[np.float32]:
    if (alpha == alpha[0, 0]).all():
        return np.full(size, alpha[0, 0], np.float32)
    return np.rint(resize_bicubic(alpha[..., None].astype(np.float32), *size)[..., 0]).clip(
        0, np.iinfo(alpha.dtype).max
    )


@given(sides, sides, depths, st.floats(0.3, 1), st.floats(0.3, 1), st.lists(st.integers(0, 99), max_size=5))
def test_reducing_in_bands_equals_reducing_the_whole(
    height: int, width: int, depth: int, down: float, across: float, cuts: list[int]
) -> None:
    working, wanted = (4 * height, 4 * width), (round(4 * height * down), round(4 * width * across))
    whole, image = numbers(*working), ImageData(np.zeros((height, width, 3), np.uint8))
    got = streamed(whole if working != wanted else to_levels(whole, LEVELS[depth]), image, wanted, depth, cuts)
    expected = whole if working == wanted else torch.from_numpy(resize_bicubic(whole.numpy(), *wanted).copy())
    assert np.array_equal(got, to_levels(expected, LEVELS[depth]).numpy())


@pytest.mark.parametrize(("depth", "level"), [(8, 128), (16, 32896)])
def test_alpha_has_the_depth_of_the_result(depth: int, level: int) -> None:
    constant = np.full((2, 3), 128, np.uint8)
    assert (Alpha(constant, (4, 6), depth).rows(1, 3) == level).all()
    half = np.array([[0, 255]], np.uint8).repeat(4, axis=0).repeat(8, axis=1)
    rows = Alpha(half, (8, 32), depth).rows(0, 8)
    assert (rows[:, :8] == 0).all() and (rows[:, -8:] == 2**depth - 1).all()
