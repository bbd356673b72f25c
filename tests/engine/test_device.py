"""Devices and precisions are found, or the user is told which there are."""

import subprocess
import sys

import pytest
import torch

from pcsr_cli.engine.device import describe_device, full_float32, resolve_device, resolve_precision
from pcsr_cli.errors import DeviceError
from tests.command import ROOT
from tests.failing import fails

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def pretend(monkeypatch: pytest.MonkeyPatch, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(0, False, CPU), (0, True, MPS), (1, False, CUDA), (2, True, CUDA)]
)
def test_auto_takes_the_best_there_is(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, expected: torch.device
) -> None:
    pretend(monkeypatch, cuda, mps)
    assert resolve_device("auto") == expected


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:1", "mps"])
def test_what_is_there_can_be_asked_for(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend(monkeypatch, cuda=2, mps=True)
    assert str(resolve_device(name)) == name


@pytest.mark.parametrize("name", ["cuda:2", "cuda:99", "meta", "xpu"])
def test_what_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend(monkeypatch, cuda=2)
    with fails(DeviceError, f"The device {name} is not available here."):
        resolve_device(name)


@pytest.mark.parametrize("name", ["", "toaster", "CPU", "cuda:", "cuda:-1", "cuda:one", "cpu cuda", "cuda:" + "9" * 40])
def test_what_is_no_device_is_told(name: str) -> None:
    with fails(DeviceError, f"{name!r} is no device."):
        resolve_device(name)


def test_auto_is_float32_everywhere() -> None:
    for device in (CPU, CUDA, MPS):
        assert resolve_precision("auto", device) == torch.float32


def test_precisions_have_their_types() -> None:
    assert resolve_precision("fp32", CPU) == torch.float32
    assert resolve_precision("fp16", CPU) == torch.float16
    assert resolve_precision("bf16", CUDA) == torch.bfloat16


def test_precisions_that_are_not_there_are_told() -> None:
    with fails(DeviceError, "bf16 is not supported on mps."):
        resolve_precision("bf16", MPS)
    with fails(DeviceError, "'fp64' is no precision.", "Choose one of auto, fp32, fp16, bf16."):
        resolve_precision("fp64", CPU)  # type: ignore[arg-type]


def test_a_processor_is_described_by_its_threads() -> None:
    assert describe_device(CPU) == f"cpu ({torch.get_num_threads()} threads)"


def touched(size: int) -> bytearray:
    """A block of memory that is really there."""
    block = bytearray(size)
    block[:: 2**12] = b"x" * len(block[:: 2**12])
    return block


PEAKS = """
import torch
from pcsr_cli.engine.device import peak_memory
from tests.engine.test_device import touched
before = peak_memory(torch.device("cpu"))
block = touched(before + 2**26)
print(before, peak_memory(torch.device("cpu")))
"""


def test_memory_is_counted_in_bytes_and_is_this_process_s_own() -> None:
    touched(2**30)  # so that the peak of the process that starts it is higher
    done = subprocess.run([sys.executable, "-c", PEAKS], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 2**24 < before < 2**30 and before + 2**26 <= after < before + 2**30


@pytest.mark.parametrize("asked", ["tf32", "ieee"])
def test_full_precision_ends_with_its_block(asked: str) -> None:
    parts = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [part.fp32_precision for part in parts]
    try:
        for part in parts:
            part.fp32_precision = asked
        with full_float32():
            assert [part.fp32_precision for part in parts] == ["ieee", "ieee"]
            with full_float32():
                pass
            assert [part.fp32_precision for part in parts] == ["ieee", "ieee"]
        assert [part.fp32_precision for part in parts] == [asked, asked]
    finally:
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision
