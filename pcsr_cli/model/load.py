"""A model by any name a user may give it: registry name, user/repo[@revision], folder, .safetensors, .pth."""

from dataclasses import dataclass, replace
from pathlib import Path

from pcsr_cli.errors import HubError, ModelError, RegistryError
from pcsr_cli.images.files import exists
from pcsr_cli.model.backbones import ORIGINALS
from pcsr_cli.model.checkpoint import Checkpoint, build_model, read_checkpoint, read_safetensors
from pcsr_cli.model.hub import fetch
from pcsr_cli.model.hub_cache import file_sha256
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.registry import REPO, Entry, HubLocation, Registry
from pcsr_cli.model.spec import Scales

AUTO = "auto"
NOT_STATED = "not stated"

DEFAULT_SCALES = Scales((4.0,))
"""What a published model was trained for when its files do not tell."""


@dataclass(frozen=True)
class Identity:
    """Which weights these are, for reports and for the files they make.

    ``revision`` is the Hub's commit, None for a model of this machine; ``original`` names the network it is compared
    with."""

    name: str
    revision: str | None
    sha256: str
    licence: str
    source: str
    original: str | None


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to run, with what is known of it."""

    network: Pcsr
    identity: Identity
    scales: Scales
    notes: tuple[str, ...] = ()
    """What the user should know of how it was chosen."""


def find_model(reference: str, registry: Registry, scale: float, show_progress: bool = False) -> LoadedModel:
    """Find, fetch if need be, check and build a model, in float32 on the CPU.

    ``reference`` is ``auto`` (the registry's choice for ``scale``), a registry name, ``user/repo[@revision]`` on the
    Hub, a folder with config.json and model.safetensors, a ``.safetensors`` file with its config beside it, or a
    published ``.pth``. Raises UnknownModelError, HubError, ModelError."""
    return _choose(registry, scale, show_progress) if reference == AUTO else _find(reference, registry, show_progress)


def _choose(registry: Registry, scale: float, show_progress: bool) -> LoadedModel:
    """The first model of the registry's order that was trained for ``scale`` and can be had, else the last of it."""
    notes: list[str] = []
    candidates = [registry.get(name) for name in registry.auto]
    for entry in candidates:
        if entry.scales.trained(scale):
            try:
                return replace(_from_registry(entry, show_progress), notes=tuple(notes))
            except HubError as error:
                notes.append(f"{error.sentence.rstrip('.')}: went on without {entry.name}")
    if not candidates:
        raise RegistryError("The registry has no order for --model auto.", "Name a model with --model.")
    return replace(_from_registry(candidates[-1], show_progress), notes=tuple(notes))


def _find(reference: str, registry: Registry, show_progress: bool) -> LoadedModel:
    if reference in registry.entries:
        return _from_registry(registry.entries[reference], show_progress)
    path = Path(reference)
    if reference and exists(path):
        return _from_path(path)
    repo, _, revision = reference.partition("@")
    if REPO.fullmatch(repo) and path.suffix not in {".pth", ".pt", ".safetensors"}:
        return _from_hub(HubLocation(repo, revision or "main"), reference, show_progress)
    return _from_registry(registry.get(reference), show_progress)


def _from_registry(entry: Entry, show_progress: bool) -> LoadedModel:
    checkpoint, revision = read_entry(entry, show_progress)
    sha256 = file_sha256(checkpoint.weights)
    if entry.sha256 not in (None, sha256):
        raise ModelError(
            f"The weights of {entry.name} are not those its registry entry names: their sha256 is {sha256}.",
            "Install pcsr again, or copy the weights again.",
        )
    told, known = checkpoint.spec, entry.spec
    if (told.backbone, told.samplers, told.classifier) != (known.backbone, known.samplers, known.classifier):
        raise ModelError(
            f"The files of {entry.name} describe another network than the registry does.",
            "Correct its entry in the registry.",
        )
    checkpoint = replace(checkpoint, spec=entry.spec)
    network = build_model(checkpoint)
    if network.encoder.receptive_radius != entry.receptive_radius:
        raise ModelError(
            f"The registry gives {entry.name} a receptive radius its backbone does not have.",
            "Correct its entry in the registry.",
        )
    identity = Identity(entry.name, revision, sha256, entry.licence, entry.source, entry.original)
    return LoadedModel(network, identity, entry.scales)


def read_entry(entry: Entry, show_progress: bool = False) -> tuple[Checkpoint, str | None]:
    """The files of a registry entry, fetched if need be, and the Hub's revision of them."""
    if isinstance(entry.location, Path):
        return read_checkpoint(entry.location), None
    fetched = fetch(entry.location, entry.name, show_progress)
    return read_safetensors(fetched.config, fetched.weights), fetched.revision


def _from_path(path: Path) -> LoadedModel:
    checkpoint = read_checkpoint(path)
    # The folder's own name and not the path to it: it goes into the pictures that are made.
    name = path.resolve().name
    identity = Identity(name, None, file_sha256(checkpoint.weights), NOT_STATED, str(path), _original(checkpoint))
    return LoadedModel(build_model(checkpoint), identity, checkpoint.scales or DEFAULT_SCALES)


def _from_hub(location: HubLocation, reference: str, show_progress: bool) -> LoadedModel:
    fetched = fetch(location, reference, show_progress)
    checkpoint = read_safetensors(fetched.config, fetched.weights)
    sha256 = file_sha256(fetched.weights)
    identity = Identity(location.repo, fetched.revision, sha256, NOT_STATED, location.repo, _original(checkpoint))
    return LoadedModel(build_model(checkpoint), identity, checkpoint.scales or DEFAULT_SCALES)


def _original(checkpoint: Checkpoint) -> str | None:
    name = checkpoint.spec.backbone.name
    return name if name in ORIGINALS else None
