"""The memory, processors and threads that the machine, a container and ``ulimit`` leave to this process.

Linux keeps the limits of a container in files of its control group, in one of two layouts. The limits of the parents
of a group apply as well.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")

MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""For each layout: the file with the limit of memory, the file with the memory in use, and the line of ``memory.stat``
with the cache of files. The use includes the cache of files, which is released when memory is short.
"""

OWN_LOAD = 0.5
"""The load of a minute that pcsr itself may have caused just before."""

OTHER_THREADS = 8
"""Threads for reading, writing and progress, besides those that compute."""


def available_memory() -> int:
    """The bytes of memory that this process can still use."""
    found = [int(psutil.virtual_memory().available)]
    for folder in _groups("memory"):
        for limit, use, cache in MEMORY_FILES:
            most, used = _number(folder / limit), _number(folder / use)
            if most is not None and used is not None:
                found.append(most - used + _line(folder / "memory.stat", cache))
    if resource is not None:
        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            found.append(most - int(psutil.Process().memory_info().vms))
    return max(0, min(found))


def total_memory() -> int:
    """Return the bytes of memory in the machine, or the limit of the container if it is lower."""
    limits = (_number(folder / files[0]) for folder in _groups("memory") for files in MEMORY_FILES)
    return min([int(psutil.virtual_memory().total), *(limit for limit in limits if limit is not None)])


def allowed_threads() -> int:
    """The number of threads that can compute at the same time, at least 1."""
    found = [float(os.cpu_count() or 1)]
    for folder in _groups("cpu"):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        quota, period = quota or _text(folder / "cpu.cfs_quota_us"), period or _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():  # otherwise it is "max" or -1
            found.append(round(int(quota) / int(period)))
    for folder in _groups("pids"):
        most, used = _number(folder / "pids.max"), _number(folder / "pids.current")
        if most is not None and used is not None:
            found.append(most - used - OTHER_THREADS)
    return max(1, int(min(found)))


def describe_load() -> str:
    """Describe how busy other programs keep the processors, or return an empty text if some are free."""
    load, processors = psutil.getloadavg()[0], os.cpu_count() or 1
    return f"the processors are busy: load {load:.1f} on {processors}" if load > processors + OWN_LOAD else ""


def _groups(controller: str) -> Iterator[Path]:
    """The folders, which need not exist, of this process's control groups for a resource and of their parents."""
    for line in _text(OWN_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            root = GROUPS / controller if controllers else GROUPS
            folder = root / path.lstrip("/")
            yield from (each for each in (folder, *folder.parents) if each.is_relative_to(root))


def _line(path: Path, name: str) -> int:
    """The number after a name in a file of names and numbers, or 0 if the name is absent."""
    lines = (line.split() for line in _text(path).splitlines())
    return next((int(words[1]) for words in lines if words[0] == name), 0)


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
