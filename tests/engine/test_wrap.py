"""Wrapping: an image is upscaled on the torus, so its position on the torus does not matter."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pcsr_cli.api import load_model
from pcsr_cli.engine.device import as_lr
from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.rules import ALL_HEAVY, Routing, Threshold
from pcsr_cli.engine.upscale import Settings, upscale_whole
from pcsr_cli.engine.wrap import Axes, reach, unwrapped, wrapped
from pcsr_cli.errors import UsageError
from pcsr_cli.images.image import ImageData
from tests.failing import fails
from tests.images import levels
from tests.strategies import examples
from tests.tiny import LOCAL, tiny_model

sides = st.integers(1, 12)
axes_of = st.sampled_from(["x", "y", "xy"])


def upscale(
    backbone: str,
    image: ImageData,
    scale: int,
    axes: Axes = "xy",
    *,
    more: int = 0,
    tile: int | None = None,
    routing: Routing = ALL_HEAVY,
) -> NDArray[np.float32]:
    """The wrapped result (H, W, 3), with a border of ``more`` LR pixels than necessary."""
    model = load_model("builtin").network if backbone == "builtin" else tiny_model(backbone)
    border = reach(model) + more
    lr = as_lr(wrapped(image, axes, border).rgb)
    rgb, _, _ = upscale_whole(model, lr, scale, Settings(routing, refine=1, tile=tile, exact=True))
    blocks = torch.split(rgb, 50)
    rows = unwrapped((block.numpy() for block in blocks), hr_size(image.size, scale), axes, scale * border)
    return np.concatenate(list(rows))


def close(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return one.shape == other.shape and bool(np.abs(one - other).max() <= 2e-6)


@pytest.mark.parametrize("backbone", [*LOCAL, "builtin"])
@pytest.mark.parametrize("scale", [3, 4])
@pytest.mark.parametrize("routing", [ALL_HEAVY, Threshold(0.5)])
def test_a_rolled_image_gives_the_rolled_result(backbone: str, scale: int, routing: Routing) -> None:
    image = levels(13, 17)
    whole = upscale(backbone, ImageData(image), scale, routing=routing)
    rolled = upscale(backbone, ImageData(np.roll(image, (5, -4), (0, 1))), scale, routing=routing)
    assert close(np.roll(whole, (5 * scale, -4 * scale), (0, 1)), rolled)


@given(sides, sides, st.integers(1, 4), axes_of, st.integers(0, 11), st.integers(1, 9))
@examples(0.5)
def test_rolling_along_the_axes_rolls_any_image(
    height: int, width: int, scale: int, axes: Axes, shift: int, tile: int
) -> None:
    image = levels(height, width)
    along = [axis for axis, name in enumerate("yx") if name in axes]
    whole = upscale("fsrcnn", ImageData(image), scale, axes)
    rolled = upscale("fsrcnn", ImageData(np.roll(image, [shift] * len(along), along)), scale, axes, tile=tile + 7)
    assert close(np.roll(whole, [scale * shift] * len(along), along), rolled)


@pytest.mark.parametrize("backbone", LOCAL)
def test_the_border_holds_all_that_a_pixel_depends_on(backbone: str) -> None:
    image = ImageData(levels(9, 11))
    assert close(upscale(backbone, image, 2), upscale(backbone, image, 2, more=9))


def test_a_backbone_that_reads_the_whole_image_is_refused() -> None:
    with fails(UsageError, "The backbone bsrn reads the whole image"):
        upscale("bsrn", ImageData(levels(9, 11)), 2)


@pytest.mark.parametrize("tile", [8, 13, 30])
def test_tiles_give_the_result_of_the_whole_torus(tile: int) -> None:
    image = ImageData(levels(14, 15))
    assert close(upscale("carn", image, 4), upscale("carn", image, 4, tile=tile))


def test_opposite_edges_match_as_well_as_an_inner_seam() -> None:
    image = levels(12, 16)
    whole = upscale("fsrcnn", ImageData(image), 4)
    rolled = upscale("fsrcnn", ImageData(np.roll(image, 8, 1)), 4)
    edge = np.abs(whole[:, 0] - whole[:, -1])
    assert np.allclose(edge, np.abs(rolled[:, 32] - rolled[:, 31]), atol=1e-5)
    plain = upscale_whole(tiny_model("fsrcnn"), as_lr(image), 4, Settings(ALL_HEAVY, refine=1))[0].numpy()
    assert not np.allclose(edge, np.abs(plain[:, 0] - plain[:, -1]), atol=1e-2)


def test_one_axis_leaves_the_other_as_it_is() -> None:
    image = ImageData(levels(7, 9))
    padded = wrapped(image, "x", 3)
    assert padded.size == (7, 15)
    assert np.array_equal(padded.rgb[:, 3:12], image.rgb) and np.array_equal(padded.rgb[:, :3], image.rgb[:, -3:])
