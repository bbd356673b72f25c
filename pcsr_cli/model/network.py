"""The PCSR network: backbone, classifier, and one sampler for each branch (spec: Jeong et al., ECCV 2024, section 3).

This module is the readable definition. The engine computes the same numbers faster, because the HR pixels of an LR
pixel share the samplers' first layers."""

import torch
from torch import Tensor, nn

from pcsr_cli.model.backbones import build_backbone
from pcsr_cli.model.sampler import PixelSampler
from pcsr_cli.model.spec import ModelSpec, sampler_names


class Kept:
    """A ``value`` that is computed from the weights of a network and stored in the network. ``made_from`` identifies
    the weights.

    A copy of the network starts without the value."""

    def __init__(self) -> None:
        self.made_from: object = None
        self.value: object = None

    def __reduce__(self) -> tuple[type["Kept"], tuple[()]]:
        return Kept, ()


class Pcsr(nn.Module):
    """A PCSR network with M samplers. The attributes have the names of the published state dicts.

    ``dtype`` is the precision in which the engine computes the backbone. The weights and all other parts stay in
    float32."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.dtype = torch.float32
        self.kept = Kept()
        self.encoder = build_backbone(spec.backbone)
        width = spec.backbone.width
        for name, hidden in zip(sampler_names(spec.branches), spec.samplers, strict=True):
            self.add_module(name, PixelSampler(width, hidden, outputs=3))
        self.classifier = PixelSampler(width, spec.classifier, outputs=spec.branches)

    @property
    def samplers(self) -> tuple[PixelSampler, ...]:
        """The samplers, lightest first."""
        found = [self.get_submodule(name) for name in sampler_names(self.spec.branches)]
        return tuple(sampler for sampler in found if isinstance(sampler, PixelSampler))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.classifier.first.weight.device

    @property
    def precision(self) -> str:
        """The name of ``dtype``, such as ``float32``."""
        return str(self.dtype).removeprefix("torch.")

    def parameter_count(self) -> int:
        """The number of trained parameters, without BatchNorm statistics."""
        return sum(parameter.numel() for parameter in self.parameters())

    def normalise(self, x: Tensor) -> Tensor:
        """Convert RGB (n, 3, h, w) in [0, 1] to the network's units, (x - mean) / std, in float32."""
        normalised = x.to(torch.float32, copy=True)
        for channel, mean, std in zip(normalised.unbind(1), self.spec.mean, self.spec.std, strict=True):
            channel.sub_(mean).div_(std)
        return normalised

    def features(self, x: Tensor) -> Tensor:
        """Compute the backbone's features (n, C, h, w) of normalised input (n, 3, h, w), in the weights' precision."""
        features: Tensor = self.encoder(x)
        return features
