"""Tiny networks whose every layer affects the output, and test images."""

import copy
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from pcsr_cli.engine.upscale import Outcome, Settings, upscale_whole
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.spec import BackboneSpec, ModelSpec

BACKBONES = ("carn", "fsrcnn", "srresnet", "dense", "bsrn")
LOCAL = BACKBONES[:4]
"""The backbones whose features depend on a limited part of the image."""

_TINY = {
    "carn": BackboneSpec("carn", 8),
    "fsrcnn": BackboneSpec("fsrcnn", 8),
    "srresnet": BackboneSpec("srresnet", 4),
    "dense": BackboneSpec("dense", 8, 2),
    "bsrn": BackboneSpec("bsrn", 16, 2),
}


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tiny_spec(backbone: str, branches: int = 2) -> ModelSpec:
    """The smallest spec of each backbone. Hidden sizes and normalisation differ between them."""
    samplers = ((4,), (6, 5), (8, 8, 8))[-branches:] if branches == 3 else ((4,), (8, 8, 8))
    classifier = {"carn": (5, 5), "fsrcnn": (), "bsrn": ()}.get(backbone, (6,))
    if backbone == "dense":
        return ModelSpec(_TINY[backbone], samplers, classifier, mean=(0.4, 0.5, 0.6), std=(0.25, 0.3, 0.2))
    mean = (0.4488, 0.4371, 0.4040) if backbone == "carn" else (0.0, 0.0, 0.0)
    return ModelSpec(_TINY[backbone], samplers, classifier, mean)


@cache
def tiny_model(backbone: str, branches: int = 2, seed: int = 0) -> Pcsr:
    """A random network. Its branches differ clearly and its classifier uses every branch. Do not modify it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Pcsr(tiny_spec(backbone, branches)).eval().requires_grad_(False)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 2.0)
    _spread_outputs(model)
    return model


def changeable_model(backbone: str, branches: int = 2) -> Pcsr:
    """A copy of ``tiny_model`` that a test may modify."""
    return copy.deepcopy(tiny_model(backbone, branches))


def lowered(model: Pcsr, dtype: torch.dtype) -> Pcsr:
    """A copy of a model whose backbone is computed in ``dtype``."""
    model = copy.deepcopy(model)
    model.dtype = dtype
    return model


def tiny_entry(name: str, where: str, licence: str = "MIT") -> str:
    """A registry's entry for a network of ``tiny_spec("fsrcnn")``. ``where`` has the lines that state its place."""
    return f"""
[models.{name}]
{where}
backbone = {{ name = "fsrcnn", width = 8 }}
samplers = [[4], [8, 8, 8]]
classifier = []
scales = [4]
receptive_radius = 6
licence = "{licence}"
source = "a test"
"""


def make_image(height: int, width: int, seed: int = 0) -> Tensor:
    """Noise with a smooth wave, (1, 3, height, width) in [0, 1]. No two regions are alike."""
    noise = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
    wave = torch.sin(torch.arange(height)[:, None] / 5 + torch.arange(width) / 7 + seed)
    return (0.6 * noise + 0.2 + 0.2 * wave).clamp(0, 1).float()


def _spread_outputs(model: Pcsr) -> None:
    """Rescale the MLPs: features dominate coordinates, outputs have mean 0, logits deviation 1, residuals 0.1."""
    features = model.features(model.normalise(make_image(24, 24, seed=99)))[0].flatten(1).T.repeat(4, 1)
    coordinates = torch.rand(len(features), 4, generator=torch.Generator().manual_seed(99)) * 2 - 1
    q = torch.cat((features, coordinates), dim=1)
    for network, spread in ((model.classifier, 1.0), *((sampler, 0.1) for sampler in model.samplers)):
        first, last = network.first, network.imnet.layers[-1]
        assert isinstance(last, nn.Linear)
        first.weight[:, : network.width].div_(features.std(dim=0).clamp(min=1e-3))
        first.weight[:, -2:].mul_(0.1)
        first.bias.sub_(first.weight[:, : network.width] @ features.mean(dim=0))
        outputs = network(q)
        scale = spread / outputs.std(dim=0).clamp(min=1e-3)
        last.weight.mul_(scale[:, None])
        last.bias.sub_(outputs.mean(dim=0)).mul_(scale)


@dataclass(frozen=True)
class Result:
    """A whole result: ``rgb`` (3, H, W), not clamped, and ``labels`` (H, W)."""

    rgb: Tensor
    labels: Tensor


def upscaled(model: Pcsr, lr: Tensor, scale: float, settings: Settings) -> tuple[Result, Outcome]:
    """The result of an upscale as float32, and its outcome."""
    rgb, labels, outcome = upscale_whole(model, lr, scale, settings)
    return Result(rgb.permute(2, 0, 1), labels), outcome
