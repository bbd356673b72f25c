"""The parts of a network and their units."""

import pytest
import torch

from pcsr_cli.model.network import Pcsr
from tests.tiny import BACKBONES, tiny_model, tiny_spec


@pytest.mark.parametrize("branches", [2, 3])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_parts_have_the_published_names(backbone: str, branches: int) -> None:
    prefixes = {key.split(".")[0] for key in tiny_model(backbone, branches).state_dict()}
    middle = {"middle_sampler_1"} if branches == 3 else set()
    assert prefixes == {"encoder", "light_sampler", "heavy_sampler", "classifier"} | middle


def test_samplers_are_ordered_lightest_first() -> None:
    model = tiny_model("carn", branches=3)
    assert [sampler.sizes[1:-1] for sampler in model.samplers] == list(tiny_spec("carn", 3).samplers)
    assert model.samplers[0] is model.get_submodule("light_sampler")
    assert model.samplers[-1] is model.get_submodule("heavy_sampler")


@pytest.mark.parametrize("branches", [2, 3])
def test_the_classifier_has_a_logit_for_every_branch(branches: int) -> None:
    assert tiny_model("srresnet", branches).classifier.sizes[-1] == branches


def test_normalising_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    model = tiny_model("dense")
    grey = torch.tensor(model.spec.mean).view(1, 3, 1, 1)
    spread = torch.tensor(model.spec.std).view(1, 3, 1, 1)
    assert torch.equal(model.normalise(grey), torch.zeros(1, 3, 1, 1))
    assert torch.allclose(model.normalise(grey + spread), torch.ones(1, 3, 1, 1), atol=1e-6)


def test_the_device_is_that_of_the_weights() -> None:
    with torch.device("meta"):
        assert Pcsr(tiny_spec("carn")).device == torch.device("meta")
    assert tiny_model("carn").device == torch.device("cpu")
