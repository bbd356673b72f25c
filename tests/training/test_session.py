"""Training runs: reproducible, resumable, and the same in several processes."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import load_file

from pcsr_cli.errors import OutputError, TrainingError
from pcsr_cli.model.checkpoint import build_model, read_checkpoint
from pcsr_cli.training.config import ModelConfig, TrainConfig, ValidationConfig, load_config
from pcsr_cli.training.log import Event, Progress, Validated
from pcsr_cli.training.session import STAGE_1_NAME, STATE_NAME, check_batches, train
from pcsr_cli.training.trainer import load_state
from tests.failing import fails


def losses(events: list[Event]) -> list[tuple[int, int, float]]:
    return [(event.stage, event.step, event.loss) for event in events if isinstance(event, Progress)]


def stop_after(count: int) -> Callable[[], bool]:
    calls = iter(range(count))
    return lambda: next(calls, None) is None


def test_a_run_writes_a_folder_that_loads(recipe: TrainConfig, tmp_path: Path) -> None:
    result = train(recipe, tmp_path / "run")
    assert result is not None
    checkpoint = read_checkpoint(result)
    assert checkpoint.spec == recipe.model.spec
    assert checkpoint.scales == recipe.trained_scales
    assert build_model(checkpoint).parameter_count() > 0
    assert "license: mit" in (result / "README.md").read_text()


@pytest.mark.parametrize("done", [1, 4, 6, 9])
def test_a_resumed_run_repeats_the_uninterrupted_one(recipe: TrainConfig, tmp_path: Path, done: int) -> None:
    whole: list[Event] = []
    parts: list[Event] = []
    reference = train(recipe, tmp_path / "whole", whole.append)
    interrupted = train(recipe, tmp_path / "parts", parts.append, stop=stop_after(done - 1))
    assert interrupted is None
    resumed = train(recipe, tmp_path / "parts", parts.append, resume=tmp_path / "parts" / STATE_NAME)
    assert losses(parts) == losses(whole)
    assert reference is not None and resumed is not None
    weights, again = load_file(reference / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert all(torch.equal(weights[key], again[key]) for key in weights)


def test_stage_2_leaves_stage_1_untouched(recipe: TrainConfig, tmp_path: Path) -> None:
    recipe = replace(recipe, model=ModelConfig(samplers=((4,), (8,)), backbone="carn", width=8))
    result = train(recipe, tmp_path / "run")
    assert result is not None
    before = load_state(tmp_path / "run" / STAGE_1_NAME, recipe.model.spec).ema
    after = load_file(result / "model.safetensors")
    frozen = [key for key in before if key.startswith(("encoder.", "heavy_sampler."))]
    assert frozen and all(torch.equal(before[key], after[key]) for key in frozen)
    trained = [key for key in before if key not in frozen]
    assert all(not torch.equal(before[key], after[key]) for key in trained)


def test_three_branches_train_and_run(recipe: TrainConfig, tmp_path: Path) -> None:
    model = replace(recipe.model, samplers=((), (4,), (8, 8)))
    validation = ValidationConfig("pictures", every=3, scales=(2,))
    events: list[Event] = []
    result = train(replace(recipe, model=model, validation=validation), tmp_path / "run", events.append)
    assert result is not None
    assert build_model(read_checkpoint(result)).spec.branches == 3
    validated = [event for event in events if isinstance(event, Validated)]
    assert [(event.stage, event.step) for event in validated] == [(1, 3), (1, 6), (2, 3), (2, 6)]
    assert all(event.psnr > 5 and event.flops > 0 for event in validated)


def test_the_loss_on_a_tiny_set_halves(recipe: TrainConfig, tmp_path: Path) -> None:
    stage = replace(recipe.stage1, iterations=150, learning_rate=1e-2)
    events: list[Event] = []
    train(replace(recipe, stage1=stage, report_every=50), tmp_path / "run", events.append)
    first, *_, last = [loss for stage, _, loss in losses(events) if stage == 1]
    assert last < first / 2


def test_another_architecture_cannot_be_resumed(recipe: TrainConfig, tmp_path: Path) -> None:
    train(recipe, tmp_path / "run")
    other = replace(recipe, model=replace(recipe.model, width=9))
    with fails(TrainingError, "has another architecture than [model] in the recipe."):
        train(other, tmp_path / "run", resume=tmp_path / "run" / STATE_NAME)


def test_a_missing_or_broken_state_is_refused(recipe: TrainConfig, tmp_path: Path) -> None:
    with fails(TrainingError, "Cannot resume:", str(tmp_path / "nothing.pt"), "start a new run"):
        train(recipe, tmp_path / "run", resume=tmp_path / "nothing.pt")
    for damaged in (b"noise", b"\x80\x02."):
        (tmp_path / "noise.pt").write_bytes(damaged)
        with fails(TrainingError, "Cannot resume:", str(tmp_path / "noise.pt"), "start a new run"):
            train(recipe, tmp_path / "run", resume=tmp_path / "noise.pt")


def test_a_loss_that_is_not_finite_ends_the_run(recipe: TrainConfig, tmp_path: Path) -> None:
    wild = replace(recipe, stage1=replace(recipe.stage1, learning_rate=1e30))
    with fails(TrainingError, "Training diverged"):
        train(wild, tmp_path / "run")


@pytest.mark.parametrize("end", ["checkpoint", "stop", "last iteration"])
def test_a_run_that_diverges_keeps_the_last_good_state(recipe: TrainConfig, tmp_path: Path, end: str) -> None:
    path = tmp_path / "run" / STATE_NAME
    assert train(recipe, tmp_path / "run", stop=stop_after(2)) is None
    before = path.read_bytes()
    iterations = 8 if end == "last iteration" else 100
    stage = replace(recipe.stage1, iterations=iterations, learning_rate=1e30, clip=1e30)
    wild = replace(recipe, stage1=stage, report_every=1000, checkpoint_every=8 if end == "checkpoint" else 1000)
    stop = stop_after(5) if end == "stop" else stop_after(1000)
    with fails(TrainingError, "Training diverged"):
        train(wild, tmp_path / "run", resume=path, stop=stop)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_refused(recipe: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with fails(OutputError, f"Cannot make the folder {tmp_path / 'file' / 'run'}: not a directory."):
        train(recipe, tmp_path / "file" / "run")


def test_a_run_removes_the_temporary_files_of_killed_ones(recipe: TrainConfig, tmp_path: Path) -> None:
    leftovers = [tmp_path / "run" / place / ".pcsr-0123456789abcdef.part" for place in (".", "model")]
    for path in leftovers:
        path.parent.mkdir(parents=True)
        path.touch()
    assert train(recipe, tmp_path / "run") is not None
    assert not any(path.exists() for path in leftovers)


PROGRAM = """
import sys
from pathlib import Path
import torch
from pcsr_cli.training.config import load_config
from pcsr_cli.training.session import train
torch.set_num_threads(1)
train(load_config(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def train_in_processes(recipe: Path, folder: Path, count: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", PROGRAM, str(recipe), str(folder)]
    started = [
        subprocess.Popen(command, env={**os.environ, **environment, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]
    assert [process.wait(timeout=120) for process in started] == [0] * count


@pytest.mark.slow
def test_two_processes_compute_what_one_does(recipe_file: Path, tmp_path: Path) -> None:
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
    with fails(TrainingError, "3 processes cannot share stage1.batch = 4 evenly.", "Set it to a multiple of 3."):
        check_batches(recipe, 3)
