"""The methods that ``pcsr bench`` compares, patch routing, and the original networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsr_cli.engine.device import as_lr, full_float32, to_levels, to_numbers
from pcsr_cli.engine.fused.originals import prepared_original
from pcsr_cli.errors import ModelError
from pcsr_cli.images.files import is_file
from pcsr_cli.model.backbones import ORIGINALS, Original
from pcsr_cli.model.checkpoint import load_pickle, load_safetensors, load_strictly
from pcsr_cli.model.layers import Cost
from pcsr_cli.model.spec import DEFAULT_MEANS, NO_MEAN


def patch_mask(difficulty: Tensor, side: int, heavy: int) -> Tensor:
    """Return the heavy pixels, (H, W) bool, if whole patches are routed by their mean p_heavy.

    ``difficulty`` is (H, W), ``side`` the side of a patch in HR pixels. The patches with the highest mean are heavy,
    the last one only in its upper part, so that exactly ``heavy`` pixels are heavy.
    """
    height, width = difficulty.shape
    across = -(-width // side)
    patch = (torch.arange(height) // side)[:, None] * across + torch.arange(width) // side
    count = torch.bincount(patch.view(-1))
    mean = torch.bincount(patch.view(-1), weights=difficulty.reshape(-1).double()) / count
    rank = torch.empty_like(count)
    rank[mean.argsort(descending=True, stable=True)] = torch.arange(len(count))
    order = rank[patch.view(-1)].argsort(stable=True)
    mask = torch.zeros(height * width, dtype=torch.bool)
    mask[order[:heavy]] = True
    return mask.view(height, width)


@dataclass(frozen=True)
class LoadedOriginal:
    """An original x4 network with its weights. ``mean`` is subtracted from RGB in [0, 1]."""

    name: str
    network: Original
    mean: tuple[float, float, float]

    def cost(self, lr_pixels: int) -> Cost:
        """Return the FLOPs for an image."""
        return self.network.cost() * lr_pixels

    @cached_property
    def _prepared(self) -> Callable[[Tensor], Tensor]:
        return prepared_original(self.network)

    @torch.inference_mode()
    def upscale(self, lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Upscale (h, w, 3) uint8 RGB to (4h, 4w, 3), as a whole."""
        device = next(self.network.parameters()).device
        mean = torch.tensor(self.mean, device=device).view(1, 3, 1, 1)
        x = to_numbers(as_lr(lr).to(device)) - mean
        with full_float32(x.device):
            rgb = (self._prepared if device.type == "cpu" else self.network)(x)[0] + mean[0]
        values: NDArray[np.uint8] = to_levels(rgb, torch.uint8).permute(1, 2, 0).cpu().numpy()
        return np.ascontiguousarray(values)


def load_state(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a ``.safetensors`` or ``.pth`` by name.

    A ``.pth`` contains the state dict, ``{"params": state dict}`` as published for BSRN, or ``{"model": {"sd": state
    dict}}`` as published by PCSR's authors. Raises ModelError.
    """
    if not is_file(path):
        raise ModelError(f"{path} does not exist.", "Check the path.")
    if path.suffix == ".safetensors":
        return load_safetensors(path)
    content = load_pickle(path)
    for keys in (("params",), ("model", "sd")):
        inner = content
        for key in keys:
            inner = inner.get(key) if isinstance(inner, dict) else None
        content = content if inner is None else inner
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{path} contains no state dict.", "Give the weights of the network.")
    return content


def load_original(path: Path, device: torch.device) -> LoadedOriginal:
    """Load a ``.safetensors`` or ``.pth`` of CARN, FSRCNN, SRResNet or BSRN at x4. The keys identify the network.

    Raises ModelError.
    """
    state = load_state(path)
    for name, network_class in ORIGINALS.items():
        with torch.device("meta"):
            network = network_class()
        if set(network.state_dict()) == set(state):
            load_strictly(network, state, str(path))
            mean = DEFAULT_MEANS.get(name, NO_MEAN)
            return LoadedOriginal(name, network.eval().requires_grad_(False).to(device), mean)
    raise ModelError(f"{path} contains none of the original networks.", f"Supported at x4: {', '.join(ORIGINALS)}.")
