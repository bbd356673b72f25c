"""Masks override the classifier where they are set, and nowhere else, whatever the tiles."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pcsr_cli.engine.grid import hr_size, nearest_index
from pcsr_cli.engine.routing import Adaptive, Budget, Forced, Routing, Threshold, Tradeoff
from pcsr_cli.engine.tiles import Rect, Span
from pcsr_cli.engine.upscale import Outcome, Settings
from pcsr_cli.model.flops import model_costs, paper_flops
from tests import reference
from tests.closeness import assert_same
from tests.strategies import examples, lengths, routings, scales
from tests.tiny import Result, picture, tiny_model, upscaled

ROUTINGS = [Threshold(0.5), Tradeoff(0.5), Adaptive()]


def marks(height: int, width: int, seed: int, share: float = 0.2) -> Tensor:
    return torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < share


def run(
    settings: Settings, scale: float = 2, size: tuple[int, int] = (13, 11), branches: int = 2
) -> tuple[Result, Outcome]:
    return upscaled(tiny_model("fsrcnn", branches), picture(*size), scale, settings)


def masks(size: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """A light and a heavy mask of a size that have no pixel in common."""
    light, heavy = marks(*size, seed), marks(*size, seed + 1)
    return light & ~heavy, heavy


@examples(0.5)
@given(lengths, lengths, scales, routings, st.sampled_from([2, 3]), st.integers(0, 9), st.booleans())
def test_masks_are_followed_exactly_and_tiles_change_nothing(
    height: int, width: int, scale: float, routing: Routing, branches: int, refine: int, of_lr: bool
) -> None:
    if branches == 3 and isinstance(routing, Threshold):
        routing = Tradeoff(0.3)
    lr_size, size = (height, width), hr_size((height, width), scale)
    light, heavy = masks(lr_size if of_lr else size)
    forced = Forced(size, light, heavy)
    tile = max(4, -(-max(lr_size) // 3))
    free, _ = run(Settings(routing, refine=refine), scale, lr_size, branches)
    whole, _ = run(Settings(routing, refine=refine, forced=forced), scale, lr_size, branches)
    tiled, outcome = run(Settings(routing, refine=refine, tile=tile, forced=forced), scale, lr_size, branches)
    if of_lr:
        rows, columns = (nearest_index(lr_size[i], size[i], torch.arange(size[i])) for i in (0, 1))
        light, heavy = light[rows[:, None], columns], heavy[rows[:, None], columns]
    chosen = light | heavy
    assert (whole.labels[light] == 0).all() and (whole.labels[heavy] == branches - 1).all()
    assert torch.equal(whole.labels[~chosen], free.labels[~chosen])
    assert outcome.forced == (int(light.sum()), int(heavy.sum()))
    assert (tiled.labels[light] == 0).all() and (tiled.labels[heavy] == branches - 1).all()
    unforced = reference.upscale(tiny_model("fsrcnn", branches), picture(*lr_size), scale, routing, refine)
    one, other = (tiled.rgb, tiled.labels), (whole.rgb, whole.labels)
    assert_same(one, other, outcome.decision, unforced.probabilities, tolerance=2e-5)


def test_what_is_executed_is_counted_as_it_ran() -> None:
    size = (26, 22)
    light, heavy = masks(size)
    result, outcome = run(Settings(refine=9, forced=Forced(size, light, heavy)))
    pixels = int((result.labels == 1).sum())
    assert outcome.branch_pixels == (size[0] * size[1] - pixels, pixels)
    assert outcome.executed.branches == outcome.branch_pixels
    assert outcome.executed.classifier == size[0] * size[1]


def test_adm_looks_at_forced_pixels_as_at_any_other() -> None:
    light, heavy = masks((26, 22))
    _, free = run(Settings(Adaptive(), refine=1))
    _, forced = run(Settings(Adaptive(), refine=1, forced=Forced((26, 22), light, heavy)))
    assert forced.decision == free.decision


def test_a_budget_pays_for_forced_pixels_first() -> None:
    heavy = torch.zeros(26, 22, dtype=torch.bool)
    heavy[:5] = True
    _, everything = run(Settings(Threshold(0.0), refine=1))
    _, nothing = run(Settings(Threshold(1.0), refine=1))
    costs = model_costs(tiny_model("fsrcnn"))
    least, most = (paper_flops(costs, 13 * 11, each.branch_pixels) / 1e9 for each in (nothing, everything))
    budget = Budget(gflops=least + 0.5 * (most - least))
    for forced in (None, Forced((26, 22), heavy=heavy), Forced((26, 22), light=heavy)):
        _, outcome = run(Settings(budget, refine=1, forced=forced))
        assert abs(outcome.heavy_share - 0.5) < 0.01


def test_a_budget_that_masks_use_up_leaves_nothing_for_others() -> None:
    heavy = torch.zeros(26, 22, dtype=torch.bool)
    heavy[:20] = True
    _, outcome = run(Settings(Budget(gflops=1e-6), refine=1, forced=Forced((26, 22), heavy=heavy)))
    assert outcome.branch_pixels[1] == 20 * 22
    _, outcome = run(
        Settings(Budget(gflops=1e-6), refine=1, forced=Forced((26, 22), heavy=torch.ones(26, 22, dtype=torch.bool)))
    )
    assert outcome.branch_pixels[0] == 0


def test_pixels_that_both_masks_want_are_counted() -> None:
    both = torch.ones(3, 4, dtype=torch.bool)
    one = torch.zeros(6, 8, dtype=torch.bool)
    one[0, :5] = True
    assert Forced((6, 8), both, one).clashes == 5
    assert Forced((6, 8), both).clashes == 0


def test_free_pixels_are_those_no_mask_sets() -> None:
    light, heavy = masks((6, 8))
    area = Rect(Span(1, 5), Span(2, 8))
    assert torch.equal(Forced((6, 8), light, heavy).free(area), ~(light | heavy)[1:5, 2:8])
