"""The Hub and its cache on this machine, and the models of the registry, whole or not."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import constants

from pcsr_cli.doctor.finding import Finding, State, megabytes
from pcsr_cli.errors import HubError, PcsrError
from pcsr_cli.models import load_model
from pcsr_cli.weights.cache import is_cached, is_whole, is_whole_here, revision_of
from pcsr_cli.weights.hub import reach
from pcsr_cli.weights.registry import Entry, HubLocation, Registry, load_registry

SIGN = b'"heavy_sampler_spec"'
"""What the config of a PCSR network holds, and no other."""

LARGEST_CONFIG = 2**20
"""Bytes; other people's models lie in the same cache, and only small files are looked into."""

ENOUGH_ROOM = 100 * 2**20
"""Bytes free for the cache."""

PATIENCE = 6.0
"""Seconds to wait for the Hub, which a name server that is silent may else take a minute of."""


def examine_models(own_registry: Path | None) -> Iterator[Finding]:
    """The cache, what is in it, every model of the registry, and whether more can be had."""
    yield _cache()
    yield from _damaged_entries()
    try:
        registry = load_registry(own_registry)
    except PcsrError as error:
        yield Finding("registry", State.BROKEN, error.sentence, error.next_step)
        return
    yield from (_model(entry, registry) for entry in registry.entries.values())
    yield _hub(registry)


def _cache() -> Finding:
    folder = Path(constants.HF_HUB_CACHE)
    size = sum(file.stat().st_size for file in folder.glob("models--*/blobs/*") if file.is_file())
    refusal = _why_not_writable(folder)
    facts = {"folder": str(folder), "bytes": size, "writable": refusal is None}
    if refusal is not None:
        said = f"{folder} cannot be written: {refusal}"
        return Finding("cache", State.BROKEN, said, "Point HF_HOME to a folder that can be written.", facts)
    free = shutil.disk_usage(_existing(folder)).free
    said = f"{folder}, {megabytes(size)} of models, {megabytes(free)} free"
    if free < ENOUGH_ROOM:
        return Finding("cache", State.SHORT, said, "Free space, or point HF_HOME to another disk.", facts)
    return Finding("cache", State.FINE, said, facts=facts)


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that there is."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _why_not_writable(folder: Path) -> str | None:
    """Write to it and leave nothing, nor make the folder."""
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _damaged_entries() -> Iterator[Finding]:
    """Every cached model of a PCSR network that is damaged; what else lies there is none of ours."""
    for config in sorted(Path(constants.HF_HUB_CACHE).glob("models--*/snapshots/*/config.json")):
        weights = config.with_name("model.safetensors")
        if not weights.is_file() or config.stat().st_size > LARGEST_CONFIG:
            continue
        looked_at = (config, weights) if SIGN in config.read_bytes() else (config,)
        damaged = [file.name for file in looked_at if not is_whole(file)]
        if damaged:
            repo = config.parents[2].name.removeprefix("models--").replace("--", "/", 1)
            said = f"{' and '.join(damaged)} of {repo} damaged: {config.parent}"
            step = f"Run: pcsr models fetch {repo}@{revision_of(config)}"
            yield Finding("cache entry", State.BROKEN, said, step, {"repo": repo, "files": damaged})


def _model(entry: Entry, registry: Registry) -> Finding:
    """A model of the registry: loaded, where it is on this machine."""
    subject, location = f"model {entry.name}", entry.location
    if isinstance(location, HubLocation):
        if not is_cached(location):
            said = f"not in the cache; it is fetched from {location.repo} when it is asked for"
            return Finding(subject, State.FINE, said, facts={"here": False})
        if not is_whole_here(location):
            said = "damaged in the cache; it is fetched again when it is asked for"
            return Finding(subject, State.SHORT, said, f"Run: pcsr models fetch {entry.name}", {"here": False})
    try:
        sha256 = load_model(entry.name, "cpu", "fp32", registry).identity.sha256
    except PcsrError as error:
        return Finding(subject, State.BROKEN, error.sentence, error.next_step, {"here": False})
    said = f"sha256 {sha256}" + (", as it should be" if _is_held_to_one(entry) else "")
    return Finding(subject, State.FINE, said, facts={"here": True, "sha256": sha256})


def _is_held_to_one(entry: Entry) -> bool:
    """Whether a model's weights were compared with a checksum: the registry's, or the Hub's own."""
    return entry.sha256 is not None or isinstance(entry.location, HubLocation)


def _hub(registry: Registry) -> Finding:
    """Whether more models can be had; asks for one of them, and fetches nothing."""
    entries = registry.entries.values()
    there = [(entry.location, entry.name) for entry in entries if isinstance(entry.location, HubLocation)]
    facts: dict[str, object] = {"endpoint": constants.ENDPOINT, "offline": constants.HF_HUB_OFFLINE}
    if not there:
        return Finding("hub", State.FINE, "no model of the registry is there", facts=facts)
    refusal = _ask(*there[0])
    if refusal is None:
        return Finding("hub", State.FINE, f"{constants.ENDPOINT} answers", facts={**facts, "reachable": True})
    return Finding("hub", State.SHORT, refusal.sentence, refusal.next_step, {**facts, "reachable": False})


def _ask(location: HubLocation, name: str) -> PcsrError | None:
    """What keeps the Hub from answering, or None."""
    found: list[PcsrError | None] = []

    def ask() -> None:
        try:
            reach(location, name)
        except HubError as error:
            found.append(error)
        else:
            found.append(None)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    if found:
        return found[0]
    return HubError(
        f"No model can be fetched: {constants.ENDPOINT} does not answer.",
        "What is cached, and builtin, work without; else check the network, HF_ENDPOINT and the proxy.",
    )
