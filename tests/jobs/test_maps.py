"""Masks and maps: marked pixels, the content of maps, and the memory of writing them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pcsr_cli.engine.grid import nearest_index
from pcsr_cli.engine.routing import CostRule, Cuts
from pcsr_cli.engine.upscale import HrRows
from pcsr_cli.errors import InputError, RefusedOutputError, UsageError
from pcsr_cli.images.image import Layout
from pcsr_cli.images.read import read_image
from pcsr_cli.jobs.maps import (
    P_HEAVY_COLOURS,
    TINT,
    RoutingRows,
    as_16_bits,
    as_colours,
    as_greys,
    open_map,
    p_heavy_legend,
    read_forced,
    shares_height,
    shares_legend,
    tint,
)
from pcsr_cli.jobs.request import MapRequest, Style, request_map
from tests.command import ROOT
from tests.failing import fails
from tests.images import levels, save

LR, HR = (6, 8), (12, 16)
SIZE = (30, 40)
P_HEAVY = np.random.default_rng(2).random(SIZE, dtype=np.float32)


# Masks


def white(height: int, width: int, marked: tuple[slice, slice]) -> np.ndarray:
    pixels = np.zeros((height, width, 1), np.uint8)
    pixels[marked] = 255
    return pixels


@pytest.mark.parametrize("size", [LR, HR], ids=["size of the image", "size of the result"])
def test_bright_pixels_are_marked(size: tuple[int, int], tmp_path: Path) -> None:
    marked = (slice(0, 2), slice(1, 4))
    forced = read_forced(save(tmp_path / "mask.png", white(*size, marked)), None, LR, HR, HR)
    assert forced is not None and forced.light is None and forced.heavy is not None
    expected = torch.zeros(*size, dtype=torch.bool)
    expected[marked] = True
    assert torch.equal(forced.heavy, expected)
    assert forced.counts == (0, 6 * (HR[0] * HR[1] // (size[0] * size[1])))


@pytest.mark.parametrize(("level", "is_marked"), [(127, False), (128, True)])
def test_the_brightest_channel_counts(level: int, is_marked: bool, tmp_path: Path) -> None:
    pixels = np.zeros((*LR, 3), np.uint8)
    pixels[..., 1] = level
    forced = read_forced(None, save(tmp_path / "mask.png", pixels), LR, HR, HR)
    assert forced is not None and forced.light is not None
    assert bool(forced.light.all()) == is_marked == bool(forced.light.any())


def test_transparent_pixels_are_not_marked(tmp_path: Path) -> None:
    pixels = np.full((*LR, 4), 255, np.uint8)
    pixels[:3, :, 3] = 100
    forced = read_forced(save(tmp_path / "mask.png", pixels), None, LR, HR, HR)
    assert forced is not None and forced.heavy is not None
    assert not forced.heavy[:3].any() and forced.heavy[3:].all()


def test_masks_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    odd = save(tmp_path / "odd.png", white(7, 8, (slice(0, 1), slice(0, 1))))
    with fails(InputError, f"The mask {odd} is 8x7, but the image is 8x6 and its result 16x12."):
        read_forced(odd, None, LR, HR, HR)
    heavy = save(tmp_path / "heavy.png", white(*LR, (slice(0, 2), slice(0, 1))))
    light = save(tmp_path / "light.png", white(*HR, (slice(3, 9), slice(0, 16))))
    with fails(InputError, "The masks force 2 pixels to be both heavy and light."):
        read_forced(heavy, light, LR, HR, HR)
    with fails(InputError, "nowhere.png"):
        read_forced(tmp_path / "nowhere.png", None, LR, HR, HR)
    assert read_forced(None, None, LR, HR, HR) is None


# Map files


class Routed:
    """A result with known colours and routing, in blocks as the engine yields them."""

    def __init__(self, branches: int = 2, size: tuple[int, int] = SIZE, forced: tuple[int, int] = (0, 0)) -> None:
        self.size, self.branches, self.forced = size, branches, forced
        self.p_heavy = np.random.default_rng(branches).random(size, dtype=np.float32)
        self.cuts: tuple[float, ...] = (0.5,) if branches == 2 else (0.3, 0.7)
        self.labels = np.zeros(size, np.uint8)
        for cut in self.cuts:
            self.labels += self.p_heavy > cut

    def rows(self, block: int) -> Iterator[HrRows]:
        for top in range(0, self.size[0], block):
            part = slice(top, top + block)
            labels, p_heavy = (torch.from_numpy(values[part]) for values in (self.labels, self.p_heavy))
            yield HrRows(torch.empty(len(labels), self.size[1], 3), labels, p_heavy)

    def write(self, request: MapRequest, rgb: np.ndarray, layout: Layout, block: int = 7) -> None:
        """Write a map while the rows of the result pass, a little later than their routing."""
        routing = RoutingRows(self.size, self.branches, self.forced)
        recorded = routing.record(self.rows(block), Cuts(self.cuts))

        def rows() -> Iterator[np.ndarray]:
            computed = sent = 0
            for rows in recorded:
                computed += len(rows.labels)
                ready = layout.height * computed // self.size[0]
                if ready > sent:
                    yield rgb[sent : (sent := ready)]

        with open_map(request, routing, layout) as drawing:
            assert sum(len(rows) for rows in drawing.tap(rows())) == layout.height

    def drawn(self, style: Style, folder: Path, rgb: np.ndarray | None = None, layout: Layout | None = None) -> Any:
        request = MapRequest(folder / "map.png", style)
        self.write(request, levels(*self.size) if rgb is None else rgb, layout or Layout(*self.size))
        return read_image(request.output).rgb


@pytest.mark.parametrize("branches", [2, 3])
def test_an_overlay_is_the_tinted_result_above_a_legend(branches: int, tmp_path: Path) -> None:
    routed, rgb = Routed(branches), levels(*SIZE)
    drawn = routed.drawn("overlay", tmp_path, rgb)
    assert np.array_equal(drawn[: SIZE[0]], tint(rgb, routed.labels, branches))
    counts = [int((routed.labels == branch).sum()) for branch in range(branches)]
    assert np.array_equal(drawn[SIZE[0] :], shares_legend(40, counts, height=shares_height(40, branches, False)))


def test_an_overlay_shows_the_colours_of_16_bits_grey_and_alpha(tmp_path: Path) -> None:
    routed, grey = Routed(), levels(*SIZE, channels=2)
    drawn = routed.drawn("overlay", tmp_path, grey.astype(np.uint16) * 257, Layout(*SIZE, True, True, 16))
    assert np.array_equal(drawn[: SIZE[0]], tint(np.repeat(grey[..., :1], 3, axis=2), routed.labels, 2))


@pytest.mark.parametrize("size", [(20, 25), (11, 39), (30, 25)])
def test_an_overlay_of_a_reduced_result_shows_the_nearest_branch(size: tuple[int, int], tmp_path: Path) -> None:
    routed, rgb = Routed(), levels(*size)
    drawn = routed.drawn("overlay", tmp_path, rgb, Layout(*size))
    rows, columns = (nearest_index(SIZE[side], size[side], torch.arange(size[side])).numpy() for side in (0, 1))
    assert np.array_equal(drawn[: size[0]], tint(rgb, routed.labels[np.ix_(rows, columns)], 2))


@pytest.mark.parametrize("branches", [2, 3])
def test_a_mask_shows_the_branches(branches: int, tmp_path: Path) -> None:
    routed = Routed(branches)
    assert np.array_equal(routed.drawn("mask", tmp_path)[..., 0], as_greys(routed.labels, branches))


@pytest.mark.parametrize("height", [30, 600])
def test_difficulty_shows_p_heavy_above_its_scale(height: int, tmp_path: Path) -> None:
    routed = Routed(size=(height, 40))
    drawn = routed.drawn("difficulty", tmp_path)
    assert np.array_equal(drawn[:height], as_colours(routed.p_heavy))
    assert np.array_equal(drawn[height:], p_heavy_legend(40, (0.5,)))


def test_data_stores_p_heavy_as_numbers(tmp_path: Path) -> None:
    routed = Routed()
    drawn = routed.drawn("data", tmp_path)
    assert drawn.dtype == np.uint16 and np.array_equal(drawn[..., 0], as_16_bits(routed.p_heavy))
    routed.write(request_map(tmp_path / "p.npy", None), levels(*SIZE), Layout(*SIZE))
    np.save(tmp_path / "expected.npy", routed.p_heavy)
    assert (tmp_path / "p.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()


def test_a_routing_without_cuts_has_none_in_its_legend(tmp_path: Path) -> None:
    routing = RoutingRows(SIZE, 3)
    assert len(list(routing.record(Routed(3).rows(30), CostRule((0.2, 0.3, 0.5), 0.0)))) == 1
    assert routing.cuts == () and sum(routing.branch_pixels) == 1200


@pytest.mark.parametrize("heavy", [0, 600, 1200])
def test_the_legend_accepts_any_share(heavy: int, tmp_path: Path) -> None:
    routed = Routed(forced=(1, 1))
    routed.labels = (np.arange(1200) < heavy).astype(np.uint8).reshape(SIZE)
    routed.drawn("overlay", tmp_path)


def test_a_map_that_fails_leaves_no_file(tmp_path: Path) -> None:
    routing = RoutingRows(SIZE, 2)
    with pytest.raises(KeyboardInterrupt), open_map(request_map(tmp_path / "m.png", None), routing, Layout(*SIZE)):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


UPSCALE = """
import sys
from pathlib import Path
import numpy as np, torch
from pcsr_cli.api import load_model
from pcsr_cli.engine import memory
from pcsr_cli.engine.device import peak_memory
from pcsr_cli.images.image import ImageData
from pcsr_cli.images.write import write_image
from pcsr_cli.jobs.pipeline import overlapped
from pcsr_cli.jobs.request import Job, Request, request_map
from pcsr_cli.jobs.upscale_file import Upscaler

torch.set_num_threads(1)
memory.STRIP_BYTES = 2**23
height, folder, style = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
write_image(folder / "in.png", ImageData(np.full((height, 700, 3), (200, 100, 37), np.uint8)))
map = request_map(folder / ("map.npy" if style == "data" else "map.png"), style, replace=True)
upscaler = Upscaler(load_model(sys.argv[4], "cpu"), Request(4, refine=9, map=map))
((job, report),) = overlapped([Job(folder / "in.png", folder / "out.png", True)], upscaler)
assert report.output_size == (2800, 4 * height), report
print(peak_memory(torch.device("cpu")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in another unit elsewhere")
@pytest.mark.parametrize("style", ["overlay", "data"])
def test_the_memory_of_a_map_does_not_grow_with_the_result(style: str, tmp_path: Path, tiny_folder: Path) -> None:
    # Freed memory goes back at once; otherwise the test would also measure the fragmentation of the heap.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

    def peak(height: int) -> int:
        command = [sys.executable, "-c", UPSCALE, str(height), str(tmp_path), style, str(tiny_folder)]
        return int(subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout)

    growth = peak(4500) - peak(300)
    pixels = 4200 * 700
    decoding = 3 * 3 * pixels  # reading needs more than two copies of an image
    labels, p_heavy = 16 * pixels, 4 * 16 * pixels
    assert growth < decoding + 2**24 < (p_heavy if style == "data" else labels)


def test_the_suffix_and_the_style_of_a_map_must_match(tmp_path: Path) -> None:
    assert request_map(tmp_path / "m.PNG", None).style == "overlay"
    assert request_map(tmp_path / "m.npy", "data").style == "data"
    with fails(RefusedOutputError, "Cannot write a map as"):
        request_map(tmp_path / "m.jpg", None)
    with fails(UsageError, "A .npy map holds p_heavy as numbers and has no style mask."):
        request_map(tmp_path / "m.npy", "mask")


# Drawing


def test_an_overlay_tints_heavy_pixels_only() -> None:
    rgb, heavy = levels(*SIZE), P_HEAVY > 0.5
    drawn = tint(rgb, heavy.astype(np.uint8), 2)
    assert np.array_equal(drawn[~heavy], rgb[~heavy])
    expected = np.rint(0.45 * rgb[heavy] + 0.55 * np.array(TINT))
    assert np.abs(drawn[heavy] - expected).max() <= 1


def test_heavier_branches_have_more_tint() -> None:
    labels = np.array([[0, 1, 2]], np.uint8)
    light, middle, heavy = tint(np.full((1, 3, 3), 128, np.uint8), labels, 3)[0, :, 0].astype(int)
    assert light == 128 < middle < heavy


@pytest.mark.parametrize(("branches", "greys"), [(2, [0, 255]), (3, [0, 128, 255])])
def test_greys_go_from_black_to_white(branches: int, greys: list[int]) -> None:
    assert as_greys(np.arange(branches, dtype=np.uint8)[None], branches).tolist() == [greys]


def test_p_heavy_is_mapped_to_the_colour_scale() -> None:
    values = np.array([[0, 0.25, 0.5, 0.999, 1]], np.float32)
    assert np.array_equal(as_colours(values)[0], P_HEAVY_COLOURS[[0, 64, 128, 255, 255]])


def test_16_bit_values_are_rounded() -> None:
    assert np.abs(as_16_bits(P_HEAVY) / 65535 - P_HEAVY).max() <= 0.5 / 65535 + 1e-9
    assert as_16_bits(np.array([0, 1], np.float32)).tolist() == [0, 65535]


@pytest.mark.parametrize("width", [1, 7, 40, 300, 4000])
def test_a_legend_is_as_wide_as_its_map(width: int) -> None:
    for strip in (
        shares_legend(width, (730, 270)),
        shares_legend(width, (1, 2, 3), (1, 0)),
        p_heavy_legend(width, (0.5,)),
        p_heavy_legend(width, (-0.1, 1.2)),
    ):
        assert strip.shape[1:] == (width, 3) and strip.dtype == np.uint8


def test_a_legend_shows_shares_and_forced_pixels() -> None:
    first, *others = (shares_legend(400, *case) for case in (((73, 27),), ((27, 73),), ((73, 27), (0, 10))))
    assert all(other.shape == first.shape and (other != first).any() for other in others)


def test_a_legend_marks_the_cut() -> None:
    low, high = (p_heavy_legend(300, (cut,)).astype(int) for cut in (0.2, 0.8))
    changed = np.flatnonzero((low != high).any(axis=(0, 2)))
    assert changed.min() < 100 and changed.max() > 200


# The colour scale of p_heavy

TO_LMS = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_LAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]
"""From linear sRGB to Oklab (Ottosson 2020)."""


def scale() -> np.ndarray:
    """The colours of the scale in Oklab, (256, 3)."""
    srgb = P_HEAVY_COLOURS / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ np.transpose(TO_LMS)) @ np.transpose(TO_LAB))


def test_the_colour_scale_is_perceptually_uniform() -> None:
    # Over 15 steps at once, so that rounding to 8 bits does not count.
    steps = np.linalg.norm(np.diff(scale()[::15], axis=0), axis=1)
    assert steps.max() / steps.min() < 1.12


def test_lightness_rises_and_all_colours_differ() -> None:
    lightness = scale()[:, 0]
    assert (np.diff(lightness) > -0.002).all() and (np.diff(lightness[::4]) > 0).all()
    assert lightness[0] < 0.25 and lightness[-1] > 0.9
    assert len(np.unique(P_HEAVY_COLOURS, axis=0)) == 256
