"""The registry of models: ``weights.toml``, and a second file of the user's own.

A registry file is data, and everything in it is checked: unknown keys are refused, repositories and
file names are validated, revisions are full commits.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from pcsr_cli.errors import RegistryError, UnknownModelError
from pcsr_cli.images.files import is_file, read_text, reason
from pcsr_cli.model.spec import (
    NO_MEAN,
    UNIT_STD,
    BackboneSpec,
    Hidden,
    Mean,
    ModelSpec,
    Samplers,
    Scale,
    Scales,
    Std,
    Table,
    convert,
)

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
FILE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
ORIGINALS = ("carn", "fsrcnn", "srresnet")
ORIGINAL = re.compile("|".join(ORIGINALS))
FOLDER = re.compile(r"(?!.*://)[^\x00-\x1f\x7f]+")

Positive = Annotated[int, Meta(ge=1)]
T = TypeVar("T")


@dataclass(frozen=True)
class HubLocation:
    """Two files of a Hub repository; ``revision`` is a commit, a branch or a tag."""

    repo: str
    revision: str
    config: str = "config.json"
    weights: str = "model.safetensors"


@dataclass(frozen=True)
class Entry:
    """One model of the registry; ``location`` is on the Hub or a folder of this machine, ``sha256`` its weights'."""

    name: str
    location: HubLocation | Path
    spec: ModelSpec
    scales: Scales
    receptive_radius: int
    licence: str
    source: str
    parameters: int | None = None
    original: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Registry:
    """All known models by name, in the order of the files; ``auto`` is the order in which to choose one for a scale."""

    entries: Mapping[str, Entry]
    auto: tuple[str, ...] = ()

    def get(self, name: str) -> Entry:
        """The entry of that name. Raises UnknownModelError, which lists the names there are."""
        if name not in self.entries:
            known = ", ".join(self.entries)
            raise UnknownModelError(
                f"There is no model {name!r}, nor a file or folder of that name.",
                f"Known models: {known}. Or give user/repo on the Hub, a folder, a .safetensors or a .pth.",
            )
        return self.entries[name]


def own_registry_path() -> Path | None:
    """The packaged ``weights.toml``'s counterpart of the user's own, if there is one.

    PCSR_REGISTRY names it; else it is ``pcsr/weights.toml`` in the configuration directory.
    """
    if named := os.environ.get("PCSR_REGISTRY"):
        return Path(named)
    try:
        configuration = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    except RuntimeError:  # a user without a home
        return None
    path = configuration / "pcsr" / "weights.toml"
    return path if is_file(path) else None


def packaged_registry_path() -> Path:
    """The ``weights.toml`` that comes with pcsr: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "weights.toml"
    return installed if installed.is_file() else package.parent / "weights.toml"


def load_registry(own: Path | None = None) -> Registry:
    """The packaged registry, with the entries of a registry file of the user's own added or overriding.

    Raises RegistryError for a file that is missing, not TOML, or says something it must not.
    """
    packaged = read_registry(packaged_registry_path())
    if own is None:
        return packaged
    added = read_registry(own)
    merged = Registry({**packaged.entries, **added.entries}, added.auto or packaged.auto)
    unknown = [name for name in merged.auto if name not in merged.entries]
    if unknown:
        names = ", ".join(unknown)
        raise RegistryError(f"The registry {own} chooses among models it does not know: {names}.", "Correct it there.")
    return merged


def read_registry(path: Path) -> Registry:
    """One registry file. Raises RegistryError."""
    try:
        table = tomllib.loads(read_text(path))
    except OSError as error:
        raise RegistryError(
            f"Cannot read the registry {path}: {reason(error)}.", "Check the path, or PCSR_REGISTRY."
        ) from error
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"The registry {path} is not valid TOML: {error}.", "Correct it there.") from error
    file = _convert(table, _File, f"The registry {path}")
    return Registry({name: _build_entry(name, entry, path) for name, entry in file.models.items()}, file.auto)


def _convert(data: object, kind: type[T], origin: str) -> T:
    return convert(data, kind, origin, RegistryError, "Correct it there.")


class _Files(Table, frozen=True):
    config: str = "config.json"
    weights: str = "model.safetensors"


class _Entry(Table, frozen=True, kw_only=True):
    """A table ``[models.NAME]`` of a registry file."""

    backbone: BackboneSpec
    samplers: Samplers
    classifier: Hidden
    mean: Mean = NO_MEAN
    std: Std = UNIT_STD
    scales: Annotated[tuple[Scale, ...], Meta(min_length=1)]
    continuous: bool = False
    receptive_radius: Positive
    parameters: Positive | None = None
    original: str | None = None
    licence: str
    source: str
    repo: str | None = None
    revision: str = ""
    files: _Files = _Files()
    folder: str | None = None
    packaged: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if [self.repo, self.folder, self.packaged].count(None) != 2:
            raise ValueError("give exactly one of repo, folder and packaged")
        checks = (
            (self.repo, REPO, "repo must have the form user/name"),
            (self.revision if self.repo else None, COMMIT, "revision must be a full commit of 40 hexadecimal digits"),
            (self.files.config, FILE_NAME, "files.config must be a file name without folders"),
            (self.files.weights, FILE_NAME, "files.weights must be a file name without folders"),
            (self.folder, FOLDER, "folder must be the path of a folder"),
            (self.packaged, FILE_NAME, "packaged must be the name of a folder in the package"),
            (self.sha256, SHA256, "sha256 must have 64 hexadecimal digits"),
            (self.original, ORIGINAL, f"original must be one of {', '.join(ORIGINALS)}"),
        )
        for value, pattern, rule in checks:
            if value is not None and not pattern.fullmatch(value):
                raise ValueError(rule)

    def location(self, registry: Path) -> "HubLocation | Path":
        """The model's place, given the path of the registry file."""
        if self.packaged is not None:
            return Path(__file__).parent.parent / self.packaged
        if self.folder is not None:
            return registry.parent / self.folder
        assert self.repo is not None
        return HubLocation(self.repo, self.revision, self.files.config, self.files.weights)


class _File(Table, frozen=True):
    """A whole registry file."""

    models: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    auto: tuple[str, ...] = ()


def _build_entry(name: str, table: dict[str, Any], path: Path) -> Entry:
    origin = f"The registry {path}, model {name!r}"
    if not MODEL_NAME.fullmatch(name):
        raise RegistryError(f"{origin}: use only a-z, 0-9, dot, dash and underscore in a name.", "Correct it there.")
    entry = _convert(table, _Entry, origin)
    return Entry(
        name=name,
        location=entry.location(path),
        spec=ModelSpec(entry.backbone, entry.samplers, entry.classifier, entry.mean, entry.std),
        scales=Scales(entry.scales, entry.continuous),
        receptive_radius=entry.receptive_radius,
        licence=entry.licence,
        source=entry.source,
        parameters=entry.parameters,
        original=entry.original,
        sha256=entry.sha256,
    )
