"""The registry of models (``weights.toml`` and the user's own file of the same form), and loading a model by name.

Registry files are checked strictly: unknown keys are refused, repositories and file names are validated, and revisions
are full commits. Listing models does not import torch."""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from pcsr_cli.errors import HubError, ModelError, RegistryError, UnknownModelError
from pcsr_cli.images.files import exists, is_file, read_text, reason
from pcsr_cli.model.hub import OUTAGE_SECONDS, HubLocation, fetch, is_cached, is_out, record_outage, remove
from pcsr_cli.model.spec import ModelSpec, Scale, Scales, Table, convert
from pcsr_cli.model.transfer import BRIEF, COMMIT, USUAL, Bounds, Notify, UnavailableError

if TYPE_CHECKING:  # the functions that load models import torch when they are called
    from pcsr_cli.model.checkpoint import Checkpoint
    from pcsr_cli.model.network import Pcsr

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FILE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
FOLDER = re.compile(r"(?!.*://)[^\x00-\x1f\x7f]+")

AUTO = "auto"
NOT_STATED = "not stated"
"""The first words of the licence of a model whose authors state none."""

DEFAULT_SCALES = Scales((4.0,))
"""The scales of a published model whose files do not list any."""

Positive = Annotated[int, Meta(ge=1)]
OriginalName = Literal["carn", "fsrcnn", "srresnet", "bsrn"]


class Files(Table, frozen=True):
    """The names of a model's files on the Hub."""

    config: str = "config.json"
    weights: str = "model.safetensors"


class Entry(ModelSpec, frozen=True, kw_only=True):
    """A table ``[models.NAME]`` of a registry file. ``sha256`` and ``size`` (bytes) belong to the weights.

    ``sources`` is the kind of images that the model was trained on. A backbone that reads the whole image has no
    ``receptive_radius``."""

    name: str
    scale_values: Annotated[tuple[Scale, ...], Meta(min_length=1)] = msgspec.field(name="scales")
    continuous: bool = False
    sources: Literal["clean", "lossy"] = "clean"
    receptive_radius: Positive | None = None
    parameters: Positive | None = None
    original: OriginalName | None = None
    licence: str
    source: str
    repo: str | None = None
    revision: str = ""
    files: Files = Files()
    folder: str | None = None
    packaged: str | None = None
    sha256: str | None = None
    config_sha256: str | None = None
    size: Positive | None = None

    def __post_init__(self) -> None:
        if [self.repo, self.folder, self.packaged].count(None) != 2:
            raise ValueError("give exactly one of repo, folder and packaged")
        checks = (
            (self.name, MODEL_NAME, "use only a-z, 0-9, dot, dash and underscore in a name"),
            (self.repo, REPO, "repo must have the form user/name"),
            (self.revision if self.repo else None, COMMIT, "revision must be a full commit of 40 hexadecimal digits"),
            (self.files.config, FILE_NAME, "files.config must be a file name without folders"),
            (self.files.weights, FILE_NAME, "files.weights must be a file name without folders"),
            (self.folder, FOLDER, "folder must be the path of a folder"),
            (self.packaged, FILE_NAME, "packaged must be the name of a folder in the package"),
            (self.sha256, SHA256, "sha256 must have 64 hexadecimal digits"),
            (self.config_sha256, SHA256, "config_sha256 must have 64 hexadecimal digits"),
        )
        for value, pattern, rule in checks:
            if value is not None and not pattern.fullmatch(value):
                raise ValueError(rule)

    @property
    def lossy(self) -> bool:
        """Whether the model was trained for lossy sources."""
        return self.sources == "lossy"

    @property
    def spec(self) -> ModelSpec:
        """The description of the network."""
        return ModelSpec(self.backbone, self.samplers, self.classifier, self.mean, self.std)

    @property
    def scales(self) -> Scales:
        """The trained scales."""
        return Scales(self.scale_values, self.continuous)

    @property
    def location(self) -> HubLocation | Path:
        """The repository on the Hub, or a local folder."""
        if self.repo is not None:
            pins = self.sha256, self.config_sha256, self.size
            return HubLocation(self.repo, self.revision, self.files.config, self.files.weights, *pins)
        return Path(__file__).parent.parent / self.packaged if self.packaged else Path(self.folder or "")


@dataclass(frozen=True)
class Registry:
    """All models by name, in the order of the files. ``auto`` lists the candidates for a scale, best first."""

    entries: Mapping[str, Entry]
    auto: tuple[str, ...] = ()

    def candidates(self, lossy: bool) -> tuple[Entry, ...]:
        """The entries of ``auto`` for lossy sources, or for clean sources if ``lossy`` is False.

        Raises the errors of ``get``."""
        entries = map(self.get, self.auto)
        return tuple(entry for entry in entries if entry.lossy == lossy)

    def trained(self, scale: float, lossy: bool) -> tuple[Entry, ...]:
        """The entries of ``auto`` that were trained for a scale. Entries for the requested kind of sources come first.

        Raises the errors of ``get``."""
        known_scale = self.limited(scale)
        candidates = self.candidates(lossy) + self.candidates(not lossy)
        return tuple(entry for entry in candidates if entry.scales.trained(known_scale))

    def has_lossy(self, scale: float) -> bool:
        """Whether ``auto`` has a model for lossy sources at a scale. Raises the errors of ``get``."""
        return any(entry.scales.trained(self.limited(scale)) for entry in self.candidates(lossy=True))

    def limited(self, scale: float) -> float:
        """The scale, but at most the largest scale of the candidates. Larger results are resized from that scale."""
        return min(scale, max((self.get(name).scales.largest for name in self.auto), default=scale))

    def get(self, name: str) -> Entry:
        """The entry with a name. Raises UnknownModelError, which lists the known names."""
        if name not in self.entries:
            known = ", ".join(self.entries)
            raise UnknownModelError(
                f"There is no model {name!r}, and no file or folder of this name.",
                f"Use {known}, user/repo on the Hub, a folder, a .safetensors or a .pth.",
            )
        return self.entries[name]


def own_registry_path() -> Path | None:
    """The user's own registry file: PCSR_REGISTRY, or ``pcsr/weights.toml`` in the configuration folder, if any."""
    if named := os.environ.get("PCSR_REGISTRY"):
        return Path(named)
    from platformdirs import user_config_path

    try:
        path = user_config_path("pcsr") / "weights.toml"
    except RuntimeError:  # a user without a home folder, as in a container
        return None
    return path if is_file(path) else None


def packaged_registry_path() -> Path:
    """The ``weights.toml`` of pcsr: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "weights.toml"
    return installed if installed.is_file() else package.parent / "weights.toml"


def load_registry(own: Path | None = None) -> Registry:
    """Read the packaged registry and the user's own file. Own entries replace packaged entries of the same name.

    Raises RegistryError for a file that is missing, not TOML, or has invalid keys or values."""
    packaged = read_registry(packaged_registry_path())
    if own is None:
        return packaged
    added = read_registry(own)
    merged = Registry({**packaged.entries, **added.entries}, added.auto or packaged.auto)
    unknown = [name for name in merged.auto if name not in merged.entries]
    if unknown:
        names = ", ".join(unknown)
        raise RegistryError(f"The list `auto` of the registry {own} has unknown models: {names}.", "Correct the file.")
    return merged


def read_registry(path: Path) -> Registry:
    """Read one registry file. Raises RegistryError."""
    try:
        table = tomllib.loads(read_text(path))
    except OSError as error:
        raise RegistryError(
            f"Cannot read the registry {path}: {reason(error)}.", "Check the path, or PCSR_REGISTRY."
        ) from error
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"The registry {path} is not valid TOML: {reason(error)}.", "Correct the file.") from error
    origin = f"The registry {path}"
    file = convert(table, _File, origin, RegistryError, "Correct the file.")
    entries = {}
    for name, keys in file.models.items():
        entry = convert({"name": name, **keys}, Entry, f"{origin}, model {name!r}", RegistryError, "Correct the file.")
        if entry.name != name:
            raise RegistryError(
                f"{origin}, model {name!r}: the key `name` has another value, {entry.name!r}.", "Remove the key `name`."
            )
        if entry.folder is not None:
            entry = msgspec.structs.replace(entry, folder=str(path.parent / entry.folder))
        entries[name] = entry
    return Registry(entries, file.auto)


class _File(Table, frozen=True):
    models: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    auto: tuple[str, ...] = ()


@dataclass(frozen=True)
class Identity:
    """The weights of a model, for reports and for the metadata of results.

    ``revision`` is the commit on the Hub, None for a local model. ``original`` names the network to compare the model
    with."""

    name: str
    revision: str | None
    sha256: str
    licence: str
    source: str
    original: str | None


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to run, the identity of its weights, and the scales it was trained for.

    ``notes`` are messages for the user: why another model was not chosen, and a licence that is not stated."""

    network: "Pcsr"
    identity: Identity
    scales: Scales
    notes: tuple[str, ...] = ()


def find_model(
    reference: str, registry: Registry, scale: float, notify: Notify | None = None, lossy: bool = False
) -> LoadedModel:
    """Find, fetch if necessary, check and build a model, in float32 on the CPU.

    ``api.load_model`` describes the parameters. Raises UnknownModelError, HubError, ModelError."""
    check_reference(reference, registry)
    if reference == AUTO:
        return _choose(registry, scale, notify, lossy)
    if reference in registry.entries:
        return _load_entry(registry.entries[reference], notify)
    path = Path(reference)
    if exists(path):
        from pcsr_cli.model.checkpoint import read_checkpoint

        # Omit the folders from the name, because results contain it.
        return _load_unregistered(read_checkpoint(path), path.resolve().name, None, reference)
    repo, _, revision = reference.partition("@")
    location = HubLocation(repo, revision or "main")
    return _load_from_hub(location, reference, lambda found, sha: _load_unregistered(found, repo, sha, repo), notify)


def check_reference(reference: str, registry: Registry) -> None:
    """Raise UnknownModelError if ``find_model`` cannot find this model anywhere: not even on the Hub."""
    path, repo = Path(reference), reference.partition("@")[0]
    may_be_on_hub = REPO.fullmatch(repo) and path.suffix not in {".pth", ".pt", ".safetensors"}
    if reference != AUTO and not may_be_on_hub and not (reference and exists(path)):
        registry.get(reference)


def _choose(registry: Registry, scale: float, notify: Notify | None, lossy: bool) -> LoadedModel:
    """Load the first available model of ``Registry.trained``, or else the last candidate for clean sources.

    For some minutes after the Hub could not be reached, models that are not in the cache are skipped without a note."""
    if not registry.auto:
        raise RegistryError("The registry has no list `auto`, from which to choose a model.", "Name a model.")
    notes: list[str] = []
    for entry in registry.trained(scale, lossy):
        try:
            if isinstance(entry.location, HubLocation) and not is_cached(entry.location) and is_out():
                continue
            return _with_notes(_load_entry(entry, notify, BRIEF), notes)
        except UnavailableError as error:
            later = f"; the next attempt is in {OUTAGE_SECONDS // 60} minutes" if record_outage() else ""
            notes.append(f"{error.sentence.rstrip('.')}; continued without {entry.name}{later}")
        except HubError as error:
            notes.append(f"{error.sentence.rstrip('.')}; continued without {entry.name}")
    last = (registry.candidates(lossy=False) or registry.candidates(lossy=True))[-1]
    return _with_notes(_load_entry(last, notify, BRIEF), notes)


def _with_notes(model: LoadedModel, notes: list[str]) -> LoadedModel:
    return replace(model, notes=(*notes, *model.notes))


def _load_entry(entry: Entry, notify: Notify | None, bounds: Bounds = USUAL) -> LoadedModel:
    from pcsr_cli.model.checkpoint import read_checkpoint

    if isinstance(entry.location, HubLocation):
        return _load_from_hub(entry.location, entry.name, partial(_build_entry, entry), notify, bounds)
    return _build_entry(entry, read_checkpoint(entry.location), None)


def _build_entry(entry: Entry, checkpoint: "Checkpoint", revision: str | None) -> LoadedModel:
    from pcsr_cli.model.checkpoint import build_model

    sha256 = checkpoint.sha256
    if entry.sha256 not in (None, sha256):
        raise ModelError(
            f"The weights of {entry.name} have the sha256 {sha256}, but its registry entry requires {entry.sha256}.",
            "Install pcsr again, or copy the weights again.",
        )
    found, wanted = checkpoint.spec, entry.spec
    if (found.backbone, found.samplers, found.classifier) != (wanted.backbone, wanted.samplers, wanted.classifier):
        raise ModelError(f"The config of {entry.name} differs from its registry entry.", "Correct the entry.")
    network = build_model(replace(checkpoint, spec=wanted))
    if network.encoder.receptive_radius != entry.receptive_radius:
        raise ModelError(
            f"The registry entry of {entry.name} has the wrong receptive_radius {entry.receptive_radius}.",
            f"Correct the entry to {network.encoder.receptive_radius}.",
        )
    identity = Identity(entry.name, revision, sha256, entry.licence, entry.source, entry.original)
    return LoadedModel(network, identity, entry.scales)


def _load_from_hub(
    location: HubLocation,
    name: str,
    build: Callable[["Checkpoint", str], LoadedModel],
    notify: Notify | None,
    bounds: Bounds = USUAL,
) -> LoadedModel:
    """Fetch a model and ``build`` it from its checkpoint and its commit, with a note if its licence is not stated.

    If the model is invalid, the files that this call downloaded are removed from the cache."""
    from pcsr_cli.model.checkpoint import read_safetensors

    fetched = fetch(location, name, notify, bounds)
    try:
        model = build(read_safetensors(fetched.config, fetched.weights), fetched.revision)
    except ModelError:
        for path in fetched.new:
            remove(path)
        raise
    stated = not model.identity.licence.startswith(NOT_STATED)
    note = f"the licence of {model.identity.name} is {model.identity.licence}"
    return model if stated or not fetched.new else _with_notes(model, [note])


def _load_unregistered(checkpoint: "Checkpoint", name: str, revision: str | None, source: str) -> LoadedModel:
    from pcsr_cli.model.checkpoint import build_model

    backbone = checkpoint.spec.backbone.name
    original = backbone if backbone in get_args(OriginalName) else None
    identity = Identity(name, revision, checkpoint.sha256, NOT_STATED, source, original)
    return LoadedModel(build_model(checkpoint), identity, checkpoint.scales or DEFAULT_SCALES)
