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

from pcsr_cli.errors import ModelError, RegistryError
from pcsr_cli.failures import registry
from pcsr_cli.files import is_file, read_text, reason
from pcsr_cli.specs import BackboneSpec, ModelSpec, Scales

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
            raise registry.NO_SUCH_MODEL(name=name, known=", ".join(self.entries))
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
        raise registry.UNKNOWN_CHOICE(path=own, names=", ".join(unknown))
    return merged


def read_registry(path: Path) -> Registry:
    """One registry file. Raises RegistryError."""
    try:
        table = tomllib.loads(read_text(path))
    except OSError as error:
        raise registry.UNREADABLE(path=path, reason=reason(error)) from error
    except (ValueError, RecursionError) as error:
        raise registry.NOT_TOML(path=path, reason=error) from error
    unknown = sorted(set(table) - {"models", "auto"})
    models, auto = table.get("models", {}), table.get("auto", [])
    names = isinstance(auto, list) and all(isinstance(name, str) for name in auto)
    if unknown or not isinstance(models, dict) or not names:
        raise registry.OTHER_TABLES(path=path)
    return Registry({name: _parse_entry(name, entry, path) for name, entry in models.items()}, tuple(auto))


def _parse_entry(name: str, table: object, path: Path) -> Entry:
    told = f"The registry {path}, model {name!r}"
    if not MODEL_NAME.fullmatch(name):
        raise registry.BAD_NAME(entry=told)
    if not isinstance(table, dict):
        raise registry.NOT_A_TABLE(entry=told)
    if missing := sorted(_REQUIRED - set(table)):
        raise registry.KEYS_MISSING(entry=told, keys=", ".join(missing))
    if unknown := sorted(set(table) - _REQUIRED - _OPTIONAL):
        raise registry.KEYS_UNKNOWN(entry=told, keys=", ".join(unknown))
    try:
        return _build_entry(name, table, path)
    except RegistryError as error:
        raise error.within(told) from error
    except (TypeError, KeyError, ModelError) as error:
        raise registry.NOT_WELL_FORMED(entry=told, reason=str(error).removesuffix(".")) from error


def _build_entry(name: str, table: dict[str, Any], path: Path) -> Entry:
    spec = ModelSpec(
        backbone=BackboneSpec(**table["backbone"]),
        samplers=tuple(_values("samplers", hidden) for hidden in _values("samplers", table["samplers"])),
        classifier=_values("classifier", table["classifier"]),
        **{key: _values(key, table[key]) for key in ("mean", "std") if key in table},
    )
    if spec.branches < 2:
        raise registry.FEW_BRANCHES()
    original, sha256 = table.get("original"), table.get("sha256")
    if original is not None and original not in ORIGINALS:
        raise registry.NO_SUCH_ORIGINAL(known=", ".join(ORIGINALS))
    if sha256 is not None and not SHA256.fullmatch(sha256):
        raise registry.BAD_SHA256()
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
        raise registry.NO_LOCATION()
    if "packaged" in table:
        name = table["packaged"]
        if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
            raise registry.BAD_PACKAGED(name=name)
        return Path(__file__).parent.parent / name
    if "folder" in table:
        folder = table["folder"]
        if not isinstance(folder, str) or not folder.isprintable() or not folder or "://" in folder:
            raise registry.BAD_FOLDER(folder=folder)
        return path.parent / folder
    files = table.get("files", {})
    location = HubLocation(table["repo"], table["revision"], **files)
    if not REPO.fullmatch(location.repo):
        raise registry.BAD_REPO(repo=location.repo)
    if not COMMIT.fullmatch(location.revision):
        raise registry.BAD_REVISION()
    if not (FILE_NAME.fullmatch(location.config) and FILE_NAME.fullmatch(location.weights)):
        raise registry.BAD_FILE_NAME()
    return location


def _values(key: str, values: object) -> tuple[Any, ...]:
    if not isinstance(values, list):
        raise registry.NOT_A_LIST(key=key)
    return tuple(values)


def _whole(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise registry.NOT_WHOLE(key=key)
    return value


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise registry.NOT_TEXT(key=key)
    return value
