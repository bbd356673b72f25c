"""FLOPs of a whole upscale, in the paper's convention and as executed, in closed form.

The paper counts the backbone once, and at every HR pixel the classifier and one sampler. The executed FLOPs differ from
the paper's count: the HR pixels of an LR pixel share the first layers, and tile halos, refinement rings and second
passes are extra work."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest

import torch

from pcsr_cli.model.backbones import ORIGINALS
from pcsr_cli.model.layers import Cost
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.sampler import PixelSampler
from pcsr_cli.model.spec import ModelSpec

GIGA = 1e9
ORIGINAL_SCALE = 4
"""The scale of the original networks. PCSR is compared with the original networks at this scale only."""


@dataclass(frozen=True)
class ModelCosts:
    """FLOPs per pixel: per LR pixel for the backbone and the shared first layers, per HR pixel for the rest.

    ``branches`` and ``branches_shared`` have one entry for each sampler, lightest first."""

    backbone: Cost
    classifier: Cost
    classifier_shared: Cost
    branches: tuple[Cost, ...]
    branches_shared: tuple[Cost, ...]

    def routed(self, scale: float) -> tuple[float, ...]:
        """The cost of backbone plus branch for one HR pixel at ``scale``, in the paper's convention. k weighs these
        costs."""
        return tuple(self.backbone.paper / scale**2 + branch.paper for branch in self.branches)


@dataclass(frozen=True)
class Executed:
    """The number of pixels that each part computed, including halos, rings and second passes.

    ``branches_shared`` and ``branches`` have one entry for each sampler. ``repeated`` counts FLOPs, not pixels: the
    work that the backbone repeated at the edges of its bands, and its layers at a lower resolution."""

    backbone: int = 0
    classifier_shared: int = 0
    classifier: int = 0
    branches_shared: tuple[int, ...] = ()
    branches: tuple[int, ...] = ()
    repeated: int = 0

    def __add__(self, other: "Executed") -> "Executed":
        return Executed(
            self.backbone + other.backbone,
            self.classifier_shared + other.classifier_shared,
            self.classifier + other.classifier,
            _added(self.branches_shared, other.branches_shared),
            _added(self.branches, other.branches),
            self.repeated + other.repeated,
        )


def _added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(sum, zip_longest(one, other, fillvalue=0)))


def model_costs(model: Pcsr) -> ModelCosts:
    """The costs of a model's parts. With two branches, the executed classifier has one logit: the difference of the two
    logits."""
    return _costs(model.spec)


@lru_cache(maxsize=16)
def _costs(spec: ModelSpec) -> ModelCosts:
    with torch.device("meta"):
        model = Pcsr(spec)
        paper = executed = model.classifier
        if spec.branches == 2:
            executed = PixelSampler(paper.width, spec.classifier, outputs=1)
    return ModelCosts(
        backbone=model.encoder.cost(),
        classifier=Cost(paper.pixel_cost().paper, executed.pixel_cost().executed),
        classifier_shared=executed.shared_cost(),
        branches=tuple(sampler.pixel_cost() for sampler in model.samplers),
        branches_shared=tuple(sampler.shared_cost() for sampler in model.samplers),
    )


def paper_flops(costs: ModelCosts, lr_pixels: int, branch_pixels: Sequence[int]) -> float:
    """FLOPs in the paper's convention, given the number of HR pixels of each branch."""
    sampling = sum(cost.paper * count for cost, count in zip(costs.branches, branch_pixels, strict=True))
    return costs.backbone.paper * lr_pixels + costs.classifier.paper * sum(branch_pixels) + sampling


def executed_flops(costs: ModelCosts, executed: Executed) -> float:
    """Executed FLOPs, given the number of pixels that each part computed."""
    parts = ((costs.branches_shared, executed.branches_shared), (costs.branches, executed.branches))
    sampling = sum(cost.executed * count for part in parts for cost, count in zip(*part, strict=True))
    return (
        costs.backbone.executed * executed.backbone
        + costs.classifier_shared.executed * executed.classifier_shared
        + costs.classifier.executed * executed.classifier
        + sampling
        + executed.repeated
    )


def original_flops(name: str | None, scale: float, lr_pixels: int) -> Cost | None:
    """FLOPs of an original network for ``lr_pixels``; None if the network is unknown or does not support the scale."""
    if name is None or name not in ORIGINALS or scale != ORIGINAL_SCALE:
        return None
    with torch.device("meta"):
        return ORIGINALS[name]().cost() * lr_pixels
