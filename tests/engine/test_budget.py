"""Budgets: parsed, turned into a cut, refused where they cannot be met."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pcsr_cli.engine.routing import (
    Allowance,
    Budget,
    Size,
    cut_for_share,
    gflops_range,
    heavy_share,
    parse_allowance,
    to_budget,
)
from pcsr_cli.engine.upscale import Settings, upscale_whole
from pcsr_cli.errors import UsageError
from pcsr_cli.model.flops import model_costs, paper_flops
from pcsr_cli.model.network import Pcsr
from tests.failing import fails
from tests.tiny import picture, tiny_model

SIZE = Size(20 * 30, 80 * 120)


def test_what_is_asked_for() -> None:
    assert parse_allowance("60%") == Allowance(60, "%")
    assert parse_allowance(" 1.5g ") == Allowance(1.5, "G")
    assert parse_allowance(".5%") == Allowance(0.5, "%")


@pytest.mark.parametrize("text", ["", "60", "%", "-1G", "0G", "1e3G", "nanG", "8s", "8 hours"])
def test_what_is_no_budget(text: str) -> None:
    with fails(UsageError, "Invalid budget"):
        parse_allowance(text)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 1.0])
def test_an_upscale_spends_just_that(part: float) -> None:
    model = tiny_model("carn")
    costs = model_costs(model)
    least, most = gflops_range(costs, SIZE)
    wanted = least + part * (most - least)
    _, _, outcome = upscale_whole(model, picture(20, 30), 4, Settings(Budget(wanted), refine=1, tile=11))
    spent = paper_flops(costs, SIZE.lr_pixels, outcome.branch_pixels) / 1e9
    assert spent == pytest.approx(wanted, rel=1e-3)
    assert heavy_share(costs, SIZE, wanted) == pytest.approx(part)


def test_percent_is_of_the_original_or_else_of_all_heavy() -> None:
    costs = model_costs(tiny_model("carn"))
    _, most = gflops_range(costs, SIZE)
    assert to_budget(Allowance(90, "%"), costs, SIZE, None).gflops == pytest.approx(0.9 * most)
    assert to_budget(Allowance(45, "%"), costs, SIZE, 2 * most).gflops == pytest.approx(0.9 * most)


@pytest.mark.parametrize("asked", [Allowance(101, "%"), Allowance(1, "%"), Allowance(1e6, "G")])
def test_out_of_range_tells_the_range(asked: Allowance) -> None:
    costs = model_costs(tiny_model("carn"))
    with fails(UsageError, "cannot be met."):
        to_budget(asked, costs, SIZE, None)


@pytest.mark.parametrize("original", [None, 0.03])
def test_the_range_that_is_told_can_be_asked_for(original: float | None) -> None:
    costs = model_costs(tiny_model("carn"))
    with pytest.raises(UsageError) as raised:
        to_budget(Allowance(1e6, "G"), costs, SIZE, original)
    told = re.findall(r"[\d.]+[G%]", raised.value.next_step)
    assert len(told) == (2 if original is None else 4)
    for limit in told:
        to_budget(parse_allowance(limit), costs, SIZE, original)


def test_samplers_of_equal_cost_are_paid_for_by_what_they_cost() -> None:
    spec = replace(tiny_model("carn").spec, samplers=((4,), (4,)))
    costs = model_costs(Pcsr(spec))
    budget = to_budget(Allowance(100, "%"), costs, SIZE, None)
    assert heavy_share(costs, SIZE, budget.gflops) == 1


def test_three_branches_have_no_cut() -> None:
    with fails(UsageError, "A budget needs a model of two branches, but this one has 3."):
        to_budget(Allowance(1, "G"), model_costs(tiny_model("carn", 3)), SIZE, None)


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.50001, 1.0]) | st.floats(0, 1, width=32), min_size=1), st.floats(0, 1)
)
def test_no_other_cut_comes_closer(values: list[float], share: float) -> None:
    data = np.array(values, np.float32)
    wanted = round(share * len(data))

    def off(cut: float) -> int:
        return abs(int((data > np.float32(cut)).sum()) - wanted)

    cut = cut_for_share(torch.from_numpy(data), share)
    assert off(cut) == min(off(float(other)) for other in [-1.0, *data])
