"""Checkpoint files to networks: strict about keys and shapes, and never executing anything.

Reads a folder or a ``.safetensors`` with its ``config.json``, and the authors' ``.pth`` (a dict whose ``model`` holds
constructor arguments and state dict), the latter with ``weights_only=True``.
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pcsr_cli.errors import ModelError
from pcsr_cli.model import Pcsr
from pcsr_cli.specs import ModelSpec, Scales, parse_config, write_config

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A model as read from files; ``scales`` is None where they do not tell."""

    spec: ModelSpec
    scales: Scales | None
    state: Mapping[str, Tensor]
    weights: Path


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a folder, a ``.safetensors`` with its config beside it, or a published ``.pth``. Raises ModelError."""
    if path.is_dir():
        return read_safetensors(path / CONFIG_NAME, path / WEIGHTS_NAME)
    if path.suffix == ".safetensors":
        own = path.with_suffix(".json")
        return read_safetensors(own if own.is_file() else path.with_name(CONFIG_NAME), path)
    if path.suffix in {".pth", ".pt"}:
        return read_pth(path)
    raise ModelError(f"{path} is no model.", "Give a folder with config.json, a .safetensors or a .pth.")


def read_safetensors(config: Path, weights: Path) -> Checkpoint:
    """Read a ``config.json`` and the ``.safetensors`` it belongs to. Raises ModelError."""
    try:
        decoded = json.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{config} cannot be read: {error.strerror}.", "It has to lie with the weights.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{config} is not valid JSON: {error}.") from error
    spec, scales = parse_config(decoded, str(config))
    if not weights.is_file():
        raise ModelError(f"{weights} is missing.")
    try:
        state = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{weights} is no whole safetensors file: {error}.", "Fetch or copy it again.") from error
    return Checkpoint(spec, scales, state, weights)


def read_pth(path: Path) -> Checkpoint:
    """Read a published ``.pth``; pickles that hold more than tensors and plain values are refused. ModelError."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors, or is damaged, and was not opened.",
            "Only files that weights_only loading accepts are safe to read.",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{path} is no readable PyTorch checkpoint.") from error
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("args"), dict) or not isinstance(model.get("sd"), dict):
        raise ModelError(f"{path} is not laid out as a published PCSR checkpoint (model: name, args, sd).")
    spec, scales = parse_config(model["args"], f"{path}: args")
    state = model["sd"]
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise ModelError(f"{path}: its state dict holds more than named tensors.")
    return Checkpoint(spec, scales, state, path)


def build_model(checkpoint: Checkpoint) -> Pcsr:
    """The network with its weights, in float32 on the CPU, ready to evaluate. Raises ModelError."""
    with torch.device("meta"):
        model = Pcsr(checkpoint.spec)
    load_strictly(model, checkpoint.state, str(checkpoint.weights))
    return model.eval().requires_grad_(False)


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Give a network its weights; every key and shape has to fit, every number has to be finite.

    Works on networks built on the meta device. Raises ModelError naming missing, unexpected and misshapen keys.
    """
    wanted = network.state_dict()
    missing = sorted(set(wanted) - set(state))
    unexpected = sorted(set(state) - set(wanted))
    misshapen = sorted(key for key in set(wanted) & set(state) if wanted[key].shape != state[key].shape)
    complaints = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    told = "; ".join(f"{what}: {_listed(keys)}" for what, keys in complaints.items() if keys)
    if told:
        raise ModelError(f"{origin} does not fit its config: keys {told}.", "Check that the two belong together.")
    broken = sorted(key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all())
    if broken:
        raise ModelError(f"{origin} holds numbers that are not finite: {_listed(broken)}.", "Fetch or train it again.")
    fitting = {key: value.to(wanted[key].dtype) for key, value in state.items()}
    network.load_state_dict(fitting, strict=True, assign=True)


def save_folder(model: Pcsr, scales: Scales, folder: Path) -> None:
    """Write config.json and model.safetensors that ``read_checkpoint`` reads back. Raises ModelError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / WEIGHTS_NAME)
        config = json.dumps(write_config(model.spec, scales), indent=2) + "\n"
        (folder / CONFIG_NAME).write_text(config, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The model cannot be written to {folder}: {error}.") from error


def _listed(keys: list[str], most: int = 8) -> str:
    rest = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + rest
