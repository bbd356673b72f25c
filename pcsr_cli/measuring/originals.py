"""The original x4 networks with weights of their own, to compare with. No weights of theirs come with pcsr."""

import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pcsr_cli.checkpoint import load_strictly
from pcsr_cli.costs import Cost
from pcsr_cli.failures import models
from pcsr_cli.nets import ORIGINALS, Original
from pcsr_cli.specs import DEFAULT_MEANS, NO_MEAN


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
        x = torch.from_numpy(lr.copy()).to(device).permute(2, 0, 1)[None].float() / 255
        rgb = self.network(x - mean)[0] + mean[0]
        levels: NDArray[np.uint8] = rgb.mul(255).round_().clamp_(0, 255).permute(1, 2, 0).byte().cpu().numpy()
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
    raise models.NO_ORIGINAL(path=path, known=", ".join(ORIGINALS))


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise models.NO_FILE(path=path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd pickles, which are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, OSError, EOFError, KeyError) as error:
        raise models.NO_CHECKPOINT(path=path) from error
    model = content.get("model") if isinstance(content, dict) else None
    state = model.get("sd") if isinstance(model, dict) else content
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise models.NO_STATE_DICT(path=path)
    return state
