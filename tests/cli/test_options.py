"""Options that make no sense are refused in the table's words; those that do become the library's objects."""

from pathlib import Path

import pytest

from pcsr_cli.cli import options
from pcsr_cli.cli.upscale_options import STREAM, Single, choose_work
from pcsr_cli.engine.refine import NEVER
from pcsr_cli.engine.routing import Adaptive, Threshold, Tradeoff
from pcsr_cli.errors import UsageError
from tests.failing import fails


def test_one_routing_at_most() -> None:
    assert options.choose_routing(None, None, False) is None
    assert options.choose_routing(0.25, None, False) == Threshold(0.25)
    assert options.choose_routing(None, 1.0, False) == Tradeoff(1.0)
    assert options.choose_routing(None, None, True) == Adaptive()
    with fails(UsageError, "--threshold and --k and --adm and --budget exclude each other."):
        options.choose_routing(0.5, 1.0, True, "60%")


def test_everything_and_nothing_cannot_be_said() -> None:
    with fails(UsageError, "--json and --quiet exclude each other."):
        options.check_talk(json=True, quiet=True)


@pytest.mark.parametrize("refine", [-1, 10])
def test_refine_has_a_range(refine: int) -> None:
    with fails(
        UsageError, f"--refine {refine} is out of range.", f"Choose 0 (smooth all light pixels) to {NEVER} (none)."
    ):
        options.choose_refine(refine, no_refine=False, scale=4)
    assert options.choose_refine(None, no_refine=True, scale=4) == NEVER
    assert [options.choose_refine(None, no_refine=False, scale=scale) for scale in (2, 3, 4)] == [NEVER, 1, 1]


@pytest.mark.parametrize("tile", ["7", "1.5", "big", "", "9" * 30])
def test_a_tile_has_a_side(tile: str) -> None:
    with fails(
        UsageError,
        f"--tile {tile[:20]} is no size.",
        f"Give auto or a number of LR pixels from {options.SMALLEST_TILE}, such as 256.",
    ):
        options.choose_tile(tile)


def test_a_tile_is_a_number_or_auto() -> None:
    assert (options.choose_tile("auto"), options.choose_tile("256")) == (None, 256)


@pytest.mark.parametrize("memory", ["lots", "-1G", "1X", ""])
def test_memory_is_an_amount(memory: str) -> None:
    with fails(UsageError, f"--memory {memory} is no amount."):
        options.choose_memory(memory)


def test_amounts_of_memory() -> None:
    assert options.choose_memory("auto") is None
    assert options.choose_memory("512m") == 512 * 2**20
    assert options.choose_memory("1.5G") == 3 * 2**29


def test_an_empty_argument_is_no_current_folder() -> None:
    for arguments, what in (
        (["upscale", "", "out"], "An argument"),
        (["upscale", "in", "--out-dir", ""], "--out-dir"),
        (["sweep", "--lr="], "--lr"),
    ):
        with fails(UsageError, f"{what} is empty."):
            options.check_arguments(arguments)
    options.check_arguments(["upscale", "a=b=", "--name={stem}=", "-", "."])


def test_a_stream_is_a_dash_and_nothing_else() -> None:
    assert choose_work(["-", "-"], None) == Single(STREAM, STREAM)
    assert choose_work(["./-", "-"], None) == Single(Path.cwd() / "-", STREAM)


def test_one_picture_becomes_no_folder() -> None:
    with fails(UsageError, "new/ is the name of a folder, and one picture becomes a file."):
        choose_work(["in.png", "new/"], None)


def test_refinement_is_asked_for_or_refused() -> None:
    with fails(UsageError, "--refine and --no-refine exclude each other."):
        options.choose_refine(3, True, 4)
