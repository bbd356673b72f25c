"""A tile plan covers each pixel exactly once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcsr_cli.engine.grid import hr_size, make_axis
from pcsr_cli.engine.tiles import Rect, Span, TilePlan, plan_tiles
from tests.strategies import scales

plans = st.builds(
    plan_tiles,
    lr_size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    scale=scales,
    tile=st.tuples(st.integers(4, 70), st.integers(4, 70)),
    halo=st.integers(1, 33),
    ring=st.integers(0, 2),
)


@given(plans)
def test_cores_partition_the_result(plan: TilePlan) -> None:
    owners = torch.zeros(plan.hr_size, dtype=torch.int64)
    for tile in plan.tiles:
        assert tile.core.area > 0
        owners[tile.core.slices] += 1
    assert (owners == 1).all()


@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), scales, st.integers(4, 70))
def test_tiles_partition_the_lr_pixels(lr_size: tuple[int, int], scale: float, tile: int) -> None:
    # Without halo and ring, the sampled area is the owned area.
    plan = plan_tiles(lr_size, scale, (tile, tile), halo=1, ring=0)
    assert plan.hr_size == hr_size(lr_size, scale)
    owners = torch.zeros(lr_size, dtype=torch.int64)
    for part in plan.tiles:
        owners[part.sampled.slices] += 1
        assert max(part.sampled.rows.length, part.sampled.columns.length) <= tile
    assert (owners == 1).all()


@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), scales, st.integers(4, 70), st.integers(0, 2))
def test_regions_are_cores_with_a_ring_and_complete_lr_pixels(
    lr_size: tuple[int, int], scale: float, tile: int, ring: int
) -> None:
    plan = plan_tiles(lr_size, scale, (tile, tile), halo=3, ring=ring)
    for part in plan.tiles:
        for core, region, limit in sides(part.core, part.region, plan.hr_size):
            assert region.start <= max(0, core.start - ring)
            assert region.stop >= min(limit, core.stop + ring)
        sampled, needed = part.sampled.rows, part.core.rows.grown(ring, plan.hr_size[0])
        assert part.region.rows == plan.hr_rows(sampled)
        ends = plan.hr_rows(Span(sampled.start + 1, sampled.stop - 1)) if sampled.length > 1 else Span(0, 0)
        assert sampled.length == 1 or (ends.start > needed.start and ends.stop < needed.stop)


@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), scales, st.integers(4, 70), st.integers(1, 33))
def test_inputs_are_sampled_areas_with_a_halo(lr_size: tuple[int, int], scale: float, tile: int, halo: int) -> None:
    for part in plan_tiles(lr_size, scale, (tile, tile), halo, ring=1).tiles:
        for sampled, window, limit in sides(part.sampled, part.input, lr_size):
            assert window.start == max(0, sampled.start - halo)
            assert window.stop == min(limit, sampled.stop + halo)


@given(plans)
def test_a_tile_contains_all_pixels_that_its_region_needs(plan: TilePlan) -> None:
    cpu = torch.device("cpu")
    for tile in plan.tiles:
        for side in (0, 1):
            region, sampled, window = (
                (rect.rows, rect.columns)[side] for rect in (tile.region, tile.sampled, tile.input)
            )
            axis = make_axis(plan.lr_size[side], plan.hr_size[side], region.start, region.stop, cpu)
            assert int(axis.nearest.min()) == sampled.start
            assert int(axis.nearest.max()) == sampled.stop - 1
            assert window.start <= int(axis.low.min()) and int(axis.high.max()) < window.stop


@given(plans)
def test_a_plan_counts_its_pixels(plan: TilePlan) -> None:
    assert plan.lr_pixels == plan.lr_size[0] * plan.lr_size[1]
    assert plan.hr_pixels == sum(tile.core.area for tile in plan.tiles)


def test_one_large_tile_covers_exactly_the_image() -> None:
    (tile,) = plan_tiles((30, 50), 2, tile=(50, 50), halo=19, ring=1).tiles
    assert tile.core == tile.region == Rect(Span(0, 60), Span(0, 100))
    assert tile.sampled == tile.input == Rect(Span(0, 30), Span(0, 50))


@pytest.mark.parametrize(("length", "tile", "count"), [(100, 100, 1), (101, 100, 2), (1, 1, 1), (300, 100, 3)])
def test_tiles_are_few_and_of_nearly_equal_size(length: int, tile: int, count: int) -> None:
    plan = plan_tiles((length, 1), 1, (tile, tile), halo=1, ring=0)
    sizes = [part.core.rows.length for part in plan.tiles]
    assert len(sizes) == count
    assert max(sizes) - min(sizes) <= 1


def test_a_rectangle_lies_within_another() -> None:
    outer, inner = Rect(Span(10, 20), Span(30, 50)), Rect(Span(12, 20), Span(31, 40))
    grid = torch.arange(60 * 60).view(60, 60)
    assert torch.equal(grid[outer.slices][inner.within(outer)], grid[inner.slices])


def sides(inner: Rect, outer: Rect, limits: tuple[int, int]) -> tuple[tuple[Span, Span, int], tuple[Span, Span, int]]:
    return (inner.rows, outer.rows, limits[0]), (inner.columns, outer.columns, limits[1])


@given(plans, st.data())
def test_cutting_a_tile_partitions_its_area(plan: TilePlan, data: st.DataObject) -> None:
    tile = data.draw(st.sampled_from(plan.tiles))
    parts = plan.cut(tile, tile.half)
    assert 1 <= len(parts) <= 4
    assert sum(part.core.area for part in parts) == tile.core.area
    assert sum(part.owned.area for part in parts) == tile.owned.area
    for part in parts:
        assert tile.input.rows.start <= part.input.rows.start < part.input.rows.stop <= tile.input.rows.stop
    assert len(parts) > 1 or tile.owned.area == 1


@given(plans, st.data())
def test_a_small_tile_is_not_cut(plan: TilePlan, data: st.DataObject) -> None:
    tile = data.draw(st.sampled_from(plan.tiles))
    assert plan.cut(tile, (tile.owned.rows.length, tile.owned.columns.length)) == (tile,)


def test_a_plan_takes_no_memory_for_each_row() -> None:
    rows = 10**9
    plan = plan_tiles((rows, 1), 2, (rows // 10, 768), 5, 1)
    assert len(plan.tiles) == 10
    assert plan.hr_rows(Span(rows - 2, rows)) == Span(2 * rows - 4, 2 * rows)
