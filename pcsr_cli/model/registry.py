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
from typing import Any

from pcsr_cli.errors import ModelError, RegistryError, UnknownModelError
from pcsr_cli.images.files import is_file, read_text, reason
from pcsr_cli.model.spec import BackboneSpec, ModelSpec, Scales

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
FILE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
ORIGINALS = ("carn", "fsrcnn", "srresnet")

_REQUIRED = {"backbone", "samplers", "classifier", "scales", "receptive_radius", "licence", "source"}
_OPTIONAL = {"repo", "revision", "files", "folder", "packaged", "mean", "std", "continuous", "parameters", "original"}
_OPTIONAL |= {"sha256"}


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
            f"The registry {path} cannot be read: {reason(error)}.", "Check --registry and PCSR_REGISTRY."
        ) from error
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"The registry {path} is not valid TOML: {error}.", "Correct it there.") from error
    unknown = sorted(set(table) - {"models", "auto"})
    models, auto = table.get("models", {}), table.get("auto", [])
    names = isinstance(auto, list) and all(isinstance(name, str) for name in auto)
    if unknown or not isinstance(models, dict) or not names:
        raise RegistryError(
            f"The registry {path} holds tables models.NAME and auto, a list of names, nothing else.",
            "Correct it there.",
        )
    return Registry({name: _parse_entry(name, entry, path) for name, entry in models.items()}, tuple(auto))


def _parse_entry(name: str, table: object, path: Path) -> Entry:
    told = f"The registry {path}, model {name!r}"
    if not MODEL_NAME.fullmatch(name):
        raise RegistryError(f"{told}: a name is made of a-z, 0-9, dot, dash and underscore.", "Correct it there.")
    if not isinstance(table, dict):
        raise RegistryError(f"{told} is not a table.", "Correct it there.")
    if missing := sorted(_REQUIRED - set(table)):
        keys = ", ".join(missing)
        raise RegistryError(f"{told} lacks keys: {keys}.", "Give them there.")
    if unknown := sorted(set(table) - _REQUIRED - _OPTIONAL):
        keys = ", ".join(unknown)
        raise RegistryError(f"{told} has unknown keys: {keys}.", "Remove or correct them there.")
    try:
        return _build_entry(name, table, path)
    except RegistryError as error:
        raise error.within(told) from error
    except (TypeError, KeyError, ModelError) as error:
        why = str(error).removesuffix(".")
        raise RegistryError(f"{told} is not well formed: {why}.", "Correct it there.") from error


def _build_entry(name: str, table: dict[str, Any], path: Path) -> Entry:
    spec = ModelSpec(
        backbone=BackboneSpec(**table["backbone"]),
        samplers=tuple(_values("samplers", hidden) for hidden in _values("samplers", table["samplers"])),
        classifier=_values("classifier", table["classifier"]),
        **{key: _values(key, table[key]) for key in ("mean", "std") if key in table},
    )
    if spec.branches < 2:
        raise RegistryError("samplers has fewer than two branches.", "Correct it there.")
    original, sha256 = table.get("original"), table.get("sha256")
    if original is not None and original not in ORIGINALS:
        known = ", ".join(ORIGINALS)
        raise RegistryError(f"original is none of {known}.", "Correct it there.")
    if sha256 is not None and not SHA256.fullmatch(sha256):
        raise RegistryError("sha256 is not a checksum of 64 hexadecimal digits.", "Correct it there.")
    return Entry(
        name=name,
        location=_location(table, path),
        spec=spec,
        scales=Scales(_values("scales", table["scales"]), table.get("continuous", False)),
        receptive_radius=_whole("receptive_radius", table["receptive_radius"]),
        licence=_text("licence", table["licence"]),
        source=_text("source", table["source"]),
        parameters=_whole("parameters", table["parameters"]) if "parameters" in table else None,
        original=original,
        sha256=sha256,
    )


def _location(table: dict[str, Any], path: Path) -> HubLocation | Path:
    if sum(key in table for key in ("folder", "packaged", "repo")) != 1:
        raise RegistryError("it needs one of repo, folder and packaged.", "Correct it there.")
    if "packaged" in table:
        name = table["packaged"]
        if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
            raise RegistryError(f"packaged {name!r} is no plain name of a folder in the package.", "Correct it there.")
        return Path(__file__).parent.parent / name
    if "folder" in table:
        folder = table["folder"]
        if not isinstance(folder, str) or not folder.isprintable() or not folder or "://" in folder:
            raise RegistryError(f"folder {folder!r} is no path of a folder.", "Correct it there.")
        return path.parent / folder
    files = table.get("files", {})
    location = HubLocation(table["repo"], table["revision"], **files)
    if not REPO.fullmatch(location.repo):
        raise RegistryError(f"{location.repo!r} is not a repository of the form user/name.", "Correct it there.")
    if not COMMIT.fullmatch(location.revision):
        raise RegistryError("revision is not a full commit of 40 hexadecimal digits.", "Correct it there.")
    if not (FILE_NAME.fullmatch(location.config) and FILE_NAME.fullmatch(location.weights)):
        raise RegistryError("files are plain names, without folders.", "Correct it there.")
    return location


def _values(key: str, values: object) -> tuple[Any, ...]:
    if not isinstance(values, list):
        raise RegistryError(f"{key} is not made of lists.", "Correct it there.")
    return tuple(values)


def _whole(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RegistryError(f"{key} is not a whole number from 1.", "Correct it there.")
    return value


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise RegistryError(f"{key} is not text.", "Correct it there.")
    return value
