"""The engine creates every tensor on the model's device, and waits for the device a fixed number of times a tile.

The tests run the engine on fake CUDA tensors, which refuse operations that mix devices.
"""

import pytest
import torch

from pcsr_cli.engine.rules import NEVER, Adaptive, Routing, Threshold, Tradeoff
from pcsr_cli.engine.upscale import Settings
from tests.fake_cuda import run_on_fake_cuda
from tests.tiny import BACKBONES

ROUTINGS = [Threshold(0.3), Tradeoff(1), Adaptive()]


@pytest.mark.parametrize("routing", ROUTINGS, ids=repr)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_tensor_is_on_the_device_of_the_model(
    monkeypatch: pytest.MonkeyPatch, backbone: str, routing: Routing
) -> None:
    traffic = run_on_fake_cuda(monkeypatch, backbone, Settings(routing, refine=1, tile=5, memory=2**20))
    assert len(traffic.outcome.plan.tiles) > 1


@pytest.mark.parametrize("routing", [Tradeoff(1), Adaptive()], ids=repr)
def test_three_branches_stay_on_the_device_of_the_model(monkeypatch: pytest.MonkeyPatch, routing: Routing) -> None:
    run_on_fake_cuda(monkeypatch, "dense", Settings(routing, refine=1, tile=5, memory=2**20), branches=3)


def test_8_bit_results_are_copied_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    run_on_fake_cuda(monkeypatch, "dense", Settings(refine=1, tile=5, memory=2**20), dtype=torch.uint8)


@pytest.mark.parametrize("branches", [2, 3])
@pytest.mark.parametrize("refine", [1, NEVER])
@pytest.mark.parametrize(("side", "tile"), [(20, 10), (40, 20), (60, 60), (60, 20)])
def test_the_host_waits_equally_often_for_each_tile_whatever_its_size(
    monkeypatch: pytest.MonkeyPatch, side: int, tile: int, refine: int, branches: int
) -> None:
    settings = Settings(Tradeoff(0.5), refine=refine, tile=tile, memory=2**20)
    traffic = run_on_fake_cuda(monkeypatch, "carn", settings, (side, side), branches, torch.uint8)
    tiles = (side // tile) ** 2
    refined = refine < NEVER
    assert traffic.waits == {
        "nonzero": tiles * (branches - 1),  # the pixels of each branch but the lightest, which runs everywhere
        "item": side // tile,  # the check that all values of a strip are finite
    }
    # Three colours and labels. With refinement, the last row of each strip is copied separately.
    assert traffic.downloads == traffic.arrivals == 4 * (tiles + refined * side // tile)


def test_uploads_do_not_grow_with_the_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (
        run_on_fake_cuda(monkeypatch, "carn", Settings(refine=1, tile=tile, memory=2**20), (2 * tile, 2 * tile))
        for tile in (10, 30)
    )
    assert small.uploads == large.uploads
