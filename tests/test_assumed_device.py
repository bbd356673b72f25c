"""No tensor is made on an assumed device: the engine runs on fake CUDA tensors, which refuse any mixture of devices.

And the host does not wait more often than it must: how often it does is held here, for each tile.
"""

from dataclasses import replace

import pytest
import torch

from pcsr_cli.engine import sampling
from pcsr_cli.engine.grid import Axis, make_axis
from pcsr_cli.engine.refine import NEVER
from pcsr_cli.engine.routing import Adaptive, Routing, Threshold, Tradeoff
from pcsr_cli.engine.upscale import Settings
from tests.fake_cuda import run_on_fake_cuda
from tests.tiny import BACKBONES

ROUTINGS = [Threshold(0.3), Tradeoff(1), Adaptive()]


@pytest.mark.parametrize("routing", ROUTINGS, ids=repr)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_everything_is_made_on_the_models_device(
    monkeypatch: pytest.MonkeyPatch, backbone: str, routing: Routing
) -> None:
    traffic = run_on_fake_cuda(monkeypatch, backbone, Settings(routing, refine=1, tile=5, memory=2**20))
    assert len(traffic.outcome.plan.tiles) > 1


@pytest.mark.parametrize("routing", [Tradeoff(1), Adaptive()], ids=repr)
def test_three_branches_are_no_exception(monkeypatch: pytest.MonkeyPatch, routing: Routing) -> None:
    run_on_fake_cuda(monkeypatch, "dense", Settings(routing, refine=1, tile=5, memory=2**20), branches=3)


def test_bytes_come_back_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    run_on_fake_cuda(monkeypatch, "dense", Settings(refine=1, tile=5, memory=2**20), dtype=torch.uint8)


@pytest.mark.parametrize("left_behind", ["nearest", "rel", "low", "weight"])
def test_a_tensor_left_on_the_host_is_caught(monkeypatch: pytest.MonkeyPatch, left_behind: str) -> None:
    def forgetful(lr_length: int, hr_length: int, start: int, stop: int, device: torch.device) -> Axis:
        axis = make_axis(lr_length, hr_length, start, stop, device)
        forgotten = getattr(make_axis(lr_length, hr_length, start, stop, torch.device("cpu")), left_behind)
        return replace(axis, **{left_behind: forgotten})

    monkeypatch.setattr(sampling, "make_axis", forgetful)
    with pytest.raises(RuntimeError, match=r"device"):
        run_on_fake_cuda(monkeypatch, "dense", Settings(refine=1, tile=5, memory=2**20))


@pytest.mark.parametrize("branches", [2, 3])
@pytest.mark.parametrize("refine", [1, NEVER])
@pytest.mark.parametrize(("side", "tile"), [(20, 10), (40, 20), (60, 60), (60, 20)])
def test_the_host_waits_equally_often_for_each_tile_whatever_its_size(
    monkeypatch: pytest.MonkeyPatch, side: int, tile: int, refine: int, branches: int
) -> None:
    how = Settings(Tradeoff(0.5), refine=refine, tile=tile, memory=2**20)
    traffic = run_on_fake_cuda(monkeypatch, "carn", how, (side, side), branches, torch.uint8)
    tiles = (side // tile) ** 2
    refined = refine < NEVER
    assert traffic.waits == {
        "nonzero": tiles * branches,  # the pixels of each branch
        "item": side // tile,  # whether all numbers of a strip are finite
    }
    # Colours and labels; the last row of all comes apart.
    assert traffic.downloads == traffic.arrivals == 2 * (tiles + refined * side // tile)


def test_uploads_do_not_grow_with_the_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (
        run_on_fake_cuda(monkeypatch, "carn", Settings(refine=1, tile=tile, memory=2**20), (2 * tile, 2 * tile))
        for tile in (10, 30)
    )
    assert small.uploads == large.uploads
