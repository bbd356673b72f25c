"""A halo is as wide as the network sees, and what is narrower by a pixel is noticed."""

from typing import Any

import pytest

from pcsr_cli.engine import upscale as upscaling
from pcsr_cli.engine.tiles import plan_tiles
from pcsr_cli.evaluate.halo_check import check_halo
from tests.tiny import BACKBONES, changeable_model, tiny_model


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_halo_is_what_the_network_sees(backbone: str) -> None:
    model = tiny_model(backbone)
    found = check_halo(model, 1)
    assert found.passed
    assert found.reach == found.halo == model.encoder.receptive_radius


@pytest.mark.parametrize("scale", [1, 1.7, 3])
def test_at_any_scale(scale: float) -> None:
    assert check_halo(tiny_model("fsrcnn"), scale).passed


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_backbone_that_tells_a_radius_too_small_by_one_is_caught(backbone: str) -> None:
    model = changeable_model(backbone)
    model.encoder.receptive_radius -= 1
    found = check_halo(model, 1)
    assert not found.same and not found.passed
    assert found.reach == found.halo + 1


@pytest.mark.parametrize("backbone", BACKBONES)
def test_tiles_that_get_a_halo_one_pixel_short_are_caught(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_halo(monkeypatch)
    found = check_halo(tiny_model(backbone), 2)
    assert found.reach == found.halo
    assert not found.same and not found.passed


def test_a_wider_halo_is_no_mistake() -> None:
    model = changeable_model("fsrcnn")
    model.encoder.receptive_radius += 1
    assert check_halo(model, 1).passed


def shorten_halo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every tile a halo one pixel short."""
    honest = plan_tiles

    def short(lr_size: Any, scale: Any, tile: Any, halo: int, ring: int) -> Any:
        return honest(lr_size, scale, tile, halo - 1, ring)

    monkeypatch.setattr(upscaling, "plan_tiles", short)
