"""Devices and precisions are found, or the user is told which there are."""

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
def test_auto_is_cuda_or_else_cpu(
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
    with fails(DeviceError, f"The device {name} is not available on this machine."):
        resolve_device(name)


@pytest.mark.parametrize("name", ["", "toaster", "CPU", "cuda:", "cuda:-1", "cuda:one", "cpu cuda", "cuda:" + "9" * 40])
def test_what_is_no_device_is_told(name: str) -> None:
    with fails(DeviceError, f"Unknown device {name!r}."):
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
    with fails(DeviceError, "Unknown precision 'fp64'.", "Use one of auto, fp32, fp16, bf16."):
        resolve_precision("fp64", CPU)  # type: ignore[arg-type]


def test_a_processor_is_described_by_its_threads() -> None:
    assert describe_device(CPU) == f"cpu ({torch.get_num_threads()} threads)"


def touched(size: int) -> bytearray:
    """A block of memory that is really there."""
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


def test_memory_is_counted_in_bytes_and_is_this_process_s_own() -> None:
    touched(2**30)  # so that the peak of the process that starts it is higher
    done = subprocess.run([sys.executable, "-c", MEASURE], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 2**24 < before < 2**30 and before + 2**26 <= after < before + 2**30


def test_a_peak_that_the_system_does_not_record_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for content in ("Name: python", "VmHWM:", "VmHWM: much kB"):
        monkeypatch.setattr(Path, "read_text", lambda *_, content=content, **__: content)
        assert peak_memory(CPU) is None


class TestFullFloat32:
    """On CUDA float32 is computed in full; the process's own setting comes back on every path."""

    PARTS = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]

    @pytest.fixture(autouse=True, params=["tf32", "ieee"])
    def asked(self, request: pytest.FixtureRequest) -> Iterator[str]:
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

    def test_ends_with_its_block(self, asked: str) -> None:
        with full_float32(CUDA):
            assert self.settings() == ["ieee", "ieee"]
            with full_float32(CUDA):
                pass
            assert self.settings() == ["ieee", "ieee"]
        assert self.settings() == [asked, asked]
        with pytest.raises(KeyboardInterrupt), full_float32(CUDA):
            raise KeyboardInterrupt
        assert self.settings() == [asked, asked]

    def test_is_left_alone_for_other_devices(self, asked: str) -> None:
        for device in (CPU, MPS):
            with full_float32(device):
                assert self.settings() == [asked, asked]

    def test_ends_with_the_last_of_several_threads(self, asked: str) -> None:
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
        assert self.settings() == [asked, asked]

    def test_a_value_set_by_another_thread_meanwhile_stays(self) -> None:
        with full_float32(CUDA):
            thread = threading.Thread(target=self.set_all, args=("tf32",))
            thread.start()
            thread.join()
        assert self.settings() == ["tf32", "tf32"]

    def test_does_not_outlive_an_upscale_that_is_given_up(self, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(upscaling, "full_float32", lambda _: full_float32(CUDA))
        rows = upscaling.upscale(tiny_model("dense"), make_image(9, 9), 2, upscaling.Settings(refine=1, tile=5))
        next(rows)
        assert self.settings() == [asked, asked], "between two rows the setting is the caller's"


def test_mps_is_said_to_be_untested() -> None:
    assert "untested" in device_notes(MPS)[0]
    assert device_notes(CPU) == device_notes(CUDA) == ()


each_type = pytest.mark.parametrize("dtype", PEAKS, ids=str)


@each_type
def test_every_level_survives(dtype: torch.dtype) -> None:
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
def test_numbers_stay_as_they_are(dtype: torch.dtype) -> None:
    numbers = torch.rand(4).to(dtype)
    assert to_numbers(numbers) is numbers
    assert to_levels(numbers, dtype) is numbers


def test_an_image_is_taken_as_it_lies_in_memory() -> None:
    image = np.arange(4 * 5 * 3, dtype=np.uint16).reshape(4, 5, 3)
    lr = as_lr(image)
    assert lr.shape == (1, 3, 4, 5) and lr[0, 2, 1, 3] == image[1, 3, 2]
    assert lr.data_ptr() == image.ctypes.data


def test_an_image_that_pytorch_cannot_share_is_copied() -> None:
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    assert (as_lr(image[:, ::-1])[0, 0] == torch.from_numpy(image[:, ::-1, 0].copy())).all()
    image.flags.writeable = False
    assert (as_lr(image)[0, 0] == torch.from_numpy(image[..., 0].copy())).all()


def test_a_tensor_already_on_the_device_is_not_copied() -> None:
    values = torch.rand(3)
    assert upload(values, CPU) is values


def test_a_download_from_the_host_is_done_at_once() -> None:
    target, values = torch.zeros(2, 3), torch.rand(2, 3)
    Downloads().bring(values[:, 1:], target[:, 1:])
    assert torch.equal(target[:, 1:], values[:, 1:])
    assert (target[:, 0] == 0).all()


def test_uint16_stays_on_the_host_where_a_device_may_not_have_it() -> None:
    meta = torch.device("meta")  # stands for such a device
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
