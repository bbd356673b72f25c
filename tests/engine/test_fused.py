"""A prepared model gives the results of the plain model."""

import copy
import gc
import weakref

import pytest
import torch

from pcsr_cli.engine.fused import PreparedModel, backbones, prepare
from pcsr_cli.engine.fused.rows import Ledger
from tests.tiny import BACKBONES, changeable_model, lowered, make_image, tiny_model


@pytest.mark.parametrize("backbone", BACKBONES)
def test_features_match_the_plain_model(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(backbone)
    monkeypatch.setattr(backbones, "BAND_FLOATS", 1)
    x = model.normalise(make_image(45, 10))
    with torch.inference_mode():
        bands = [band.clone() for band in PreparedModel(model).feature_bands(x, Ledger())]
        assert len(bands) > 1
        assert torch.allclose(torch.cat(bands, dim=2), model.features(x), atol=1e-5)


@pytest.mark.parametrize("branches", [2, 3])
def test_probabilities_match_the_softmax(branches: int) -> None:
    logits = torch.randn(50, branches, generator=torch.Generator().manual_seed(0))
    logits[:5, 1] = logits[:5, 0] + torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4])
    expected = logits.softmax(dim=1).T
    given = logits[:, 1:] - logits[:, :1] if branches == 2 else logits
    probabilities = PreparedModel(tiny_model("dense", branches)).probabilities(given.T)
    assert torch.allclose(probabilities, expected[1:] if branches == 2 else expected, atol=1e-6)


def test_each_preparation_uses_the_current_weights() -> None:
    # Validation changes weights in place between two runs.
    model, x = changeable_model("dense"), make_image(9, 9)
    with torch.inference_mode():
        before = torch.cat(list(PreparedModel(model).feature_bands(x, Ledger())), dim=2).clone()
        for parameter in model.parameters():
            parameter.mul_(2)
        after = torch.cat(list(PreparedModel(model).feature_bands(x, Ledger())), dim=2)
        assert not torch.allclose(before, after)
        assert torch.allclose(after, model.features(x), atol=1e-4)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_features_in_half_precision_are_close(backbone: str, dtype: torch.dtype) -> None:
    model, x = tiny_model(backbone), make_image(9, 9)
    with torch.inference_mode():
        features = torch.cat(list(PreparedModel(lowered(model, dtype)).feature_bands(x, Ledger())), dim=2)
        expected = model.features(x)
        assert features.dtype == dtype and model.dtype == expected.dtype == torch.float32
        assert (features - expected).abs().max() < 0.02 * expected.abs().max()


def test_a_prepared_model_is_kept_until_its_weights_or_precision_change() -> None:
    model = changeable_model("dense")
    first = prepare(model)
    assert prepare(model) is first
    assert prepare(copy.deepcopy(model)) is not first, "a copy starts without"
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    second = prepare(model)
    assert second is not first and prepare(model) is second
    model.dtype = torch.bfloat16
    assert prepare(model).dtype == torch.bfloat16


def test_a_kept_model_is_freed_with_its_model() -> None:
    model = changeable_model("dense")
    kept = weakref.ref(prepare(model))
    del model
    gc.collect()
    assert kept() is None
