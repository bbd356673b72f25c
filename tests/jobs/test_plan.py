"""A forecast tells what upscaling then takes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pcsr_cli.api import load_model
from pcsr_cli.engine.routing import ALL_HEAVY, ALL_LIGHT, Adaptive, SingleBranch, Threshold
from pcsr_cli.engine.upscale import Settings, upscale_whole
from pcsr_cli.errors import RefusedOutputError
from pcsr_cli.images.formats import choose_format
from pcsr_cli.images.image import ImageData, Layout
from pcsr_cli.images.write import write_image
from pcsr_cli.jobs.plan import Forecast, Range, Rate, forecast, look_at_disk, measure_rate
from pcsr_cli.model.flops import GIGA, executed_flops, model_costs, paper_flops
from pcsr_cli.model.registry import LoadedModel
from tests.failing import fails
from tests.tiny import picture

RATE = Rate(Range(2.0, 4.0))


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder))


def foresee(
    model: LoadedModel, layout: Layout, scale: float = 4, how: Settings | None = None, to: str = ""
) -> Forecast:
    format = choose_format(Path(to)) if to else None
    return forecast(Path("in.png"), layout, model, scale, how or Settings(refine=1), RATE, format)


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("tile", [None, 9])
@pytest.mark.parametrize("routing", [ALL_LIGHT, ALL_HEAVY])
def test_gflops_of_all_light_and_all_heavy_are_those_of_a_run(
    model: LoadedModel, routing: SingleBranch, tile: int | None, memory: int | None
) -> None:
    how = Settings(routing, refine=1, tile=tile, memory=memory)
    _, _, outcome = upscale_whole(model.network, picture(14, 19), 4, how, torch.uint8)
    told, costs = foresee(model, Layout(14, 19), how=how), model_costs(model.network)
    light = routing == ALL_LIGHT
    assert outcome.heavy_share == (0 if light else 1)
    assert len(told.plan.tiles) == len(outcome.plan.tiles)
    paper = paper_flops(costs, outcome.plan.lr_pixels, outcome.branch_pixels) / GIGA
    assert paper == pytest.approx(told.paper.light if light else told.paper.heavy)
    executed = (executed_flops(costs, outcome.executed) - outcome.executed.repeated) / GIGA
    assert executed == pytest.approx(told.executed.light if light else told.executed.heavy)


@pytest.mark.parametrize("memory", [None, 0])
def test_two_passes_cost_what_they_cost(model: LoadedModel, memory: int | None) -> None:
    how = Settings(Adaptive(), refine=1, tile=9, memory=memory)
    _, _, outcome = upscale_whole(model.network, picture(14, 19), 4, how, torch.uint8)
    told = foresee(model, Layout(14, 19), how=how)
    executed = (executed_flops(model_costs(model.network), outcome.executed) - outcome.executed.repeated) / GIGA
    assert told.passes == 2
    assert min(told.executed.light, told.executed.heavy) < executed < max(told.executed.light, told.executed.heavy)


def dtype(depth: int) -> torch.dtype:
    return {8: torch.uint8, 16: torch.uint16}[depth]


def test_time_is_flops_at_the_rate(model: LoadedModel) -> None:
    told = foresee(model, Layout(100, 100))
    assert told.seconds == Range(told.executed.light / 2, told.executed.heavy / 4)


def test_a_rate_is_measured(model: LoadedModel) -> None:
    rate = measure_rate(model, 4)
    assert 0 < rate.gflops.light < 1e6 and 0 < rate.gflops.heavy < 1e6


def test_a_result_is_as_its_file_will_hold_it(model: LoadedModel) -> None:
    deep = Layout(10, 20, grey=True, depth=16)
    assert foresee(model, deep).result == Layout(40, 80, grey=True, depth=16)
    told = foresee(model, deep, 2.5, to="out.jpg")
    assert (told.result.height, told.result.width, told.result.depth) == (25, 50, 8)
    assert "rounded to 8" in told.notes[0]
    with fails(RefusedOutputError, "pixels per side, not"):
        foresee(model, Layout(10, 5_000), to="out.webp")


class TestMemory:
    """The estimate grows with what stands in memory, and not with the result."""

    def test_the_result_is_bounded_by_a_strip_where_it_is_streamed(self, model: LoadedModel) -> None:
        wide, high = (foresee(model, Layout(side, 8_000), to="out.png") for side in (4_000, 8_000))
        assert len(high.plan.strips) > len(wide.plan.strips) > 1
        read_twice = (3 + 3 + 4) * 4_000 * 8_000
        assert 0 < high.memory - wide.memory <= read_twice

    def test_other_formats_hold_it_whole(self, model: LoadedModel) -> None:
        layout = Layout(4_000, 4_000)
        streamed, whole = (foresee(model, layout, to=f"out.{suffix}").memory for suffix in ("tif", "jpg"))
        assert whole - streamed > 16_000 * 16_000 * 3

    def test_adm_keeps_features(self, model: LoadedModel) -> None:
        layout = Layout(2_000, 2_000)
        plain, adaptive, forgetful = (
            foresee(model, layout, how=how).memory
            for how in (
                Settings(Threshold(), refine=1),
                Settings(Adaptive(), refine=1, memory=2**30),
                Settings(Adaptive(), refine=1, memory=0),
            )
        )
        assert plain < forgetful < adaptive


def test_the_disk_is_looked_at_where_the_file_will_be(tmp_path: Path) -> None:
    there, not_yet = look_at_disk(tmp_path, 10), look_at_disk(tmp_path / "new" / "newer", 10**18)
    assert there.enough and there.free > 0
    assert not not_yet.enough and not_yet.folder == tmp_path / "new" / "newer"


@pytest.mark.slow
@pytest.mark.parametrize("how", [[], ["--adm"]], ids=["threshold", "ADM"])
def test_no_more_memory_is_taken_than_was_told(tmp_path: Path, how: list[str]) -> None:
    write_image(tmp_path / "in.png", ImageData(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)), {})

    def told(*words: str) -> dict[str, int]:
        # Processes of their own: a peak lasts as long as its process.
        command = [sys.executable, "-m", "pcsr_cli", *words, "--scale", "2", "--model", "builtin", "--json", *how]
        document: dict[str, int] = json.loads(
            subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout
        )
        return document

    most = told("plan", "in.png", "out.png")["memory_bytes"]
    assert most / 4 < told("upscale", "in.png", "out.png")["peak_memory_bytes"] <= most
