"""Map files hold the routing, pixel for pixel, whatever the bands in which the result comes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pcsr_cli.engine.grid import nearest_index
from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.images.image import Layout
from pcsr_cli.images.read import read_image
from pcsr_cli.jobs.maps import MapRequest, RoutingMap, Style, as_16_bit, coloured, mask, open_map, request_map, tinted
from tests.failing import fails
from tests.images import levels

SIZE = (30, 40)


def routed(branches: int = 2, size: tuple[int, int] = SIZE, forced: tuple[int, int] = (0, 0)) -> RoutingMap:
    made = RoutingMap(*size, branches, forced)
    generator = torch.Generator().manual_seed(branches)
    made.difficulty = torch.rand(*size, generator=generator)
    made.cuts = (0.5,) if branches == 2 else (0.3, 0.7)
    made.labels = torch.zeros(*size, dtype=torch.uint8)
    for cut in made.cuts:
        made.labels += made.difficulty > cut
    return made


def written(style: Style, made: RoutingMap, folder: Path, rgb: np.ndarray, layout: Layout, band: int = 7) -> np.ndarray:
    request = MapRequest(folder / "map.png", style)
    with open_map(request, made, layout) as drawing:
        for top in range(0, layout.height, band):
            drawing.write(rgb[top : top + band])
    return np.asarray(read_image(request.output).rgb)


@pytest.mark.parametrize("branches", [2, 3])
def test_an_overlay_is_the_result_tinted_with_a_legend_below(branches: int, tmp_path: Path) -> None:
    made, rgb = routed(branches), levels(*SIZE)
    drawn = written("overlay", made, tmp_path, rgb, Layout(*SIZE))
    assert np.array_equal(drawn[: SIZE[0]], tinted(rgb, made.labels.numpy(), branches))
    assert len(drawn) > SIZE[0] and drawn.shape[1] == SIZE[1]


def test_an_overlay_of_16_bits_grey_and_alpha_shows_the_colours(tmp_path: Path) -> None:
    made, grey = routed(), levels(*SIZE, channels=2)
    deep = grey.astype(np.uint16) * 257
    drawn = written("overlay", made, tmp_path, deep, Layout(*SIZE, grey=True, alpha=True, depth=16))
    expected = tinted(np.repeat(grey[..., :1], 3, axis=2), made.labels.numpy(), 2)
    assert np.array_equal(drawn[: SIZE[0]], expected)


def test_an_overlay_of_a_reduced_result_takes_the_nearest_branches(tmp_path: Path) -> None:
    made, rgb, size = routed(), levels(20, 25), (20, 25)
    drawn = written("overlay", made, tmp_path, rgb, Layout(*size))
    rows, columns = (nearest_index(SIZE[side], size[side], torch.arange(size[side])) for side in (0, 1))
    assert np.array_equal(drawn[:20], tinted(rgb, made.labels[rows[:, None], columns].numpy(), 2))


@pytest.mark.parametrize("branches", [2, 3])
def test_a_mask_is_the_branches(branches: int, tmp_path: Path) -> None:
    made = routed(branches)
    drawn = written("mask", made, tmp_path, levels(*SIZE), Layout(*SIZE))
    assert np.array_equal(drawn[..., 0], mask(made.labels.numpy(), branches))


@pytest.mark.parametrize("height", [30, 600])
def test_difficulty_has_its_scale_below(height: int, tmp_path: Path) -> None:
    made = routed(size=(height, 40))
    drawn = written("difficulty", made, tmp_path, levels(height, 40), Layout(height, 40))
    assert np.array_equal(drawn[:height], coloured(made.difficulty.numpy()))
    assert len(drawn) > height


def test_data_is_p_heavy_to_16_bits(tmp_path: Path) -> None:
    made = routed()
    drawn = written("data", made, tmp_path, levels(*SIZE), Layout(*SIZE))
    assert drawn.dtype == np.uint16 and np.array_equal(drawn[..., 0], as_16_bit(made.difficulty.numpy()))


def test_npy_is_p_heavy_itself(tmp_path: Path) -> None:
    made = routed()
    with open_map(request_map(tmp_path / "p.npy", None), made, Layout(*SIZE)):
        pass
    assert np.array_equal(np.load(tmp_path / "p.npy"), made.difficulty.numpy())


@pytest.mark.parametrize("branch_pixels", [(1200, 0), (0, 1200), (600, 600)])
def test_any_share_has_room_in_the_legend(branch_pixels: tuple[int, int], tmp_path: Path) -> None:
    made = routed(forced=(1, 1))
    made.labels = (torch.arange(1200) >= branch_pixels[0]).to(torch.uint8).view(SIZE)
    assert made.branch_pixels == branch_pixels
    written("overlay", made, tmp_path, levels(*SIZE), Layout(*SIZE))


def test_a_map_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        open_map(request_map(tmp_path / "m.png", None), routed(), Layout(*SIZE)) as drawing,
    ):
        drawing.write(levels(5, 40))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_suffix_and_the_style_go_together(tmp_path: Path) -> None:
    assert request_map(tmp_path / "m.PNG", None).style == "overlay"
    assert request_map(tmp_path / "m.npy", "data").style == "data"
    with fails(RefusedOutputError, "A map is not written as"):
        request_map(tmp_path / "m.jpg", None)
    with fails(UsageError, "A .npy file holds p_heavy as numbers, not the style"):
        request_map(tmp_path / "m.npy", "mask")
