"""What a large picture takes in memory, measured in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ROOT

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
picture = ImageData(np.full((height, width, 3), (200, 100, 37), np.uint8))
settings = Settings(Adaptive(), refine=1, memory=0) if adm else Settings(Threshold(1.0), refine=9)
upscaling = start_upscale(picture, load_model(folder, "cpu"), 4, settings, 8)
size = (4 * height, 4 * width)
with open_writer(output, choose_format(output), Layout(*size)) as writer:
    writer.write_all(output_rows(upscaling, picture, size, size, 8))
print(peak_memory(torch.device("cpu")))
"""


def peak(height: int, output: Path, model: Path, routing: str) -> int:
    """Peak memory in bytes of a process that enlarges a flat picture 700 pixels wide."""
    command = [sys.executable, "-c", ENLARGE, str(height), str(output), str(model), routing]
    # What is freed goes back at once: else the heap's own scatter would be measured, too.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is counted in another unit")
@pytest.mark.parametrize(("suffix", "routing"), [(".png", "fixed"), (".tif", "fixed"), (".png", "adm")])
def test_memory_does_not_grow_with_the_result(tmp_path: Path, tiny_folder: Path, suffix: str, routing: str) -> None:
    short, tall = 300, 2700
    peaks = [peak(height, tmp_path / f"out{suffix}", tiny_folder, routing) for height in (short, tall)]
    picture, result = (2400 * 700 * 3 * factor for factor in (1, 16))
    survey = 24 * 2**20 if routing == "adm" else 0
    assert peaks[1] - peaks[0] < picture + survey + 16 * 2**20 < result / 1.5
