"""The limits of a container are read from its control group, in both layouts, and from ``ulimit``."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest
import torch

from pcsr_cli.engine import device, limits
from pcsr_cli.engine.device import resolve_device
from pcsr_cli.engine.limits import OTHER_THREADS, allowed_threads, available_memory, total_memory
from tests.command import ROOT

MIB = 2**20
Group = Callable[[str, Mapping[str, object]], None]


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Group:
    """Make a control group: the line of /proc/self/cgroup, and the content of its files."""
    monkeypatch.setattr(limits, "GROUPS", tmp_path)
    monkeypatch.setattr(limits, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)

    def make(line: str, files: Mapping[str, object]) -> None:
        (tmp_path / "own").write_text(f"9:name=systemd:/\n{line}\n")
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{content}\n")

    return make


@pytest.mark.parametrize(("load", "busy"), [(0.0, False), (2.4, False), (2.6, True), (9.0, True)])
def test_a_busy_machine_is_described(monkeypatch: pytest.MonkeyPatch, load: float, busy: bool) -> None:
    monkeypatch.setattr("psutil.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert limits.describe_load() == (f"the processors are busy: load {load} on 2" if busy else "")


def test_without_a_group_the_limits_are_those_of_the_machine(group: Group) -> None:
    assert total_memory() == psutil.virtual_memory().total
    assert 0 < available_memory() <= total_memory()
    assert allowed_threads() == 16
    group("0::/", {"memory.max": "max", "memory.current": 5, "cpu.max": "max 100000", "pids.max": "max"})
    assert total_memory() == psutil.virtual_memory().total
    assert allowed_threads() == 16


def test_memory_is_that_of_the_group(group: Group) -> None:
    stat = f"anon 12345\ninactive_file {10 * MIB}\nactive_file 7"
    group("0::/", {"memory.max": 512 * MIB, "memory.current": 200 * MIB, "memory.stat": stat})
    assert total_memory() == 512 * MIB
    assert available_memory() == 322 * MIB


def test_memory_is_that_of_the_group_in_the_old_layout(group: Group) -> None:
    files = {"memory.limit_in_bytes": 512 * MIB, "memory.usage_in_bytes": 200 * MIB}
    group("4:memory:/", {f"memory/{name}": content for name, content in files.items()})
    assert total_memory() == 512 * MIB
    assert available_memory() == 312 * MIB


def test_a_group_that_exceeds_its_limit_has_no_memory_left(group: Group) -> None:
    group("0::/", {"memory.max": MIB, "memory.current": 2 * MIB})
    assert available_memory() == 0


def test_the_limits_of_parents_apply(group: Group) -> None:
    files = {"a/b/memory.max": 100 * MIB, "a/b/memory.current": MIB, "a/memory.max": 90 * MIB, "a/memory.current": MIB}
    group("0::/a/b", {**files, "a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"})
    assert total_memory() == 90 * MIB
    assert available_memory() == 89 * MIB
    assert allowed_threads() == 3


@pytest.mark.parametrize(
    ("line", "files", "threads"),
    [
        ("0::/", {"cpu.max": "100000 100000"}, 1),
        ("0::/", {"cpu.max": "20000 100000"}, 1),
        ("0::/", {"cpu.max": "250000 100000"}, 2),
        ("1:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": 400000, "cpu/cpu.cfs_period_us": 100000}, 4),
        ("1:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 100000}, 16),
        ("0::/", {"pids.max": 20 + OTHER_THREADS, "pids.current": 15}, 5),
        ("8:pids:/", {"pids/pids.max": 20, "pids/pids.current": 19}, 1),
    ],
)
def test_threads_are_those_of_the_group(group: Group, line: str, files: Mapping[str, object], threads: int) -> None:
    group(line, files)
    assert allowed_threads() == threads


@pytest.mark.parametrize(("own", "expected"), [(None, [2]), ("16", [])])
def test_a_device_uses_the_threads_of_the_group_unless_the_user_sets_a_number(
    own: str | None, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(device, "allowed_threads", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", own or "")
    resolve_device("cpu")
    assert used == expected


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the address space")
def test_memory_is_limited_by_ulimit() -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30));"
    code += "from pcsr_cli.engine.limits import available_memory; print(available_memory())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 2**28 < int(done.stdout) < 2**30
