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
from pcsr_cli.images.files import machine
from pcsr_cli.model.checkpoint import build_model, read_checkpoint
from pcsr_cli.training.config import STATE_NAME, ModelConfig, TrainConfig, ValidationConfig, load_config
from pcsr_cli.training.log import Event, Observer, Progress, Validated, ignore
from pcsr_cli.training.session import STAGE_1_NAME, check_batches, train
from pcsr_cli.training.trainer import load_state
from tests.failing import fails


def losses(events: list[Event]) -> list[tuple[int, int, float]]:
    return [(event.stage, event.step, event.loss) for event in events if isinstance(event, Progress)]


def stop_after(count: int) -> Callable[[], bool]:
    calls = iter(range(count))
    return lambda: next(calls, None) is None


def finish(recipe: TrainConfig, folder: Path, observe: Observer = ignore, resume: Path | None = None) -> Path:
    """Train without a stop. Returns the folder of the model."""
    model = train(recipe, folder, observe, resume=resume)
    assert model is not None
    return model


def test_a_run_writes_a_model_that_loads(recipe: TrainConfig, tmp_path: Path) -> None:
    result = finish(recipe, tmp_path / "run")
    checkpoint = read_checkpoint(result)
    assert checkpoint.spec == recipe.model.spec
    assert checkpoint.scales == recipe.trained_scales
    assert build_model(checkpoint).parameter_count() > 0
    assert "license: mit" in (result / "README.md").read_text()


@pytest.mark.parametrize("done", [1, 4, 6, 9])
def test_a_resumed_run_repeats_the_uninterrupted_one(recipe: TrainConfig, tmp_path: Path, done: int) -> None:
    whole: list[Event] = []
    parts: list[Event] = []
    reference = finish(recipe, tmp_path / "whole", whole.append)
    assert train(recipe, tmp_path / "parts", parts.append, stop=stop_after(done - 1)) is None
    resumed = finish(recipe, tmp_path / "parts", parts.append, resume=tmp_path / "parts" / STATE_NAME)
    assert losses(parts) == losses(whole)
    weights, again = load_file(reference / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert all(torch.equal(weights[key], again[key]) for key in weights)


@pytest.mark.parametrize(("backbone", "width", "depth"), [("carn", 8, None), ("bsrn", 16, 1)])
def test_stage_2_keeps_the_weights_of_stage_1(
    recipe: TrainConfig, tmp_path: Path, backbone: str, width: int, depth: int | None
) -> None:
    model = ModelConfig(samplers=((4,), (8,)), backbone=backbone, width=width, depth=depth)
    recipe = replace(recipe, model=model)
    result = finish(recipe, tmp_path / "run")
    assert build_model(read_checkpoint(result)).spec == model.spec
    before = load_state(tmp_path / "run" / STAGE_1_NAME, recipe.model.spec).ema
    after = load_file(result / "model.safetensors")
    frozen = [key for key in before if key.startswith(("encoder.", "heavy_sampler."))]
    assert frozen and all(torch.equal(before[key], after[key]) for key in frozen)
    trained = [key for key in before if key not in frozen]
    assert all(not torch.equal(before[key], after[key]) for key in trained)


def test_three_branches_train_and_run(recipe: TrainConfig, tmp_path: Path) -> None:
    model = replace(recipe.model, samplers=((), (4,), (8, 8)))
    validation = ValidationConfig("images", every=3, scales=(2,))
    events: list[Event] = []
    result = finish(replace(recipe, model=model, validation=validation), tmp_path / "run", events.append)
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


@pytest.mark.parametrize("content", [None, b"noise", b"\x80\x02."])
def test_a_missing_or_broken_state_is_refused(recipe: TrainConfig, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.pt"
    if content is not None:
        path.write_bytes(content)
    with fails(TrainingError, "Cannot resume:", str(path), "start a new run"):
        train(recipe, tmp_path / "run", resume=path)


def test_a_run_whose_loss_is_not_finite_fails(recipe: TrainConfig, tmp_path: Path) -> None:
    with fails(TrainingError, "Training diverged"):
        train(replace(recipe, stage1=replace(recipe.stage1, learning_rate=1e30)), tmp_path / "run")


@pytest.mark.parametrize("end", ["checkpoint", "stop", "last iteration"])
def test_a_run_that_diverges_keeps_the_last_good_state(recipe: TrainConfig, tmp_path: Path, end: str) -> None:
    path = tmp_path / "run" / STATE_NAME
    assert train(recipe, tmp_path / "run", stop=stop_after(2)) is None
    before = path.read_bytes()
    iterations = 8 if end == "last iteration" else 100
    stage = replace(recipe.stage1, iterations=iterations, learning_rate=1e30, clip=1e30)
    every = 8 if end == "checkpoint" else 1000
    diverging = replace(recipe, stage1=stage, report_every=1000, checkpoint_every=every)
    with fails(TrainingError, "Training diverged"):
        train(diverging, tmp_path / "run", resume=path, stop=stop_after(5 if end == "stop" else 1000))
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_refused(recipe: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with fails(OutputError, f"Cannot make the folder {tmp_path / 'file' / 'run'}: not a directory."):
        train(recipe, tmp_path / "file" / "run")


def test_a_run_removes_the_temporary_files_of_killed_ones(recipe: TrainConfig, tmp_path: Path) -> None:
    leftovers = [tmp_path / "run" / folder / f".pcsr-{machine()}01234567.part" for folder in (".", "model")]
    for path in leftovers:
        path.parent.mkdir(parents=True)
        path.touch()
    finish(recipe, tmp_path / "run")
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
    environment = os.environ | {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-c", PROGRAM, str(recipe), str(folder)]
    started = [
        subprocess.Popen(command, env=environment | {"OMP_NUM_THREADS": "1", "RANK": rank, "LOCAL_RANK": rank})
        for rank in map(str, range(count))
    ]
    assert [process.wait(timeout=120) for process in started] == [0] * count


@pytest.mark.slow
def test_two_processes_compute_what_one_does(recipe_file: Path, tmp_path: Path) -> None:
    alone = finish(load_config(recipe_file), tmp_path / "alone")
    train_in_processes(recipe_file, tmp_path / "together", 2)
    one = load_file(alone / "model.safetensors")
    two = load_file(tmp_path / "together" / "model" / "model.safetensors")
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=1e-5)
    assert len((tmp_path / "together" / "log.jsonl").read_text().splitlines()) > 6


def test_a_batch_that_processes_cannot_share_is_refused(recipe: TrainConfig) -> None:
    with fails(TrainingError, "3 processes cannot share stage1.batch = 4 evenly.", "Set batch to a multiple of 3."):
        check_batches(recipe, 3)


@pytest.mark.parametrize("change", ["a wide network", "a large batch"])
def test_a_run_that_cannot_fit_the_memory_is_refused_before_it_starts(
    recipe: TrainConfig, tmp_path: Path, change: str
) -> None:
    if change == "a wide network":
        recipe = replace(recipe, model=replace(recipe.model, width=4096, depth=256))
    else:
        recipe = replace(recipe, stage2=replace(recipe.stage2, batch=2**16, crop=4096))
    with fails(TrainingError, "need more than the free memory (", " GiB)."):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
