"""Devices, precisions, memory, and the conversion of pixels."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pcsr_cli.engine import upscale as upscaling
from pcsr_cli.engine.device import (
    PEAKS,
    Downloads,
    as_lr,
    describe_device,
    device_notes,
    full_float32,
    peak_memory,
    resolve_device,
    resolve_precision,
    to_levels,
    to_numbers,
    upload,
    upload_numbers,
)
from pcsr_cli.errors import DeviceError
from tests.command import ROOT
from tests.failing import fails
from tests.tiny import make_image, tiny_model

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def pretend(monkeypatch: pytest.MonkeyPatch, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(0, False, CPU), (0, True, CPU), (1, False, CUDA), (2, True, CUDA)]
)
def test_auto_takes_cuda_before_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, expected: torch.device
) -> None:
    pretend(monkeypatch, cuda, mps)
    assert resolve_device("auto") == expected


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:1", "mps"])
def test_available_devices_are_accepted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend(monkeypatch, cuda=2, mps=True)
    assert str(resolve_device(name)) == name


@pytest.mark.parametrize("name", ["cuda:2", "cuda:99", "mps"])
def test_missing_devices_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend(monkeypatch, cuda=2)
    with fails(DeviceError, f"The device {name} is not available on this machine."):
        resolve_device(name)


@pytest.mark.parametrize(
    "name",
    ["", "toaster", "CPU", "meta", "xpu", "mps:1", "cuda:", "cuda:-1", "cuda:one", "cpu cuda", "cuda:" + "9" * 40],
)
def test_unknown_devices_are_refused(name: str) -> None:
    with fails(DeviceError, f"Unknown device {name!r}."):
        resolve_device(name)


@pytest.mark.parametrize("device", [CPU, CUDA, MPS], ids=str)
def test_precisions_are_types(device: torch.device) -> None:
    assert resolve_precision("auto", device) == resolve_precision("fp32", device) == torch.float32
    assert resolve_precision("fp16", device) == torch.float16
    assert device == MPS or resolve_precision("bf16", device) == torch.bfloat16


def test_unsupported_precisions_are_refused() -> None:
    with fails(DeviceError, "bf16 is not supported on mps."):
        resolve_precision("bf16", MPS)
    with fails(DeviceError, "Unknown precision 'fp64'.", "Use one of auto, fp32, fp16, bf16."):
        resolve_precision("fp64", CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize(("threads", "text"), [(1, "cpu (1 thread)"), (2, "cpu (2 threads)")])
def test_the_cpu_is_described_with_its_threads(threads: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert describe_device(CPU) == text


def touched(size: int) -> bytearray:
    """Allocate memory and write to each page."""
    block = bytearray(size)
    block[:: 2**12] = b"x" * len(block[:: 2**12])
    return block


MEASURE = """
import torch
from pcsr_cli.engine.device import peak_memory
from tests.engine.test_device import touched
before = peak_memory(torch.device("cpu"))
block = touched(before + 2**26)
print(before, peak_memory(torch.device("cpu")))
"""


@pytest.mark.slow
def test_peak_memory_counts_the_bytes_of_this_process() -> None:
    touched(2**30)  # raises the peak of this process, which must not count
    done = subprocess.run([sys.executable, "-c", MEASURE], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 2**24 < before < 2**30 and before + 2**26 <= after < before + 2**30


def test_an_unrecorded_peak_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for content in ("Name: python", "VmHWM:", "VmHWM: much kB"):
        monkeypatch.setattr(Path, "read_text", lambda *_, content=content, **__: content)
        assert peak_memory(CPU) is None


class TestFullFloat32:
    """CUDA computes float32 in full precision, and the previous setting returns on every path."""

    PARTS = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]

    @pytest.fixture(autouse=True, params=["tf32", "ieee"])
    def setting(self, request: pytest.FixtureRequest) -> Iterator[str]:
        before = self.settings()
        self.set_all(request.param)
        yield request.param
        for part, precision in zip(self.PARTS, before, strict=True):
            part.fp32_precision = precision

    def settings(self) -> list[str]:
        return [part.fp32_precision for part in self.PARTS]

    def set_all(self, precision: str) -> None:
        for part in self.PARTS:
            part.fp32_precision = precision

    def test_the_setting_returns_after_the_block(self, setting: str) -> None:
        with full_float32(CUDA):
            assert self.settings() == ["ieee", "ieee"]
            with full_float32(CUDA):
                pass
            assert self.settings() == ["ieee", "ieee"]
        assert self.settings() == [setting, setting]
        with pytest.raises(KeyboardInterrupt), full_float32(CUDA):
            raise KeyboardInterrupt
        assert self.settings() == [setting, setting]

    def test_other_devices_keep_the_setting(self, setting: str) -> None:
        for device in (CPU, MPS):
            with full_float32(device):
                assert self.settings() == [setting, setting]

    def test_the_setting_returns_after_the_last_thread(self, setting: str) -> None:
        inside, leave = threading.Barrier(2, timeout=10), threading.Event()

        def work() -> None:
            with full_float32(CUDA):
                inside.wait()
                leave.wait(10)

        thread = threading.Thread(target=work)
        with full_float32(CUDA):
            thread.start()
            inside.wait()
        assert self.settings() == ["ieee", "ieee"], "the other thread still needs it"
        leave.set()
        thread.join()
        assert self.settings() == [setting, setting]

    def test_a_value_set_by_another_thread_is_kept(self) -> None:
        with full_float32(CUDA):
            thread = threading.Thread(target=self.set_all, args=("tf32",))
            thread.start()
            thread.join()
        assert self.settings() == ["tf32", "tf32"]

    def test_an_abandoned_upscale_restores_the_setting(self, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(upscaling, "full_float32", lambda _: full_float32(CUDA))
        rows = upscaling.upscale(tiny_model("dense"), make_image(9, 9), 2, upscaling.Settings(refine=1, tile=5))
        next(rows)
        assert self.settings() == [setting, setting], "the caller's setting applies between two rows"


def test_a_note_reports_that_mps_is_untested() -> None:
    assert "untested" in device_notes(MPS)[0]
    assert device_notes(CPU) == device_notes(CUDA) == ()


each_type = pytest.mark.parametrize("dtype", PEAKS, ids=str)


@each_type
def test_every_level_round_trips(dtype: torch.dtype) -> None:
    every = torch.arange(PEAKS[dtype] + 1, dtype=torch.int32).to(dtype)
    assert torch.equal(to_levels(to_numbers(every), dtype).int(), every.int())


@each_type
def test_numbers_are_rounded_and_clamped(dtype: torch.dtype) -> None:
    peak = PEAKS[dtype]
    numbers = torch.tensor([-1e9, 0.0, 0.49 / peak, 0.51 / peak, 1.5 / peak, 1.0, 7.0])
    before = numbers.clone()
    assert to_levels(numbers, dtype).tolist() == [0, 0, 0, 1, 2, peak, peak]
    assert torch.equal(numbers, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_floats_are_returned_unchanged(dtype: torch.dtype) -> None:
    numbers = torch.rand(4).to(dtype)
    assert to_numbers(numbers) is numbers
    assert to_levels(numbers, dtype) is numbers


def test_images_are_copied_only_if_pytorch_cannot_share_them() -> None:
    image = np.arange(4 * 5 * 3, dtype=np.uint16).reshape(4, 5, 3)
    lr = as_lr(image)
    assert lr.shape == (1, 3, 4, 5) and lr[0, 2, 1, 3] == image[1, 3, 2]
    assert lr.data_ptr() == image.ctypes.data
    mirrored = image[:, ::-1]
    assert np.array_equal(as_lr(mirrored)[0].numpy(), mirrored.transpose(2, 0, 1))
    image.flags.writeable = False
    assert np.array_equal(as_lr(image)[0].numpy(), image.transpose(2, 0, 1))


def test_transfers_within_the_host_are_immediate() -> None:
    values = torch.rand(2, 3)
    assert upload(values, CPU) is values
    target = torch.zeros(2, 3)
    Downloads().bring(values[:, 1:], target[:, 1:])
    assert torch.equal(target[:, 1:], values[:, 1:])
    assert (target[:, 0] == 0).all()


def test_uint16_is_converted_before_the_upload() -> None:
    meta = torch.device("meta")  # represents a device without uint16
    sent: list[torch.dtype] = []

    class Sent(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.device == meta:
                sent.append(out.dtype)
            return out

    with Sent():  # type: ignore[no-untyped-call]
        numbers = upload_numbers(torch.zeros(3, dtype=torch.uint16), meta)
    assert numbers.dtype == torch.float32 and numbers.device == meta
    assert sent and torch.uint16 not in sent
