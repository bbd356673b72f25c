"""The measured networks: models by name, and two networks whose weights are not published."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pcsr_cli.api import load_model
from pcsr_cli.engine.routing import DifficultySurvey
from pcsr_cli.engine.rules import Threshold, usual_refine
from pcsr_cli.engine.upscale import Settings, survey_difficulties
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.spec import BackboneSpec, ModelSpec

HEAVY_SHARE = 0.4
"""Share of heavy pixels for random weights, about that of CARN at threshold 0.5."""

UNPUBLISHED = {
    "fsrcnn": ModelSpec(BackboneSpec("fsrcnn", 48), ((10, 10, 10), (58, 58, 58, 58)), ()),
    "srresnet": ModelSpec(BackboneSpec("srresnet", 58), ((40, 40, 40), (170, 170, 170, 170)), (20, 20)),
}
"""The paper's other two networks (section 4.1)."""


@dataclass(frozen=True)
class Measured:
    """A network, its cut, and a description of its weights."""

    network: Pcsr
    threshold: Threshold
    weights: str


def measured_network(name: str, lr: Tensor) -> Measured:
    """Return a network by name. The networks in UNPUBLISHED have random weights.

    Their cut makes HEAVY_SHARE of the pixels of ``lr`` (1, 3, h, w) heavy, because time depends on the routing.
    """
    if name not in UNPUBLISHED:
        return Measured(load_model(name).network, Threshold(), "trained")
    torch.manual_seed(0)
    network = Pcsr(UNPUBLISHED[name]).eval().requires_grad_(False)
    survey = DifficultySurvey(16 * lr.shape[2] * lr.shape[3])
    survey_difficulties(network, lr, 4, Settings(refine=usual_refine(4)), survey)
    cut = torch.from_numpy(survey.values().numpy()).kthvalue(round((1 - HEAVY_SHARE) * survey.filled)).values
    return Measured(network, Threshold(float(cut)), f"random, {HEAVY_SHARE:.0%} of the pixels heavy by its cut")
