"""The Hub and its cache on this machine, and the models of the registry, whole or not."""

import io
import os
import platform
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib import metadata
from pathlib import Path

import psutil
import torch
from huggingface_hub import constants
from PIL import Image

import pcsr_cli
from pcsr_cli.api import load_model
from pcsr_cli.engine.device import describe_device, resolve_device
from pcsr_cli.engine.fused.kernels import onednn_usable
from pcsr_cli.engine.memory import free_memory
from pcsr_cli.errors import HubError, PcsrError
from pcsr_cli.images import formats as plug_ins
from pcsr_cli.images.formats import FORMATS, Format
from pcsr_cli.model.hub import reach
from pcsr_cli.model.hub_cache import is_cached, is_whole, is_whole_here, revision_of
from pcsr_cli.model.registry import Entry, HubLocation, Registry, load_registry


class State(Enum):
    """``FINE``; ``SHORT``: less than there could be, and pcsr works; ``BROKEN``: something pcsr needs does not work."""

    FINE = "fine"
    SHORT = "short"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """One thing: what is so in a few words, what to do about it where it is not fine, and the facts as data."""

    subject: str
    state: State
    said: str
    next_step: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


def megabytes(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


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


LIBRARIES = ("pillow", "pyvips", "numpy", "safetensors", "huggingface_hub", "typer", "rich")

ENOUGH_MEMORY = 2**30
"""Bytes free: what an enlargement to 8K takes, with ADM, and a tenth to spare."""


def examine_machine() -> Iterator[Finding]:
    """What runs here, on what."""
    yield _python()
    yield _torch()
    yield _libraries()
    yield _device()
    yield _memory()
    yield _threads()
    yield _kernels()


def _python() -> Finding:
    told = f"pcsr {pcsr_cli.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    facts = {"pcsr": pcsr_cli.__version__, "python": platform.python_version(), "executable": sys.executable}
    return Finding("versions", State.FINE, told, facts=facts)


def _torch() -> Finding:
    """The version that "the published numbers" is a promise about."""
    found, pinned = torch.__version__.partition("+")[0], _pinned("torch")
    facts = {"version": torch.__version__, "pinned": pinned}
    if pinned in (None, found):
        return Finding("torch", State.FINE, torch.__version__, facts=facts)
    said = f"{torch.__version__}, but pcsr's numbers are promised with {pinned}"
    return Finding("torch", State.SHORT, said, f"Run: pip install torch=={pinned}", facts)


def _pinned(name: str) -> str | None:
    """The exact version that the installed package asks for, if it is installed as one."""
    try:
        wanted = metadata.requires("pcsr") or []
    except metadata.PackageNotFoundError:
        return None
    found = [re.fullmatch(rf"{name}==([\w.]+)", requirement) for requirement in wanted]
    return next((match[1] for match in found if match), None)


def _libraries() -> Finding:
    versions = {name: _version(name) for name in LIBRARIES}
    missing = [name for name, version in versions.items() if version is None]
    said = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
    if missing:
        return Finding("libraries", State.BROKEN, said, f"Run: pip install {' '.join(missing)}", versions)
    return Finding("libraries", State.FINE, said, facts=versions)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device() -> Finding:
    device = resolve_device("auto")
    facts = {"device": str(device), "cuda": torch.cuda.device_count(), "mps": torch.backends.mps.is_available()}
    if device.type == "cpu" and shutil.which("nvidia-smi"):
        said = "cpu: there seems to be an NVIDIA GPU, but this build of PyTorch cannot use it"
        return Finding("device", State.SHORT, said, "Install PyTorch's build for CUDA, and a driver for it.", facts)
    return Finding("device", State.FINE, describe_device(device), facts=facts)


def _memory() -> Finding:
    free, total = free_memory(resolve_device("auto")), psutil.virtual_memory().total
    said, facts = f"{megabytes(free)} free, the machine has {megabytes(total)}", {"free": free, "total": total}
    if free < ENOUGH_MEMORY:
        return Finding("memory", State.SHORT, said, "Close other programs before enlarging to 8K and more.", facts)
    return Finding("memory", State.FINE, said, facts=facts)


def _threads() -> Finding:
    used, there = torch.get_num_threads(), os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS")
    said = f"{used} of {there} processors" + (f", as OMP_NUM_THREADS={limit} asks for" if limit else "")
    return Finding("threads", State.FINE, said, facts={"threads": used, "processors": there})


def _kernels() -> Finding:
    usable = onednn_usable(torch.empty(0))
    if usable:
        return Finding("kernels", State.FINE, "oneDNN's fused ones on the CPU", facts={"fused": True})
    said = "plain ones on the CPU: the same results, slower"
    step = "Use the PyTorch that pcsr is pinned to, on a machine whose build has oneDNN."
    return Finding("kernels", State.SHORT, said, step, {"fused": False})


def examine_formats() -> Iterator[Finding]:
    """The formats that work, in one finding, and one for each that does not."""
    reasons = {format: _why_not(format) for format in FORMATS}
    there = [format.name for format, reason in reasons.items() if reason is None]
    deep = [format.name for format, reason in reasons.items() if reason is None and format.deep]
    said = f"{', '.join(there)}; with 16 bits a channel {', '.join(deep)}"
    yield Finding("formats", State.FINE, said, facts={"formats": there, "deep": deep})
    for format, reason in reasons.items():
        if reason is not None:
            step = f"Run: pip install {format.plug_in}" if format.plug_in else "Install Pillow as PyPI has it."
            state = State.SHORT if format.plug_in else State.BROKEN
            yield Finding(f"format {format.name}", state, reason, step, {"plug_in": format.plug_in or None})


def _why_not(format: Format) -> str | None:
    """Why a format cannot be read and written, or None."""
    if not format.installed:
        return f"needs the plug-in {format.plug_in}, which is not installed"
    file = io.BytesIO()
    try:
        plug_ins.load(format)
        Image.new("RGB", (16, 16)).save(file, format.pillow)
        with Image.open(file) as read:
            read.load()
    except Exception as error:  # whatever a plug-in, or a library behind it, raises
        return f"does not work: {' '.join(str(error).split()) or type(error).__name__}"
    return None


@dataclass(frozen=True)
class Examination:
    """What was found, thing by thing."""

    findings: tuple[Finding, ...]

    @property
    def broken(self) -> int:
        """How many things do not work."""
        return sum(finding.state is State.BROKEN for finding in self.findings)


def examine(own_registry: Path | None = None, observe: Callable[[Finding], None] = lambda finding: None) -> Examination:
    """Look at everything, which takes seconds; ``observe`` is told of each finding as it comes."""

    def told() -> Iterator[Finding]:
        for part in (examine_machine(), examine_models(own_registry), examine_formats()):
            for finding in part:
                observe(finding)
                yield finding

    return Examination(tuple(told()))
