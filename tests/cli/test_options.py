"""Options that make no sense are refused in the table's words; those that do become the library's objects."""

import pytest

from pcsr_cli.cli import options
from pcsr_cli.failures import usage
from pcsr_cli.refine import NEVER
from pcsr_cli.routing import Adaptive, Threshold, Tradeoff
from tests.failing import fails


def test_one_routing_at_most() -> None:
    assert options.choose_routing(None, None, False) is None
    assert options.choose_routing(0.25, None, False) == Threshold(0.25)
    assert options.choose_routing(None, 1.0, False) == Tradeoff(1.0)
    assert options.choose_routing(None, None, True) == Adaptive()
    with fails(usage.EXCLUDE, options="--threshold and --k and --adm and --budget"):
        options.choose_routing(0.5, 1.0, True, "60%")


def test_everything_and_nothing_cannot_be_said() -> None:
    with fails(usage.EXCLUDE, options="--json and --quiet"):
        options.check_talk(json=True, quiet=True)


@pytest.mark.parametrize("refine", [-1, 10])
def test_refine_has_a_range(refine: int) -> None:
    with fails(usage.REFINE, refine=refine, never=NEVER):
        options.choose_refine(refine, no_refine=False, scale=4)
    assert options.choose_refine(1, no_refine=True, scale=4) == NEVER
    assert [options.choose_refine(None, no_refine=False, scale=scale) for scale in (2, 3, 4)] == [NEVER, 1, 1]


@pytest.mark.parametrize("tile", ["7", "1.5", "big", "", "9" * 30])
def test_a_tile_has_a_side(tile: str) -> None:
    with fails(usage.TILE, tile=tile[:20], smallest=options.SMALLEST_TILE):
        options.choose_tile(tile)


def test_a_tile_is_a_number_or_auto() -> None:
    assert (options.choose_tile("auto"), options.choose_tile("256")) == (None, 256)


@pytest.mark.parametrize("memory", ["lots", "-1G", "1X", ""])
def test_memory_is_an_amount(memory: str) -> None:
    with fails(usage.MEMORY, memory=memory):
        options.choose_memory(memory)


def test_amounts_of_memory() -> None:
    assert options.choose_memory("auto") is None
    assert options.choose_memory("512m") == 512 * 2**20
    assert options.choose_memory("1.5G") == 3 * 2**29
