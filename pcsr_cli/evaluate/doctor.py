"""The checks of ``pcsr doctor``: the installation, the machine, the models and the image formats.

Each check is a function that returns a finding, or None if it has nothing to report.
"""

import io
import os
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
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
from pcsr_cli.images import formats
from pcsr_cli.images.formats import FORMATS, Format
from pcsr_cli.model.hub import HubLocation, is_cached, is_whole, is_whole_here, reach, revision_of
from pcsr_cli.model.registry import Entry, Registry, load_registry

TESTED_TORCH = ("2.13.0",)
"""The versions of torch that the test suite was run with. The published figures were made with the last one."""

LIBRARIES = ("pillow", "pyvips", "numpy", "safetensors", "huggingface_hub", "typer", "rich")

MIN_MEMORY = 2**30
"""Free bytes that upscaling to 8K with ADM needs, plus a tenth."""

MIN_DISK = 100 * 2**20
"""Free bytes that a model in the cache needs at most."""

MAX_CONFIG = 2**20
"""Larger config.json files in the shared cache belong to other programs and are not read."""

HUB_TIMEOUT = 6.0
"""Seconds to wait for the Hub. Without this limit, an unresponsive name server takes up to a minute."""


class State(Enum):
    """``WARNING``: pcsr works, but slower or with less. ``ERROR``: something that pcsr needs does not work."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """The result of a check: a short message, a next step unless the state is OK, and facts for the JSON document."""

    subject: str
    state: State
    message: str
    next_step: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


Check = Callable[[], Finding | None]


@dataclass(frozen=True)
class Examination:
    """All findings, in the order of the checks."""

    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """The number of findings with the state ERROR."""
        return sum(finding.state is State.ERROR for finding in self.findings)


def examine(own_registry: Path | None = None, observe: Callable[[Finding], None] = lambda finding: None) -> Examination:
    """Run all checks, which takes seconds, and call ``observe`` with each finding.

    ``own_registry`` is the path of a registry that extends the packaged one.
    """
    found: list[Finding] = []
    for check in (*MACHINE_CHECKS, *cache_checks(), *model_checks(own_registry), *format_checks()):
        finding = check()
        if finding is not None:
            observe(finding)
            found.append(finding)
    return Examination(tuple(found))


def cache_checks() -> Iterator[Check]:
    """Return a check of the Hub cache, and one for each PCSR model in it."""
    yield check_cache
    for config in sorted(Path(constants.HF_HUB_CACHE).glob("models--*/snapshots/*/config.json")):
        yield partial(check_cached_model, config)


def model_checks(own_registry: Path | None = None) -> Iterator[Check]:
    """Return a check for each model of the registry, and one of the Hub."""
    try:
        registry = load_registry(own_registry)
    except PcsrError as error:
        finding = Finding("registry", State.ERROR, error.sentence, error.next_step)
        yield lambda: finding
        return
    for entry in registry.entries.values():
        yield partial(check_model, entry, registry)
    yield partial(check_hub, registry)


def format_checks() -> Iterator[Check]:
    """Return a check that lists the image formats, and one for each format."""
    yield check_formats
    for format in FORMATS:
        yield partial(check_format, format)


def check_versions() -> Finding:
    """Report the versions of pcsr, Python and the system."""
    python, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    message = f"pcsr {pcsr_cli.__version__}, Python {python}, {system}"
    facts = {"pcsr": pcsr_cli.__version__, "python": python, "executable": sys.executable}
    return Finding("versions", State.OK, message, facts=facts)


def check_torch() -> Finding:
    """Compare the version of torch with the tested ones."""
    facts = {"version": torch.__version__, "tested": TESTED_TORCH}
    if torch.__version__.partition("+")[0] in TESTED_TORCH:
        return Finding("torch", State.OK, torch.__version__, facts=facts)
    message = f"{torch.__version__}, but pcsr was tested with {', '.join(TESTED_TORCH)}"
    return Finding("torch", State.WARNING, message, f"Run: pip install torch=={TESTED_TORCH[-1]}", facts)


def check_libraries() -> Finding:
    """Report the versions of the libraries that pcsr needs."""
    versions = {name: _version(name) for name in LIBRARIES}
    missing = [name for name, version in versions.items() if version is None]
    message = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
    if missing:
        return Finding("libraries", State.ERROR, message, f"Run: pip install {' '.join(missing)}", versions)
    return Finding("libraries", State.OK, message, facts=versions)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_device() -> Finding:
    """Report the device that pcsr uses by default, and an NVIDIA GPU that torch cannot use."""
    device = resolve_device("auto")
    facts = {"device": str(device), "cuda": torch.cuda.device_count(), "mps": torch.backends.mps.is_available()}
    if device.type == "cpu" and shutil.which("nvidia-smi"):
        message = "cpu: this build of PyTorch cannot use the NVIDIA GPU of this machine"
        step = "Install a CUDA build of PyTorch and the driver for it."
        return Finding("device", State.WARNING, message, step, facts)
    return Finding("device", State.OK, describe_device(device), facts=facts)


def check_memory() -> Finding:
    """Check that there is enough free memory for large images."""
    free, total = free_memory(resolve_device("auto")), psutil.virtual_memory().total
    message, facts = f"{_size(free)} free of {_size(total)}", {"free": free, "total": total}
    if free < MIN_MEMORY:
        return Finding("memory", State.WARNING, message, "Close other programs before upscaling to 8K or more.", facts)
    return Finding("memory", State.OK, message, facts=facts)


def check_threads() -> Finding:
    """Report the number of threads."""
    threads, processors = torch.get_num_threads(), os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS")
    message = f"{threads} of {processors} processors" + (f" (OMP_NUM_THREADS={limit})" if limit else "")
    return Finding("threads", State.OK, message, facts={"threads": threads, "processors": processors})


def check_kernels() -> Finding:
    """Check that oneDNN's fused kernels can be used on the CPU."""
    if onednn_usable(torch.empty(0)):
        return Finding("kernels", State.OK, "oneDNN's fused kernels on the CPU", facts={"fused": True})
    message = "plain kernels on the CPU: the same results, but slower"
    step = f"Use torch {TESTED_TORCH[-1]} in a build with oneDNN."
    return Finding("kernels", State.WARNING, message, step, {"fused": False})


def check_cache() -> Finding:
    """Check that the Hub cache is writable and that the disk has space."""
    folder = Path(constants.HF_HUB_CACHE)
    size = sum(file.stat().st_size for file in folder.glob("models--*/blobs/*") if file.is_file())
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    facts = {"folder": str(folder), "bytes": size, "writable": True}
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        message = f"Cannot write to {folder}: {error.strerror or error}"
        return Finding("cache", State.ERROR, message, "Set HF_HOME to a writable folder.", facts | {"writable": False})
    free = shutil.disk_usage(existing).free
    message = f"{folder}: {_size(size)} of models, {_size(free)} free"
    if free < MIN_DISK:
        return Finding("cache", State.WARNING, message, "Free disk space, or set HF_HOME to another disk.", facts)
    return Finding("cache", State.OK, message, facts=facts)


def check_cached_model(config: Path) -> Finding | None:
    """Report a damaged PCSR model in the cache. Models of other programs are ignored."""
    weights = config.with_name("model.safetensors")
    if not weights.is_file() or config.stat().st_size > MAX_CONFIG:
        return None
    files = (config, weights) if b'"heavy_sampler_spec"' in config.read_bytes() else (config,)
    damaged = [file.name for file in files if not is_whole(file)]
    if not damaged:
        return None
    repo = config.parents[2].name.removeprefix("models--").replace("--", "/", 1)
    message = f"damaged in {config.parent}: {' and '.join(damaged)} of {repo}"
    step = f"Run: pcsr models fetch {repo}@{revision_of(config)}"
    return Finding("cache entry", State.ERROR, message, step, {"repo": repo, "files": damaged})


def check_model(entry: Entry, registry: Registry) -> Finding:
    """Load a model of the registry, unless it is on the Hub and not in the cache."""
    subject, location = f"model {entry.name}", entry.location
    missing = {"available": False}
    if isinstance(location, HubLocation):
        if not is_cached(location):
            message = f"not in the cache; it is downloaded from {location.repo} on first use"
            return Finding(subject, State.OK, message, facts=missing)
        if not is_whole_here(location, entry.sha256):
            message = "damaged in the cache; it is downloaded again on next use"
            return Finding(subject, State.WARNING, message, f"Run: pcsr models fetch {entry.name}", missing)
    try:
        sha256 = load_model(entry.name, "cpu", "fp32", registry).identity.sha256
    except PcsrError as error:
        return Finding(subject, State.ERROR, error.sentence, error.next_step, missing)
    is_verified = entry.sha256 is not None or isinstance(location, HubLocation)
    message = f"sha256 {sha256}" + (", as expected" if is_verified else "")
    return Finding(subject, State.OK, message, facts={"available": True, "sha256": sha256})


def check_hub(registry: Registry) -> Finding:
    """Check that the Hub answers for a model of the registry, without a download."""
    facts: dict[str, object] = {"endpoint": constants.ENDPOINT, "offline": constants.HF_HUB_OFFLINE}
    on_hub = [(entry.location, entry.name) for entry in registry.entries.values()]
    asked = [(location, name) for location, name in on_hub if isinstance(location, HubLocation)]
    if not asked:
        return Finding("hub", State.OK, "no model of the registry is on the Hub", facts=facts)
    error = _hub_error(*asked[0])
    if error is None:
        return Finding("hub", State.OK, f"{constants.ENDPOINT} answers", facts=facts | {"reachable": True})
    return Finding("hub", State.WARNING, error.sentence, error.next_step, facts | {"reachable": False})


def _hub_error(location: HubLocation, name: str) -> HubError | None:
    """Return the reason why the Hub cannot be used, or None."""
    answers: list[HubError | None] = []

    def ask() -> None:
        try:
            reach(location, name)
            answers.append(None)
        except HubError as error:
            answers.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT)
    if answers:
        return answers[0]
    return HubError(
        f"No model can be fetched: {constants.ENDPOINT} does not answer.",
        "Cached models and builtin work without it. Check the network, HF_ENDPOINT and the proxy.",
    )


def check_formats() -> Finding:
    """List the image formats that work, and those with 16 bits per channel."""
    working = [format for format in FORMATS if _format_error(format) is None]
    names, deep = [format.name for format in working], [format.name for format in working if format.deep]
    message = f"{', '.join(names)}; with 16 bits per channel: {', '.join(deep)}"
    return Finding("formats", State.OK, message, facts={"formats": names, "deep": deep})


def check_format(format: Format) -> Finding | None:
    """Report an image format that does not work."""
    error = _format_error(format)
    if error is None:
        return None
    step = f"Run: pip install {format.plug_in}" if format.plug_in else "Install Pillow from PyPI."
    state = State.WARNING if format.plug_in else State.ERROR
    return Finding(f"format {format.name}", state, error, step, {"plug_in": format.plug_in or None})


def _format_error(format: Format) -> str | None:
    """Write and read an image in a format, and return why that failed, or None."""
    if not format.installed:
        return f"needs {format.plug_in}, which is not installed"
    file = io.BytesIO()
    try:
        formats.load_plug_in(format)
        Image.new("RGB", (16, 16)).save(file, format.pillow)
        with Image.open(file) as image:
            image.load()
    except Exception as error:  # plug-ins raise any type of exception
        return f"does not work: {' '.join(str(error).split()) or type(error).__name__}"
    return None


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


MACHINE_CHECKS: tuple[Check, ...] = (
    check_versions,
    check_torch,
    check_libraries,
    check_device,
    check_memory,
    check_threads,
    check_kernels,
)
