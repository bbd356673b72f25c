"""The stages of the benchmarks: they cover all FLOPs, and the engine is restored."""

import pytest
import torch

from benchmarks.stages import BACKBONE, BASE, CLASSIFIER, REFINEMENT, WRITING, stage_flops, timed_engine
from pcsr_cli.engine.rules import default_routing
from pcsr_cli.engine.sampling import BandSampler
from pcsr_cli.engine.upscale import Settings, upscale_whole
from pcsr_cli.model.flops import executed_flops, model_costs
from tests.tiny import make_image, tiny_model


@pytest.mark.parametrize("branches", [2, 3])
def test_stages_cover_all_flops(branches: int) -> None:
    model = tiny_model("carn", branches)
    settings = Settings(default_routing(branches), refine=1)
    with timed_engine() as watch:
        _, _, outcome = upscale_whole(model, make_image(9, 13), 4, settings, torch.uint8)
    costs = model_costs(model)
    flops = stage_flops(costs, outcome)
    assert sum(flops.values()) == pytest.approx(executed_flops(costs, outcome.executed))
    between = {"middle 1"} if branches == 3 else set()
    stages = {BACKBONE, CLASSIFIER, "light", "heavy", BASE, REFINEMENT, WRITING} | between
    assert set(watch.seconds) == stages >= set(flops)
    assert min(watch.seconds.values()) > 0


def test_the_engine_is_restored() -> None:
    before = BandSampler.everywhere
    with timed_engine():
        assert BandSampler.everywhere is not before
    assert BandSampler.everywhere is before
