"""Bicubic resizing matches MATLAB: the kernel as a matrix, and published LR images bit for bit."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pcsr_cli.errors import InputError
from pcsr_cli.images.resize import (
    RowResizer,
    crop_to_multiple,
    make_lr,
    resize_bicubic,
    resize_bicubic_8bit,
    resize_bicubic_rows,
)
from tests.failing import fails

lengths = st.integers(1, 24)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def floats(height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)


def keys(x: float) -> float:
    """The cubic convolution kernel of Keys (1981), a = -0.5."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def matrix(length_in: int, length_out: int) -> NDArray[np.float64]:
    """(length_out, length_in): the resizing of one side, from its definition."""
    scale = length_out / length_in
    reduction = min(scale, 1.0)
    weights = np.zeros((length_out, length_in))
    for out in range(length_out):
        centre = (out + 0.5) / scale - 0.5
        reach = math.ceil(2 / reduction) + 1
        for pixel in range(math.floor(centre) - reach, math.ceil(centre) + reach + 1):
            inside = min(max(pixel, 0), length_in - 1)
            weights[out, inside] += keys((centre - pixel) * reduction)
    normalised: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return normalised


@given(lengths, lengths, lengths, lengths)
def test_matches_the_kernel_as_a_matrix(height: int, width: int, new_height: int, new_width: int) -> None:
    image = floats(height, width)
    expected = np.einsum("ai,bj,ijc->abc", matrix(height, new_height), matrix(width, new_width), image)
    result = resize_bicubic(image, new_height, new_width)
    assert result.dtype == np.float32
    assert np.allclose(result, expected, atol=1e-5)


@given(lengths, lengths, lengths, lengths, st.floats(0, 1, width=32))
def test_flat_images_stay_flat(height: int, width: int, new_height: int, new_width: int, level: float) -> None:
    flat = np.full((height, width, 3), level, np.float32)
    assert np.allclose(resize_bicubic(flat, new_height, new_width), level, atol=1e-6)


@given(lengths, lengths)
def test_the_same_size_changes_nothing(height: int, width: int) -> None:
    assert np.array_equal(resize_bicubic(floats(height, width), height, width), floats(height, width))
    assert np.array_equal(resize_bicubic_8bit(noise(height, width), height, width), noise(height, width))


@given(lengths, lengths, lengths, lengths)
def test_rows_and_columns_are_treated_equally(height: int, width: int, new_height: int, new_width: int) -> None:
    image = floats(height, width)
    turned = resize_bicubic(image.swapaxes(0, 1), new_width, new_height).swapaxes(0, 1)
    assert np.allclose(resize_bicubic(image, new_height, new_width), turned, atol=1e-5)


@pytest.mark.parametrize("size", [(10, 8), (20, 16), (31, 17)], ids=str)
def test_inside_the_border_reduction_matches_pytorch(size: tuple[int, int]) -> None:
    # PyTorch treats borders differently, and enlarges with another kernel (a = -0.75).
    image = floats(40, 32)
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    torchs = F.interpolate(x, size=size, mode="bicubic", antialias=True, align_corners=False)[0].permute(1, 2, 0)
    inside = slice(3, -3)
    assert np.allclose(resize_bicubic(image, *size)[inside, inside], torchs.numpy()[inside, inside], atol=1e-5)


def test_floats_are_not_clamped() -> None:
    step = np.zeros((1, 8, 3), np.float32)
    step[:, 4:] = 1
    enlarged = resize_bicubic(step, 1, 32)
    assert enlarged.min() < -0.01
    assert enlarged.max() > 1.01


def test_bytes_are_clamped_and_halves_round_up() -> None:
    step = np.zeros((1, 8, 3), np.uint8)
    step[:, 4:] = 255
    enlarged = resize_bicubic_8bit(step, 1, 32)
    assert (enlarged.min(), enlarged.max()) == (0, 255)
    pair = np.array([[[10] * 3, [11] * 3]], np.uint8)  # halved, exactly 10.5
    assert resize_bicubic_8bit(pair, 1, 1).tolist() == [[[11] * 3]]


@given(lengths, lengths, lengths, lengths)
def test_8_bit_results_differ_from_floats_by_two_roundings(
    height: int, width: int, new_height: int, new_width: int
) -> None:
    grey = noise(height, width) // 4 + 96  # never clamped
    unrounded = resize_bicubic(grey.astype(np.float32), new_height, new_width)
    # The absolute weights of the kernel sum to 1.25 at most, which scales the first rounding.
    assert np.abs(resize_bicubic_8bit(grey, new_height, new_width) - unrounded).max() <= 0.5 * 1.25 + 0.5 + 1e-3


@given(lengths, lengths, st.integers(1, 6))
def test_cropping_takes_the_top_left_multiple(height: int, width: int, multiple: int) -> None:
    image = noise(height, width)
    if height < multiple or width < multiple:
        with fails(InputError, f"An image of {width}x{height} is smaller than one LR pixel at x{multiple}."):
            crop_to_multiple(image, multiple)
        return
    cropped = crop_to_multiple(image, multiple)
    new_height, new_width = cropped.shape[:2]
    assert new_height % multiple == new_width % multiple == 0
    assert height - new_height < multiple and width - new_width < multiple
    assert np.array_equal(cropped, image[:new_height, :new_width])


def test_the_lr_image_is_smaller_and_the_hr_image_is_not_changed() -> None:
    image = noise(12, 20)
    assert make_lr(image, 4).shape == (3, 5, 3)
    assert np.array_equal(image, noise(12, 20))


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.shared
@pytest.mark.parametrize("images", ["set5", "set14"])
def test_published_lr_images_are_reproduced_exactly(images: str, shared: Path) -> None:
    folder = shared / "images" / images
    files = sorted((folder / "HR").glob("*.png"))
    assert files
    for file in files:
        made = make_lr(crop_to_multiple(read(file), 4), 4)
        assert np.array_equal(made, read(folder / "LR_x4" / file.name)), file.name


@pytest.mark.shared
def test_the_demo_lr_image_is_reproduced_inside_its_border(shared: Path) -> None:
    unrounded = resize_bicubic(read(shared / "images" / "demo_hr.png").astype(np.float32), 276, 420)
    difference = np.abs(unrounded.clip(0, 255) - read(shared / "images" / "demo_lr_x4.png"))
    inside = slice(3, -3)
    assert difference[inside, inside].max() < 0.501


class TestInRows:
    """Resizing some rows at a time gives bit for bit the same result."""

    @given(lengths, lengths, lengths, lengths, st.lists(st.integers(1, 9), min_size=24, max_size=24))
    def test_blocks_of_rows_give_the_same_result(
        self, height: int, width: int, to_height: int, to_width: int, steps: list[int]
    ) -> None:
        image, resizer, parts, top = floats(height, width), RowResizer((height, width), (to_height, to_width)), [], 0
        for step in steps:
            if top < height:
                parts.append(resizer.push(image[top : top + step]))
                top += step
        assert np.array_equal(np.concatenate(parts), resize_bicubic(image, to_height, to_width))

    @given(lengths, lengths, lengths, lengths, st.data())
    def test_any_rows_can_be_resized_alone(
        self, height: int, width: int, to_height: int, to_width: int, data: st.DataObject
    ) -> None:
        image = noise(height, width)
        start = data.draw(st.integers(0, to_height - 1))
        stop = data.draw(st.integers(start + 1, to_height))
        whole = resize_bicubic(image.astype(np.float32), to_height, to_width)
        assert np.array_equal(resize_bicubic_rows(image, to_height, to_width, start, stop), whole[start:stop])

    def test_finished_rows_are_released(self) -> None:
        resizer = RowResizer((10_000, 2), (2_500, 2))
        for _ in range(100):
            resizer.push(floats(100, 2))
            assert len(resizer.held) < 40
