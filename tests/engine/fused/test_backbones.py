"""Prepared backbones compute the features of the plain backbone in bands of any height."""

from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pcsr_cli.engine.fused import backbones, kernels
from pcsr_cli.engine.fused.backbones import prepare_backbone
from pcsr_cli.engine.fused.originals import prepared_original
from pcsr_cli.engine.fused.rows import Ledger
from pcsr_cli.model.backbones import ORIGINALS, Backbone, build_backbone
from pcsr_cli.model.spec import BackboneSpec
from tests.tiny import BACKBONES, make_image, tiny_model

SPECS = {
    "carn": BackboneSpec("carn", 52),
    "fsrcnn": BackboneSpec("fsrcnn", 48),
    "srresnet": BackboneSpec("srresnet", 58),
    "dense": BackboneSpec("dense", 32, 7),
    "bsrn": BackboneSpec("bsrn", 48, 8),
}


@cache
def full_size(name: str) -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        backbone = build_backbone(SPECS[name]).eval().requires_grad_(False)
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.2, 0.2)
    return backbone


def banded(backbone: Backbone, x: Tensor, band: int, ledger: Ledger | None = None) -> list[Tensor]:
    """Features in bands of ``band`` rows. The minimum of the engine is 4."""
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(backbones, "BAND_FLOATS", band * backbone.width * x.shape[3])
        x = x.contiguous(memory_format=torch.channels_last)
        return [part.clone() for part in prepare_backbone(backbone).stream(x, ledger or Ledger())]


def assert_plain(backbone: Backbone, x: Tensor, band: int) -> None:
    with torch.inference_mode():
        expected = backbone(x)
    result = torch.cat(banded(backbone, x, band), dim=2)
    assert result.shape == expected.shape
    assert (result - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", SPECS)
def test_published_sizes_agree(name: str) -> None:
    assert_plain(full_size(name), make_image(45, 13) - 0.4, band=11)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (5, 5), (39, 4)], ids=str)
@pytest.mark.parametrize("name", BACKBONES)
def test_smallest_sizes_agree(name: str, size: tuple[int, int]) -> None:
    assert_plain(tiny_model(name).encoder, make_image(*size), band=4)


@given(st.sampled_from(BACKBONES), st.integers(1, 60), st.integers(1, 12), st.integers(1, 60))
def test_any_bands_agree(name: str, height: int, width: int, band: int) -> None:
    assert_plain(tiny_model(name).encoder, make_image(height, width), band)


@pytest.mark.parametrize("name", BACKBONES)
def test_plain_operations_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "onednn_usable", lambda _: False)
    assert_plain(tiny_model(name).encoder, make_image(30, 11), band=6)


@pytest.mark.parametrize("name", BACKBONES)
def test_more_bands_repeat_more(name: str) -> None:
    few, many = Ledger(), Ledger()
    x = make_image(60, 8)
    banded(tiny_model(name).encoder, x, 60, few)
    assert len(banded(tiny_model(name).encoder, x, 5, many)) > 5
    assert many.repeated > few.repeated or (name not in {"carn", "bsrn"} and many.repeated == 0)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_prepared_backbone_can_be_used_again(name: str) -> None:
    backbone = tiny_model(name).encoder
    prepared = prepare_backbone(backbone)
    with torch.inference_mode():
        for x in (make_image(20, 7), make_image(9, 12, seed=1), make_image(20, 7)):
            features = torch.cat([part.clone() for part in prepared.stream(x, Ledger())], dim=2)
            assert torch.allclose(features, backbone(x), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (15, 7), (40, 18)], ids=str)
@pytest.mark.parametrize("name", ORIGINALS)
def test_a_prepared_original_agrees(name: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "BAND_FLOATS", 1)
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(2)
        original = ORIGINALS[name](16).eval().requires_grad_(False)
        expected = original(make_image(*size))
        assert (prepared_original(original)(make_image(*size)) - expected).abs().max() <= 1e-4 * expected.abs().max()
