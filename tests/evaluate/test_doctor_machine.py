"""Shortfalls of the machine are named, and what to do about them."""

import shutil
from collections.abc import Callable
from importlib import metadata

import psutil
import pytest
import torch

import pcsr_cli
from pcsr_cli.evaluate import doctor as machine
from pcsr_cli.evaluate.doctor import Finding, State, examine_machine


def found() -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine_machine()}


def test_versions_and_figures_are_told() -> None:
    told = found()
    assert pcsr_cli.__version__ in told["versions"].said
    assert told["torch"].facts["version"] == torch.__version__
    assert told["libraries"].facts["pillow"] == metadata.version("pillow")
    assert told["memory"].facts["total"] == psutil.virtual_memory().total
    assert told["threads"].facts["threads"] == torch.get_num_threads()


def missing(name: str) -> str:
    if name == "pyvips":
        raise metadata.PackageNotFoundError
    return "1.0"


@pytest.mark.parametrize(
    ("where", "what", "instead", "subject", "state", "words"),
    [
        (metadata, "requires", lambda name: ["torch==1.2.3"], "torch", State.SHORT, "pip install torch==1.2.3"),
        (metadata, "version", missing, "libraries", State.BROKEN, "pip install pyvips"),
        (shutil, "which", lambda name: f"/usr/bin/{name}", "device", State.SHORT, "CUDA"),
        (machine, "free_memory", lambda device: 2**28, "memory", State.SHORT, "Close other programs"),
        (machine, "onednn_usable", lambda like: False, "kernels", State.SHORT, "oneDNN"),
    ],
)
def test_a_shortfall_is_named(
    monkeypatch: pytest.MonkeyPatch,
    where: object,
    what: str,
    instead: Callable[..., object],
    subject: str,
    state: State,
    words: str,
) -> None:
    monkeypatch.setattr(where, what, instead)
    finding = found()[subject]
    assert finding.state is state
    assert words in finding.next_step


def test_a_limit_on_threads_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS=1" in found()["threads"].said


def test_without_an_installed_package_there_is_no_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> list[str]:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "requires", gone)
    assert found()["torch"].facts["pinned"] is None
