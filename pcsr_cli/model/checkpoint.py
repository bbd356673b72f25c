"""Checkpoint files to networks: strict about keys and shapes, and never executing anything.

Reads a folder or a ``.safetensors`` with its ``config.json``, and the authors' ``.pth`` (a dict whose ``model`` holds
constructor arguments and state dict), the latter with ``weights_only=True``.
"""

import contextlib
import json
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pcsr_cli.errors import ModelError, OutputError
from pcsr_cli.images.files import atomic_write, exists, is_file, is_folder
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.spec import ModelSpec, Scales, parse_config, write_config

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
    if is_folder(path):
        return read_safetensors(path / CONFIG_NAME, path / WEIGHTS_NAME)
    if path.suffix == ".safetensors":
        own = path.with_suffix(".json")
        return read_safetensors(own if is_file(own) else path.with_name(CONFIG_NAME), path)
    if path.suffix in {".pth", ".pt"}:
        return read_pth(path)
    raise ModelError(f"{path} is no model.", "Give a folder with config.json, a .safetensors or a .pth.")


def read_safetensors(config: Path, weights: Path) -> Checkpoint:
    """Read a ``config.json`` and the ``.safetensors`` it belongs to. Raises ModelError."""
    try:
        decoded = json.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{config} cannot be read: {error.strerror}.", "It has to lie with the weights.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{config} is not valid JSON: {error}.", "Fetch or copy it again.") from error
    spec, scales = parse_config(decoded, str(config))
    if not is_file(weights):
        raise ModelError(f"{weights} is missing.", "It has to lie with its config.json.")
    return Checkpoint(spec, scales, load_safetensors(weights), weights)


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` by name. Raises ModelError."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is no whole safetensors file: {error}.", "Fetch or copy it again.") from error


def load_pickle(path: Path) -> object:
    """What PyTorch has saved in a file: tensors and plain values, else it is refused. Raises ModelError."""
    if not is_file(path):
        raise ModelError(f"There is no file {path}.", "Check the path.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd pickles and TorchScript archives, which are refused anyway
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors, or is damaged, and was not opened.",
            "Only files that weights_only loading accepts are safe to read.",
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file trips the reader anywhere
        raise ModelError(f"{path} is no readable PyTorch checkpoint.", "Fetch or copy it again.") from error
    return content


def read_pth(path: Path) -> Checkpoint:
    """Read a published ``.pth``. Raises ModelError."""
    content = load_pickle(path)
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("args"), dict) or not isinstance(model.get("sd"), dict):
        raise ModelError(
            f"{path} is not laid out as a published PCSR checkpoint (model: name, args, sd).",
            "Give a .pth as its authors publish it, or a folder with config.json and model.safetensors.",
        )
    spec, scales = parse_config(model["args"], f"{path}: args")
    state = model["sd"]
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise ModelError(f"{path}: its state dict holds more than named tensors.", "Fetch or copy it again.")
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
    fitting = {key: _plain(value, wanted[key].dtype, f"{origin}: {key}") for key, value in state.items()}
    broken = sorted(key for key, value in fitting.items() if not value.isfinite().all())
    if broken:
        raise ModelError(f"{origin} holds numbers that are not finite: {_listed(broken)}.", "Fetch or train it again.")
    network.load_state_dict(fitting, strict=True, assign=True)


def _plain(value: Tensor, dtype: torch.dtype, origin: str) -> Tensor:
    """A tensor as the network wants it, from any precision. Raises ModelError for other kinds of tensors."""
    usual = value.layout == torch.strided and not value.is_quantized and not value.is_meta
    if not usual or value.is_floating_point() != dtype.is_floating_point or value.is_complex():
        raise ModelError(f"{origin} is not an ordinary tensor of {dtype}.", "Fetch or train it again.")
    return value.detach().to(dtype)


def save_folder(model: Pcsr, scales: Scales, folder: Path, replace: bool = True) -> None:
    """Write config.json and model.safetensors that ``read_checkpoint`` reads back, both or neither.

    Raises OutputError, and without ``replace`` RefusedOutputError where one is there."""
    config = json.dumps(write_config(model.spec, scales), indent=2) + "\n"
    state = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in model.state_dict().items()
    }
    with (
        _folder(folder),
        atomic_write(folder / CONFIG_NAME, replace) as text,
        atomic_write(folder / WEIGHTS_NAME, replace) as weights,
    ):
        weights.write_bytes(save(state))
        text.write_text(config, encoding="utf-8")


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """A folder to write into; made if need be, and then removed again if what is inside fails."""
    made = [parent for parent in (folder, *folder.parents) if not exists(parent)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error.strerror}.", "Choose another.") from error
    try:
        yield
    except BaseException:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def _listed(keys: list[str], most: int = 8) -> str:
    rest = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + rest
