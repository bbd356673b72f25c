import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pcsr_cli.errors import TrainingError
from pcsr_cli.training.config import TrainConfig, load_config
from pcsr_cli.training.session import check_batches, train
from tests.failing import fails
from tests.training.conftest import draw_pictures

RECIPE = """
name = "tiny"
report_every = 2
[model]
width = 8
depth = 1
samplers = [[4], [8, 8]]
classifier = [4]
[data]
patch = 48
[[data.sources]]
path = "pictures"
[[scales]]
low = 2
high = 3
[stage1]
iterations = 6
batch = 4
crop = 8
pixels = 64
[stage2]
iterations = 6
batch = 4
crop = 8
pixels = 64
[validation]
path = "pictures"
scales = [2]
"""

PROGRAM = """
import sys
from pathlib import Path
import torch
from pcsr_cli.training.config import load_config
from pcsr_cli.training.session import check_batches, train
torch.set_num_threads(1)
train(load_config(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    draw_pictures(tmp_path / "pictures")
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def train_in_processes(recipe: Path, folder: Path, count: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(recipe), str(folder)]
    started = [
        subprocess.Popen(command, env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]
    assert [process.wait(timeout=120) for process in started] == [0] * count


@pytest.mark.slow
def test_two_processes_are_one_with_the_same_batch(recipe_file: Path, tmp_path: Path) -> None:
    alone = train(load_config(recipe_file), tmp_path / "alone")
    train_in_processes(recipe_file, tmp_path / "together", 2)
    assert alone is not None
    one = load_file(alone / "model.safetensors")
    two = load_file(tmp_path / "together" / "model" / "model.safetensors")
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=1e-5)
    assert len((tmp_path / "together" / "log.jsonl").read_text().splitlines()) > 6


def test_a_batch_that_cannot_be_shared_is_refused(recipe: TrainConfig) -> None:
    with fails(TrainingError, "stage1.batch of 4 cannot be shared evenly by 3 processes."):
        check_batches(recipe, 3)
