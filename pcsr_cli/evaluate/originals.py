"""The original x4 networks with weights of their own, to compare with. No weights of theirs come with pcsr."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsr_cli.engine.device import as_lr, full_float32, to_levels, to_numbers
from pcsr_cli.errors import ModelError
from pcsr_cli.images.files import is_file
from pcsr_cli.model.backbones import ORIGINALS, Original
from pcsr_cli.model.checkpoint import load_pickle, load_safetensors, load_strictly
from pcsr_cli.model.layers import Cost
from pcsr_cli.model.spec import DEFAULT_MEANS, NO_MEAN


@dataclass(frozen=True)
class LoadedOriginal:
    """An original network ready to run; ``mean`` is what it subtracts from RGB in [0, 1]."""

    name: str
    network: Original
    mean: tuple[float, float, float]

    def cost(self, lr_pixels: int) -> Cost:
        """FLOPs for a picture."""
        return self.network.cost() * lr_pixels

    @torch.inference_mode()
    def upscale(self, lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Enlarge (h, w, 3) uint8 RGB to (4h, 4w, 3), the whole picture at once."""
        device = next(self.network.parameters()).device
        mean = torch.tensor(self.mean, device=device).view(1, 3, 1, 1)
        x = to_numbers(as_lr(lr).to(device))
        with full_float32(x.device):
            rgb = self.network(x - mean)[0] + mean[0]
        levels: NDArray[np.uint8] = to_levels(rgb, torch.uint8).permute(1, 2, 0).cpu().numpy()
        return np.ascontiguousarray(levels)


def load_original(path: Path, device: torch.device) -> LoadedOriginal:
    """Read a ``.safetensors`` or ``.pth`` of CARN, FSRCNN or SRResNet at x4; which one it is, its keys tell.

    A ``.pth`` holds the state dict, or as PCSR's authors publish it ``model: sd``. Raises ModelError.
    """
    state = _read_state(path)
    for name, network_class in ORIGINALS.items():
        with torch.device("meta"):
            network = network_class()
        if set(network.state_dict()) == set(state):
            load_strictly(network, state, str(path))
            mean = DEFAULT_MEANS.get(name, NO_MEAN)
            return LoadedOriginal(name, network.eval().requires_grad_(False).to(device), mean)
    known = ", ".join(ORIGINALS)
    raise ModelError(f"{path} holds none of the original networks.", f"Known at x4: {known}.")


def _read_state(path: Path) -> dict[str, Tensor]:
    if not is_file(path):
        raise ModelError(f"There is no file {path}.", "Check the path.")
    content = load_safetensors(path) if path.suffix == ".safetensors" else load_pickle(path)
    model = content.get("model") if isinstance(content, dict) else None
    state = model.get("sd") if isinstance(model, dict) else content
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no state dict.", "Give the original network's weights.")
    return state
