"""Read checkpoint files and build networks from them, strictly and without executing any code in them.

The formats are a folder or a ``.safetensors`` file with its ``config.json``, and the authors' ``.pth``: a dict whose
``model`` holds constructor arguments and a state dict, loaded with ``weights_only=True``."""

import contextlib
import hashlib
import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from pcsr_cli.errors import ModelError
from pcsr_cli.images.files import (
    already_exists,
    atomic_write,
    exists,
    follow_links,
    is_file,
    is_folder,
    make_folder,
    read_bytes,
    read_text,
    reason,
)
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.spec import ModelSpec, Scales, parse_config, write_config

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CONFIG_KEY = "pcsr_config"
"""The key in the metadata of a safetensors file under which ``save_folder`` stores a copy of the config."""

MAX_LISTED_KEYS = 8

MAX_WEIGHTS = 2**30
"""Maximum bytes of a file of weights or of a training state, and of the weights of a network. pcsr reads the whole file
at once, so later changes of the file have no effect."""

MAX_HEADER = 2**22
"""Maximum bytes of the header of a file of weights. A header of the maximum size lists about 50,000 tensors."""

COPYING = (b"bytearray\n", b"_codecs\n")
"""Names in a pickle that fill memory with zeros or copies. torch.load permits these names, but no checkpoint needs
them."""


@dataclass(frozen=True)
class Checkpoint:
    """A model read from files. ``scales`` is None if the files do not list any. ``sha256`` is the hash of
    ``weights``."""

    spec: ModelSpec
    scales: Scales | None
    state: Mapping[str, Tensor]
    weights: Path
    sha256: str


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a folder, a ``.safetensors`` with its config beside it, or a published ``.pth``. Raises ModelError."""
    if is_folder(path):
        return read_safetensors(path / CONFIG_NAME, path / WEIGHTS_NAME)
    if path.suffix == ".safetensors":
        own = path.with_suffix(".json")
        return read_safetensors(own if is_file(own) else path.with_name(CONFIG_NAME), path)
    if path.suffix in {".pth", ".pt"}:
        return read_pth(path)
    raise ModelError(f"{path} is not a model.", "Use a folder with config.json, a .safetensors or a .pth.")


def read_safetensors(config: Path, weights: Path) -> Checkpoint:
    """Read a ``config.json`` and its ``.safetensors``. Raises ModelError.

    If ``config.json`` is missing, the copy in the metadata of the weights is used."""
    content = _read_weights(weights) if is_file(weights) else None
    try:
        stored = None if content is None or exists(config) else _stored_config(content)
        decoded = json.loads(stored or read_text(config))
    except OSError as error:
        raise ModelError(f"Cannot read {config}: {reason(error)}.", "Put the config beside the weights.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{config} is not valid JSON: {reason(error)}.", "Fetch or copy the file again.") from error
    spec, scales = parse_config(decoded, str(config))
    if content is None:
        raise ModelError(f"{weights} is missing.", "Put the weights beside their config.json.")
    return Checkpoint(spec, scales, _parse_safetensors(content, weights), weights, _sha256(content))


def _read_weights(path: Path) -> bytes:
    try:
        return read_bytes(path, MAX_WEIGHTS)
    except OSError as error:
        raise ModelError(f"Cannot read {path}: {reason(error)}.", "Check the path.") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` by name. Raises ModelError."""
    return _parse_safetensors(_read_weights(path), path)


def _parse_safetensors(content: bytes, path: Path) -> dict[str, Tensor]:
    try:
        _header(content)
        return load(content)
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{path} is not a complete safetensors file: {error}.", "Fetch the file again.") from error


def _header(content: bytes) -> bytes:
    """The JSON header of a safetensors file. Raises ValueError for a header that is too long."""
    length = int.from_bytes(content[:8], "little")
    if length > MAX_HEADER:
        raise ValueError(f"the header has {length:,} bytes, more than the limit of {MAX_HEADER:,}")
    return content[8 : 8 + length]


def _stored_config(content: bytes) -> str | None:
    """The copy of the config in the weights, for example after a killed ``save_folder``."""
    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        stored = json.loads(_header(content)).get("__metadata__", {}).get(CONFIG_KEY)
        return stored if isinstance(stored, str) else None
    return None


def load_pickle(path: Path) -> object:
    """The tensors and plain values that PyTorch saved in a file. Raises ModelError for all other content."""
    return _parse_pickle(_read_weights(path), path)


def _parse_pickle(content: bytes, path: Path) -> object:
    try:
        if bomb := _find_bomb(content):
            raise ModelError(f"{path} is not a readable PyTorch checkpoint: {bomb}.", "Save it again with torch.save.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about unusual pickles and TorchScript, and then refuses them
            parsed: object = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} is damaged or contains more than tensors, and was not opened.",
            "Use a file that torch.load accepts with weights_only=True.",
        ) from error
    except (MemoryError, ModelError):
        raise
    except Exception as error:  # torch.load raises many types for damaged files
        raise ModelError(f"{path} is not a readable PyTorch checkpoint.", "Fetch or copy the file again.") from error
    return parsed


def _find_bomb(content: bytes) -> str | None:
    """Return why a file needs far more memory than its size, or None if the file does not. torch.save never writes such
    files.

    A bomb has compressed or overlapping entries, or a long pickle. The objects of a pickle can be larger than their
    codes. Files of torch before 1.6 are a pickle followed by the numbers."""
    pickled = len(content) - 3 * MAX_HEADER
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            return "its archive is compressed"
        if sum(entry.file_size for entry in entries) > len(content):
            return "the entries of its archive overlap"
        pickled = sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl"))
    if pickled > MAX_HEADER:
        return "it is too long for the tensors that it lists"
    return "its pickle copies data" if any(name in content for name in COPYING) else None


def read_pth(path: Path) -> Checkpoint:
    """Read a published ``.pth``. Raises ModelError."""
    weights = _read_weights(path)
    content = _parse_pickle(weights, path)
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("args"), dict) or not isinstance(model.get("sd"), dict):
        raise ModelError(
            f"{path} does not have the layout of a published PCSR checkpoint (model: name, args, sd).",
            "Use a .pth of the authors, or a folder with config.json and model.safetensors.",
        )
    spec, scales = parse_config(model["args"], f"{path}: args")
    state = model["sd"]
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise ModelError(f"{path}: the state dict contains more than named tensors.", "Fetch or copy the file again.")
    return Checkpoint(spec, scales, state, path, _sha256(weights))


def build_model(checkpoint: Checkpoint) -> Pcsr:
    """The network with its weights, in float32 on the CPU and in evaluation mode. Raises ModelError."""
    with torch.device("meta"):
        model = Pcsr(checkpoint.spec)
    load_strictly(model, checkpoint.state, str(checkpoint.weights))
    return model.eval().requires_grad_(False)


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], origin: str, wanted_by: str = "its config") -> None:
    """Load weights into a network, which may be on the meta device. ``wanted_by`` is the name, in errors, of the config
    or the method that requires the keys.

    Raises ModelError for a network that is too large, and for keys that are missing, unexpected, of another shape or
    not finite. The error names these keys."""
    wanted = network.state_dict()
    size = sum(value.nbytes for value in wanted.values())
    if size > MAX_WEIGHTS:  # a small .pth can hold tensors of any shape whose elements share memory
        raise ModelError(
            f"{origin} describes weights of {size:,} bytes, more than the limit of {MAX_WEIGHTS:,}.",
            "Use a smaller network.",
        )
    problems = {
        "missing": sorted(set(wanted) - set(state)),
        "unexpected": sorted(set(state) - set(wanted)),
        "wrong shape": sorted(key for key in set(wanted) & set(state) if wanted[key].shape != state[key].shape),
    }
    message = "; ".join(f"{problem}: {_listed(keys)}" for problem, keys in problems.items() if keys)
    if message:
        raise ModelError(f"{origin} does not fit {wanted_by}: {message}.", f"Use the weights of {wanted_by}.")
    fitting = {key: _converted(value, wanted[key].dtype, f"{origin}: {key}") for key, value in state.items()}
    broken = sorted(key for key, value in fitting.items() if not value.isfinite().all())
    if broken:
        raise ModelError(
            f"{origin} contains infinite or NaN values: {_listed(broken)}.", "Fetch or train the model again."
        )
    network.load_state_dict(fitting, strict=True, assign=True)


def _converted(value: Tensor, dtype: torch.dtype, origin: str) -> Tensor:
    """A dense tensor in the network's precision. Raises ModelError for other kinds of tensors."""
    dense = value.layout == torch.strided and not value.is_quantized and not value.is_meta
    if not dense or value.is_floating_point() != dtype.is_floating_point or value.is_complex():
        raise ModelError(f"{origin} is not a dense tensor of {dtype}.", "Fetch or train the model again.")
    return value.detach().to(dtype)


def _listed(keys: list[str]) -> str:
    rest = f" and {len(keys) - MAX_LISTED_KEYS} more" if len(keys) > MAX_LISTED_KEYS else ""
    return ", ".join(keys[:MAX_LISTED_KEYS]) + rest


def save_folder(model: Pcsr, scales: Scales, folder: Path, replace: bool = True) -> None:
    """Write config.json and model.safetensors for ``read_checkpoint``, both or neither.

    Even if the process is killed, the folder holds the complete old or the complete new model: the weights contain a
    copy of the config, and an old config.json is removed before the weights are replaced. Raises OutputError, and
    RefusedOutputError if a file exists and ``replace`` is false."""
    config = json.dumps(write_config(model.spec, scales), indent=2) + "\n"
    state = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in model.state_dict().items()
    }
    config_path, weights_path = folder / CONFIG_NAME, folder / WEIGHTS_NAME
    for path in (config_path, weights_path):
        if exists(path) and not replace:
            raise already_exists(path)
    # At the end of the block, the weights are written first.
    with _folder(folder), atomic_write(config_path, replace) as text, atomic_write(weights_path, replace) as weights:
        text.write_text(config, encoding="utf-8")
        weights.write_bytes(save(state, {"format": "pt", CONFIG_KEY: config}))
        if replace:
            follow_links(config_path).unlink(missing_ok=True)


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Create a folder at the start of the block. If the block fails, remove the folders that were created."""
    made = [parent for parent in (folder, *folder.parents) if not exists(parent)]
    make_folder(folder)
    try:
        yield
    except BaseException:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
