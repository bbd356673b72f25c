"""The checks of ``pcsr doctor``: the installation, the machine, the models and the image formats.

``examine`` runs the checks. Each check is a function that yields its findings, usually one."""

import importlib
import io
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

import pcsr_cli
from pcsr_cli.api import load_model
from pcsr_cli.engine.device import describe_device, resolve_device
from pcsr_cli.engine.fused.kernels import onednn_problem
from pcsr_cli.engine.limits import describe_load, total_memory
from pcsr_cli.engine.memory import free_memory
from pcsr_cli.errors import HubError, PcsrError
from pcsr_cli.images import formats
from pcsr_cli.images.files import exists
from pcsr_cli.images.formats import FORMATS, Format
from pcsr_cli.model.client import client, endpoint
from pcsr_cli.model.hub import MAX_CONFIG, HubLocation, is_cached, is_whole, is_whole_here, reach, revision_of
from pcsr_cli.model.registry import Entry, Registry, load_registry

TESTED_TORCH = ("2.9.1", "2.14.1", "2.13.0")
"""The versions of torch that the test suite was run with. The published figures were made with the last version in the
list."""

LIBRARIES = ("pillow", "pyvips", "simplejpeg", "numpy", "safetensors", "huggingface_hub", "typer", "rich")
DECODERS = {"pyvips": "pyvips pyvips-binary", "simplejpeg": "simplejpeg"}
"""Libraries that are imported when the first image is read, and the packages that contain them."""

MIN_MEMORY = 2**30
"""The free bytes of memory that upscaling to 8K with ADM needs, with a margin of a tenth."""

MIN_DISK = 100 * 2**20
"""Free bytes that a model in the cache needs at most."""


State = Literal["ok", "missing", "problem"]
"""``missing``: pcsr works, but slower or with fewer features. ``problem``: something that pcsr needs does not work."""


@dataclass(frozen=True)
class Finding:
    """The result of a check: a short message, a next step unless the state is ok, and facts for the JSON document."""

    subject: str
    state: State
    message: str
    next_step: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


def examine(own_registry: Path | None = None) -> Iterator[Finding]:
    """Run all checks, which takes seconds. ``own_registry`` is a registry that extends the packaged one."""
    checks = (
        check_versions,
        check_torch,
        check_libraries,
        check_device,
        check_memory,
        check_threads,
        check_kernels,
        check_cache,
        partial(check_models, own_registry),
        check_formats,
    )
    for check in checks:
        yield from check()


def check_versions() -> Iterator[Finding]:
    """Report the versions of pcsr, Python and the system."""
    python, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    message = f"pcsr {pcsr_cli.__version__}, Python {python}, {system}"
    facts = {"pcsr": pcsr_cli.__version__, "python": python, "executable": sys.executable}
    yield Finding("versions", "ok", message, facts=facts)


def check_torch() -> Iterator[Finding]:
    """Compare the version of torch with the tested ones."""
    version, facts = torch.__version__, {"version": torch.__version__, "tested": TESTED_TORCH}
    if version.partition("+")[0] in TESTED_TORCH:
        yield Finding("torch", "ok", version, facts=facts)
    else:
        message = f"{version} is not one of the tested versions ({', '.join(TESTED_TORCH)})"
        yield Finding("torch", "missing", message, f"Run: pip install torch=={TESTED_TORCH[-1]}", facts)


def check_libraries() -> Iterator[Finding]:
    """Report the versions of the libraries that pcsr needs."""
    versions: dict[str, str | None] = dict.fromkeys(LIBRARIES)
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    missing = [name for name, version in versions.items() if version is None]
    message = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
    step = f"Run: pip install {' '.join(missing)}" if missing else ""
    yield Finding("libraries", "problem" if missing else "ok", message, step, versions)
    for name, packages in DECODERS.items():
        if versions[name] is not None and (error := _import_error(name)):
            step = f"Run: pip install --force-reinstall {packages}"
            yield Finding(f"library {name}", "problem", f"{name} does not load: {error}", step)


def _import_error(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except Exception as error:  # a library that does not fit the system raises any type of exception
        return " ".join(str(error).split()) or type(error).__name__
    return None


def check_device() -> Iterator[Finding]:
    """Report the device that pcsr uses by default, and an NVIDIA GPU that torch cannot use."""
    device = resolve_device("auto")
    facts = {"device": str(device), "cuda": torch.cuda.device_count(), "mps": torch.backends.mps.is_available()}
    if device.type == "cpu" and shutil.which("nvidia-smi"):
        message = "cpu, because this build of PyTorch cannot use the NVIDIA GPU of this machine"
        step = "Install a CUDA build of PyTorch and the driver for it."
        yield Finding("device", "missing", message, step, facts)
    else:
        yield Finding("device", "ok", describe_device(device), facts=facts)


def check_memory() -> Iterator[Finding]:
    """Check that there is enough free memory for large images."""
    free, total = free_memory(resolve_device("auto")), total_memory()
    short = free < MIN_MEMORY
    step = "Close other programs before upscaling to 8K or more." if short else ""
    message = f"{_size(free)} free of {_size(total)}"
    yield Finding("memory", "missing" if short else "ok", message, step, {"free": free, "total": total})


def check_threads() -> Iterator[Finding]:
    """Report the number of threads, and whether other programs keep the processors busy."""
    threads, processors = torch.get_num_threads(), os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS")
    message = f"{threads} of {processors} processors" + (f" (OMP_NUM_THREADS={limit})" if limit else "")
    busy = describe_load()
    step = "Close other programs before work that takes long." if busy else ""
    message += f"; {busy}" if busy else ""
    facts = {"threads": threads, "processors": processors}
    yield Finding("threads", "missing" if busy else "ok", message, step, facts)


def check_kernels() -> Iterator[Finding]:
    """Report whether oneDNN's fused kernels passed their self-test on the CPU, and whether bfloat16 is fast."""
    problem = onednn_problem(torch.float32)
    if problem is None:
        slower = onednn_problem(torch.bfloat16)
        halves = "bfloat16 is faster than float32" if slower is None else f"bfloat16 is not faster: {slower}"
        facts = {"fused": True, "bfloat16": slower is None}
        yield Finding("kernels", "ok", f"oneDNN's fused kernels on the CPU; {halves}", facts=facts)
        return
    message = f"plain operations on the CPU, with the same results but slower: {problem}"
    step = f"Install torch {TESTED_TORCH[-1]} in a build with oneDNN."
    yield Finding("kernels", "missing", message, step, {"fused": False, "bfloat16": False})


def check_cache() -> Iterator[Finding]:
    """Check that the Hub cache is writable, that the disk has space, and that PCSR models in it are undamaged."""
    try:
        folder = Path(client().constants.HF_HUB_CACHE)
    except HubError as error:
        yield Finding("cache", "problem", error.sentence, error.next_step)
        return
    size = sum(file.stat().st_size for file in folder.glob("models--*/blobs/*") if file.is_file())
    existing = next(path for path in (folder, *folder.parents) if exists(path))
    facts = {"folder": str(folder), "bytes": size, "writable": True}
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        message, facts["writable"] = f"Cannot write to {folder}: {error.strerror or error}", False
        yield Finding("cache", "problem", message, "Set HF_HOME to a writable folder.", facts)
    else:
        free = shutil.disk_usage(existing).free
        full = free < MIN_DISK
        step = "Free disk space, or set HF_HOME to another disk." if full else ""
        message = f"{folder}: {_size(size)} of models, {_size(free)} free"
        yield Finding("cache", "missing" if full else "ok", message, step, facts)
    for config in sorted(folder.glob("models--*/snapshots/*/config.json")):
        yield from _check_cached(config, config.with_name("model.safetensors"))


def _check_cached(config: Path, weights: Path) -> Iterator[Finding]:
    """Report a damaged PCSR model. Models of other programs are ignored."""
    if not weights.is_file():
        return
    files = [config]
    with suppress(OSError):  # a config that cannot be read is reported below
        if config.stat().st_size > MAX_CONFIG:  # it belongs to another program
            return
        if b'"heavy_sampler_spec"' in config.read_bytes():
            files.append(weights)
    if damaged := [file.name for file in files if not is_whole(file)]:
        repo = config.parents[2].name.removeprefix("models--").replace("--", "/", 1)
        message = f"damaged in {config.parent}: {' and '.join(damaged)} of {repo}"
        step = f"Run: pcsr models fetch {repo}@{revision_of(config)}"
        yield Finding("cache entry", "problem", message, step, {"repo": repo, "files": damaged})


def check_models(own_registry: Path | None = None) -> Iterator[Finding]:
    """Check the registry and each model in it, and whether the Hub responds to a request for one of the models."""
    try:
        registry = load_registry(own_registry)
    except PcsrError as error:
        yield Finding("registry", "problem", error.sentence, error.next_step)
        return
    for entry in registry.entries.values():
        yield _check_model(entry, registry)
    yield _check_hub([entry for entry in registry.entries.values() if isinstance(entry.location, HubLocation)])


def _check_model(entry: Entry, registry: Registry) -> Finding:
    """Load a model, unless it is on the Hub and not in the cache."""
    subject, location, missing = f"model {entry.name}", entry.location, {"available": False}
    try:
        if isinstance(location, HubLocation) and not is_cached(location):
            message = f"not in the cache; it is downloaded from {location.repo} on first use"
            return Finding(subject, "ok", message, facts=missing)
        if isinstance(location, HubLocation) and not is_whole_here(location):
            message = "damaged in the cache; it is downloaded again on next use"
            return Finding(subject, "missing", message, f"Run: pcsr models fetch {entry.name}", missing)
        sha256 = load_model(entry.name, "cpu", "fp32", registry).identity.sha256
    except PcsrError as error:
        return Finding(subject, "problem", error.sentence, error.next_step, missing)
    message = f"sha256 {sha256}" + (", as expected" if entry.sha256 else "")
    return Finding(subject, "ok", message, facts={"available": True, "sha256": sha256})


def _check_hub(entries: Sequence[Entry]) -> Finding:
    try:
        facts = {"endpoint": endpoint(), "offline": client().constants.HF_HUB_OFFLINE}
    except HubError as error:
        return Finding("hub", "missing", error.sentence, error.next_step, {"reachable": False})
    if not entries:
        return Finding("hub", "ok", "no model of the registry is on the Hub", facts=facts)
    assert isinstance(entries[0].location, HubLocation)
    try:
        reach(entries[0].location, entries[0].name)
    except HubError as error:
        message = f"{error.sentence} Cached and packaged models work without the Hub."
        return Finding("hub", "missing", message, error.next_step, facts | {"reachable": False})
    return Finding("hub", "ok", f"{endpoint()} responds", facts=facts | {"reachable": True})


def check_formats() -> Iterator[Finding]:
    """List the image formats that work, and which of them have 16 bits per channel. Report formats that do not work."""
    errors = {format: _format_error(format) for format in FORMATS}
    names = [format.name for format, error in errors.items() if error is None]
    deep = [format.name for format, error in errors.items() if error is None and format.deep]
    message = f"{', '.join(names)}; with 16 bits per channel: {', '.join(deep)}"
    yield Finding("formats", "ok", message, facts={"formats": names, "deep": deep})
    for format, error in errors.items():
        if error is not None:
            step = f"Run: pip install {format.plug_in}" if format.plug_in else "Install Pillow from PyPI."
            state: State = "missing" if format.plug_in else "problem"
            yield Finding(f"format {format.name}", state, error, step, {"plug_in": format.plug_in or None})


def _format_error(format: Format) -> str | None:
    """Write and read an image in a format, and return the reason why that failed, or None."""
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
