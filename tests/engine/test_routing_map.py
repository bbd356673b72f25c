"""What was taken down is what was decided, pixel for pixel."""

import pytest
import torch

from pcsr_cli.engine.forced import Forced
from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.routing import Adaptive, Cuts, Routing, Threshold, Tradeoff
from pcsr_cli.engine.routing_map import RoutingMap
from pcsr_cli.engine.upscale import FloatCanvas, Outcome, Settings, predict_branches, upscale
from tests.tiny import picture, tiny_model

SIZE = hr_size((17, 23), 2.5)


def run(branches: int, settings: Settings) -> tuple[RoutingMap, FloatCanvas, Outcome]:
    model, lr = tiny_model("fsrcnn", branches), picture(17, 23)
    canvas, routed = FloatCanvas(*SIZE), RoutingMap(*SIZE)
    return routed, canvas, upscale(model, lr, 2.5, settings, canvas, routed=routed)


@pytest.mark.parametrize("refine", [1, 9])
@pytest.mark.parametrize("tile", [None, 8])
@pytest.mark.parametrize(
    ("branches", "routing"),
    [(2, Threshold(0.5)), (2, Threshold(0.2)), (2, Tradeoff(1)), (2, Adaptive()), (3, Adaptive())],
    ids=str,
)
def test_branches_are_difficulty_over_the_cuts(branches: int, routing: Routing, tile: int | None, refine: int) -> None:
    routed, canvas, outcome = run(branches, Settings(routing, refine=refine, tile=tile))
    assert isinstance(outcome.decision, Cuts)
    expected = sum((routed.difficulty > cut).to(torch.uint8) for cut in outcome.decision.values)
    assert torch.equal(routed.labels, torch.as_tensor(expected))
    assert torch.equal(routed.labels, canvas.labels)
    assert 0 < (routed.labels > 0).float().mean() < 1, "the case should have both kinds of pixels"


def test_three_branches_by_cost_are_taken_down_too() -> None:
    routed, canvas, _ = run(3, Settings(Tradeoff(0.5), refine=1, tile=8))
    assert torch.equal(routed.labels, canvas.labels)
    assert set(routed.labels.flatten().tolist()) == {0, 1, 2}


@pytest.mark.parametrize("tile", [None, 8])
def test_difficulty_is_that_of_exploring(tile: int | None) -> None:
    routed, _, _ = run(2, Settings(refine=1, tile=tile))
    explored = predict_branches(tiny_model("fsrcnn"), picture(17, 23), 2.5, Settings(refine=1, tile=tile))
    assert torch.allclose(routed.difficulty, explored.difficulty, atol=1e-6)


def test_forced_pixels_have_the_branch_they_were_forced_to_and_their_own_difficulty() -> None:
    heavy = torch.zeros(*SIZE, dtype=torch.bool)
    heavy[3:9] = True
    free, _, _ = run(2, Settings(refine=1, tile=8))
    routed, canvas, _ = run(2, Settings(refine=1, tile=8, forced=Forced(SIZE, heavy=heavy)))
    assert (routed.labels[heavy] == 1).all() and torch.equal(routed.labels, canvas.labels)
    assert torch.equal(routed.difficulty, free.difficulty)
