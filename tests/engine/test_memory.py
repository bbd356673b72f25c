"""Tiles, strips and budgets fit the memory, and the peak does not grow with the result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pcsr_cli.api import load_model
from pcsr_cli.engine import memory
from pcsr_cli.engine.memory import (
    CPU_TILE_PIXELS,
    CPU_TILE_WIDTH,
    DEVICE_TILES,
    KERNEL_CACHES,
    MAX_BUDGET,
    MAX_KERNELS,
    MIN_STRIP_ROWS,
    STRIP_BYTES,
    auto_tile,
    bytes_per_lr_pixel,
    feature_budget,
    strip_rows,
)
from tests.command import ROOT
from tests.tiny import tiny_model

CPU = torch.device("cpu")


class _OnCuda:
    """A model that reports a GPU as its device."""

    def __init__(self) -> None:
        self.model = tiny_model("carn")
        self.device = torch.device("cuda:0")
        self.dtype = self.model.dtype
        self.spec = self.model.spec


def test_a_cpu_tile_is_as_high_as_the_image() -> None:
    assert auto_tile(tiny_model("carn"), 4, (5000, 7000)) == (5000, CPU_TILE_WIDTH)


@pytest.mark.parametrize(("lr_size", "rows"), [((10**8, 1), CPU_TILE_PIXELS), ((10**6, 10**4), 10_922)])
def test_a_cpu_tile_of_a_long_image_is_bounded(lr_size: tuple[int, int], rows: int) -> None:
    assert auto_tile(tiny_model("carn"), 1, lr_size)[0] == rows


@pytest.mark.parametrize("free", [10**6, 10**9, 10**12])
def test_a_device_tile_uses_half_of_the_free_memory(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    model = _OnCuda()
    height, width = auto_tile(model, 4, (5000, 7000))  # type: ignore[arg-type]
    assert height == width
    assert height in DEVICE_TILES
    if height > DEVICE_TILES.start:
        assert height * width * bytes_per_lr_pixel(model.model, 4) <= free / 2


@pytest.mark.parametrize(("pixel_bytes", "scale"), [(3, 4), (6, 4), (12, 2.5), (3, 1)])
@pytest.mark.parametrize("lr_size", [(9000, 12000), (8192, 8192), (2160, 3840)])
def test_a_strip_of_the_result_is_bounded(lr_size: tuple[int, int], scale: float, pixel_bytes: int) -> None:
    rows = strip_rows(lr_size, scale, pixel_bytes)
    assert rows * scale * lr_size[1] * scale * pixel_bytes <= STRIP_BYTES
    more = (rows + 1) * scale * lr_size[1] * scale * pixel_bytes
    assert more > STRIP_BYTES or rows == lr_size[0], "the strip could have been higher"
    assert auto_tile(tiny_model("carn"), scale, lr_size, pixel_bytes) == (rows, CPU_TILE_WIDTH)


def test_only_large_images_have_several_strips() -> None:
    assert strip_rows((1080, 1920), 4, 3) == 1080
    assert strip_rows((9000, 10**6), 4, 3) == MIN_STRIP_ROWS
    assert strip_rows((50, 10**6), 4, 3) == 50
    assert strip_rows((10**6, 10**6), 4, 0) == 10**6, "a whole result needs no strips"


def test_a_strip_limits_the_tile_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 10**12)
    height, width = auto_tile(_OnCuda(), 4, (9000, 40_000), 3)  # type: ignore[arg-type]
    assert (height, width) == (strip_rows((9000, 40_000), 4, 3), DEVICE_TILES.stop - 1)


def test_larger_scales_need_more_memory() -> None:
    model = tiny_model("dense")
    assert bytes_per_lr_pixel(model, 4) > bytes_per_lr_pixel(model, 2)


@pytest.mark.parametrize(
    ("given", "free", "budget"), [(12345, 0, 12345), (0, 2**40, 0), (None, 2**40, MAX_BUDGET), (None, 2**20, 2**18)]
)
def test_the_budget_is_given_or_a_quarter_of_the_free_memory(
    given: int | None, free: int, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    assert feature_budget(CPU, given) == budget


def test_memory_cached_by_pytorch_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 30)
    assert memory.free_memory(torch.device("cuda:0")) == 770
    assert memory.free_memory(CPU) > 2**20


@pytest.mark.parametrize("given", ["5", None])
def test_a_loaded_model_limits_the_kernel_caches_unless_the_user_did(
    tiny_folder: Path, given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KERNEL_CACHES:
        monkeypatch.setenv(name, "1")  # restores the variable after the test
        monkeypatch.delenv(name) if given is None else monkeypatch.setenv(name, given)
    load_model(str(tiny_folder))
    assert {os.environ[name] for name in KERNEL_CACHES} == {given or str(MAX_KERNELS)}


SIZES = """
import sys
import numpy as np, psutil, torch
from pcsr_cli.api import load_model, upscale
from pcsr_cli.engine import memory

torch.set_num_threads(1)
memory.MAX_KERNELS = 16  # a low limit is reached sooner
model = load_model("builtin", "cpu")
for index in range(90):
    height, width = 8 + index % 13, 8 + index % 11
    upscale(np.full((height, width, 3), index, np.uint8), model, 2)
    if index in (29, 89):
        print(psutil.Process().memory_info().rss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_image_sizes() -> None:
    done = subprocess.run([sys.executable, "-c", SIZES], cwd=ROOT, capture_output=True, text=True, check=True)
    early, late = map(int, done.stdout.split())
    assert late - early < 30 * 2**20


ENLARGE = """
import sys
import numpy as np, torch
from pathlib import Path
from pcsr_cli.api import start_upscale
from pcsr_cli.engine.device import peak_memory
from pcsr_cli.engine import memory
from pcsr_cli.engine.output import output_rows
from pcsr_cli.engine.upscale import Settings
from pcsr_cli.api import load_model
from pcsr_cli.images.formats import choose_format
from pcsr_cli.images.image import Layout, ImageData
from pcsr_cli.images.write import open_writer
from pcsr_cli.engine.routing import Adaptive, Threshold

torch.set_num_threads(1)
memory.STRIP_BYTES = 2**23
height, width, output, folder, adm = int(sys.argv[1]), 700, Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "adm"
image = ImageData(np.full((height, width, 3), (200, 100, 37), np.uint8))
settings = Settings(Adaptive(), refine=1, memory=0) if adm else Settings(Threshold(1.0), refine=9)
upscaling = start_upscale(image, load_model(folder, "cpu"), 4, settings, 8)
size = (4 * height, 4 * width)
with open_writer(output, choose_format(output), Layout(*size)) as writer:
    writer.write_all(output_rows(upscaling, image, size, size, 8))
print(peak_memory(torch.device("cpu")))
"""


def peak(height: int, output: Path, model: Path, routing: str) -> int:
    """Peak memory in bytes of a process that enlarges a flat image 700 pixels wide."""
    command = [sys.executable, "-c", ENLARGE, str(height), str(output), str(model), routing]
    # Freed memory goes back at once; otherwise the test would also measure the fragmentation of the heap.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is counted in another unit")
@pytest.mark.parametrize(("suffix", "routing"), [(".png", "fixed"), (".tif", "fixed"), (".png", "adm")])
def test_memory_does_not_grow_with_the_result(tmp_path: Path, tiny_folder: Path, suffix: str, routing: str) -> None:
    short, tall = 300, 2700
    peaks = [peak(height, tmp_path / f"out{suffix}", tiny_folder, routing) for height in (short, tall)]
    image, result = (2400 * 700 * 3 * factor for factor in (1, 16))
    survey = 24 * 2**20 if routing == "adm" else 0
    assert peaks[1] - peaks[0] < image + survey + 16 * 2**20 < result / 1.5
