"""Forecasts: GFLOPs as executed, an upper bound of the memory, and a trial of one tile."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pcsr_cli.api import load_model
from pcsr_cli.engine.rules import ALL_HEAVY, ALL_LIGHT, Adaptive, SingleBranch, Threshold
from pcsr_cli.engine.upscale import Settings, upscale_whole
from pcsr_cli.errors import RefusedOutputError
from pcsr_cli.images.formats import choose_format
from pcsr_cli.images.image import ImageData, Layout
from pcsr_cli.images.write import write_image
from pcsr_cli.jobs import plan
from pcsr_cli.jobs.plan import TRIAL_PIXELS, Forecast, Range, check_disk, forecast, try_tile
from pcsr_cli.model.flops import GIGA, executed_flops, model_costs, paper_flops
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.registry import LoadedModel
from tests.failing import fails
from tests.tiny import make_image

SPEED = Range(2.0, 4.0)


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder))


def plan_of(
    model: LoadedModel, layout: Layout, scale: float = 4, how: Settings | None = None, to: str = ""
) -> Forecast:
    format = choose_format(Path(to)) if to else None
    return forecast(Path("in.png"), layout, model, scale, how or Settings(refine=1), SPEED, format)


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("tile", [None, 9])
@pytest.mark.parametrize("routing", [ALL_LIGHT, ALL_HEAVY])
def test_gflops_of_all_light_and_all_heavy_are_those_of_a_run(
    model: LoadedModel, routing: SingleBranch, tile: int | None, memory: int | None
) -> None:
    how = Settings(routing, refine=1, tile=tile, memory=memory)
    _, _, outcome = upscale_whole(model.network, make_image(14, 19), 4, how, torch.uint8)
    planned, costs = plan_of(model, Layout(14, 19), how=how), model_costs(model.network)
    light = routing == ALL_LIGHT
    assert outcome.heavy_share == (0 if light else 1)
    assert len(planned.plan.tiles) == len(outcome.plan.tiles)
    paper = paper_flops(costs, outcome.plan.lr_pixels, outcome.branch_pixels) / GIGA
    assert paper == pytest.approx(planned.paper.light if light else planned.paper.heavy)
    executed = (executed_flops(costs, outcome.executed) - outcome.executed.repeated) / GIGA
    assert executed == pytest.approx(planned.executed.light if light else planned.executed.heavy)


@pytest.mark.parametrize("memory", [None, 0])
def test_gflops_of_two_passes_include_both(model: LoadedModel, memory: int | None) -> None:
    how = Settings(Adaptive(), refine=1, tile=9, memory=memory)
    _, _, outcome = upscale_whole(model.network, make_image(14, 19), 4, how, torch.uint8)
    planned = plan_of(model, Layout(14, 19), how=how)
    executed = (executed_flops(model_costs(model.network), outcome.executed) - outcome.executed.repeated) / GIGA
    assert planned.passes == 2
    low, high = sorted((planned.executed.light, planned.executed.heavy))
    assert low < executed < high


def test_time_is_gflops_divided_by_the_speed(model: LoadedModel) -> None:
    planned = plan_of(model, Layout(100, 100))
    assert planned.seconds == Range(planned.executed.light / 2, planned.executed.heavy / 4)


@pytest.mark.parametrize(("layout", "tile", "width"), [(Layout(9, 40), None, 40), (Layout(2000, 2000), 100, 110)])
def test_a_tile_of_the_planned_width_is_tried(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, layout: Layout, tile: int | None, width: int
) -> None:
    tried: list[tuple[int, ...]] = []

    def spy(network: Pcsr, lr: torch.Tensor, *arguments: Any) -> Any:
        tried.append(tuple(lr.shape[2:]))
        return upscale_whole(network, lr, *arguments)

    monkeypatch.setattr(plan, "upscale_whole", spy)
    settings = Settings(refine=1, tile=tile)
    speed = try_tile(model, 4, [Layout(5, 5), layout], settings)
    assert 0 < speed.light < 1e6 and 0 < speed.heavy < 1e6
    widest = max(tile.input.columns.length for tile in plan_of(model, layout, how=settings).plan.tiles)
    assert tried[1:] == [(TRIAL_PIXELS // widest, widest)] * 2 and widest >= width


def test_a_device_that_cannot_compute_the_tile_is_an_error(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(plan, "upscale_whole", fail)
    with pytest.raises(MemoryError):
        try_tile(model, 4, [Layout(5, 5)], Settings(refine=1))


def test_the_layout_of_the_result_is_that_of_its_file(model: LoadedModel) -> None:
    deep = Layout(10, 20, grey=True, depth=16)
    assert plan_of(model, deep).result == Layout(40, 80, grey=True, depth=16)
    planned = plan_of(model, deep, 2.5, to="out.jpg")
    assert (planned.result.height, planned.result.width, planned.result.depth) == (25, 50, 8)
    assert "rounded to 8" in planned.notes[0]
    with fails(RefusedOutputError, "pixels per side, not"):
        plan_of(model, Layout(10, 5_000), to="out.webp")


class TestMemory:
    """The bound grows with the image, and with the result only if it is collected."""

    def test_a_streamed_result_counts_as_one_strip(self, model: LoadedModel) -> None:
        wide, high = (plan_of(model, Layout(side, 8_000), to="out.png") for side in (4_000, 8_000))
        assert len(high.plan.strips) > len(wide.plan.strips) > 1
        read_twice = (3 + 3 + 4) * 4_000 * 8_000
        assert 0 < high.memory - wide.memory <= read_twice

    def test_a_collected_result_counts_as_a_whole(self, model: LoadedModel) -> None:
        layout = Layout(4_000, 4_000)
        streamed, whole = (plan_of(model, layout, to=f"out.{suffix}").memory for suffix in ("tif", "jpg"))
        assert whole - streamed > 16_000 * 16_000 * 3

    def test_adm_adds_its_features(self, model: LoadedModel) -> None:
        layout = Layout(2_000, 2_000)
        cases = ((Threshold(), None), (Adaptive(), 0), (Adaptive(), 2**30))
        memory = [plan_of(model, layout, how=Settings(rule, refine=1, memory=kept)).memory for rule, kept in cases]
        assert memory[0] < memory[1] < memory[2]


def test_disk_space_is_that_of_the_nearest_existing_folder(tmp_path: Path) -> None:
    existing, missing = check_disk(tmp_path, 10), check_disk(tmp_path / "new" / "newer", 10**18)
    assert existing.enough and existing.free > 0
    assert not missing.enough and missing.folder == tmp_path / "new" / "newer"


@pytest.mark.slow
@pytest.mark.parametrize("how", [[], ["--adm"]], ids=["threshold", "ADM"])
def test_the_peak_memory_is_below_its_forecast(tmp_path: Path, how: list[str]) -> None:
    write_image(tmp_path / "in.png", ImageData(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)))

    def run(*words: str) -> dict[str, int]:
        # Each in a new process, because the peak of a process never falls.
        command = [sys.executable, "-m", "pcsr_cli", *words, "--scale", "2", "--model", "builtin", "--json", *how]
        document: dict[str, int] = json.loads(
            subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout
        )
        return document

    most = run("plan", "in.png", "out.png")["memory_bytes"]
    assert most / 4 < run("upscale", "in.png", "out.png")["peak_memory_bytes"] <= most
