"""Versions, device, memory, threads, and whether the fast kernels can be used."""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata

import psutil
import torch

import pcsr_cli
from pcsr_cli.devices import describe_device, resolve_device
from pcsr_cli.doctor.finding import Finding, State, megabytes
from pcsr_cli.engine.memory import free_memory
from pcsr_cli.fast.kernels import onednn_usable

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
