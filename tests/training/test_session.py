from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pcsr_cli.errors import OutputError, TrainingError
from pcsr_cli.model.checkpoint import build_model, read_checkpoint
from pcsr_cli.training.config import ModelConfig, TrainConfig, ValidationConfig
from pcsr_cli.training.events import Event, Progress, Validated
from pcsr_cli.training.report import read_log
from pcsr_cli.training.session import LOG_NAME, STAGE_1_NAME, STATE_NAME, RunOptions, train
from pcsr_cli.training.state import load_state
from tests.failing import fails


def losses(events: list[Event]) -> list[tuple[int, int, float]]:
    return [(event.stage, event.step, event.loss) for event in events if isinstance(event, Progress)]


def stop_after(count: int) -> Callable[[], bool]:
    calls = iter(range(count))
    return lambda: next(calls, None) is None


def test_a_run_ends_in_a_folder_that_loads(recipe: TrainConfig, tmp_path: Path) -> None:
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
    options = RunOptions(resume=tmp_path / "parts" / STATE_NAME)
    resumed = train(recipe, tmp_path / "parts", parts.append, options)
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
    validation = ValidationConfig(Path("pictures"), every=3, scales=(2,))
    events: list[Event] = []
    result = train(replace(recipe, model=model, validation=validation), tmp_path / "run", events.append)
    assert result is not None
    assert build_model(read_checkpoint(result)).spec.branches == 3
    validated = [event for event in events if isinstance(event, Validated)]
    assert [(event.stage, event.step) for event in validated] == [(1, 3), (1, 6), (2, 3), (2, 6)]
    assert all(event.psnr > 5 and event.flops > 0 for event in validated)


def test_a_tiny_set_is_learnt_by_heart(recipe: TrainConfig, tmp_path: Path) -> None:
    stage = replace(recipe.stage1, iterations=150, learning_rate=1e-2)
    events: list[Event] = []
    train(replace(recipe, stage1=stage, report_every=50), tmp_path / "run", events.append)
    first, *_, last = [loss for stage, _, loss in losses(events) if stage == 1]
    assert last < first / 2


def test_another_architecture_cannot_be_resumed(recipe: TrainConfig, tmp_path: Path) -> None:
    train(recipe, tmp_path / "run")
    other = replace(recipe, model=replace(recipe.model, width=9))
    with fails(TrainingError, "belongs to another architecture than the recipe's [model]."):
        train(other, tmp_path / "run", options=RunOptions(resume=tmp_path / "run" / STATE_NAME))


def test_a_missing_or_broken_state_is_refused(recipe: TrainConfig, tmp_path: Path) -> None:
    with fails(TrainingError, f"There is no state {tmp_path / 'nothing.pt'} to go on from."):
        train(recipe, tmp_path / "run", options=RunOptions(resume=tmp_path / "nothing.pt"))
    for damaged in (b"noise", b"\x80\x02."):
        (tmp_path / "noise.pt").write_bytes(damaged)
        with fails(TrainingError, f"{tmp_path / 'noise.pt'} is no readable state of a run."):
            train(recipe, tmp_path / "run", options=RunOptions(resume=tmp_path / "noise.pt"))


def test_a_loss_that_is_no_number_ends_the_run(recipe: TrainConfig, tmp_path: Path) -> None:
    wild = replace(recipe, stage1=replace(recipe.stage1, learning_rate=1e30))
    with fails(TrainingError, "The loss or the weights are no numbers any more at iteration"):
        train(wild, tmp_path / "run")


@pytest.mark.parametrize("end", ["checkpoint", "stop", "last iteration"])
def test_a_run_that_diverges_leaves_the_last_good_state(recipe: TrainConfig, tmp_path: Path, end: str) -> None:
    path = tmp_path / "run" / STATE_NAME
    assert train(recipe, tmp_path / "run", stop=stop_after(2)) is None
    before = path.read_bytes()
    iterations = 8 if end == "last iteration" else 100
    stage = replace(recipe.stage1, iterations=iterations, learning_rate=1e30, clip=1e30)
    wild = replace(recipe, stage1=stage, report_every=1000, checkpoint_every=8 if end == "checkpoint" else 1000)
    stop = stop_after(5) if end == "stop" else stop_after(1000)
    with fails(TrainingError, "The loss or the weights are no numbers any more at iteration"):
        train(wild, tmp_path / "run", options=RunOptions(resume=path), stop=stop)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_told(recipe: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with fails(OutputError, f"The folder {tmp_path / 'file' / 'run'} cannot be made: Not a directory."):
        train(recipe, tmp_path / "file" / "run")


def test_minutes_end_the_run_in_time(recipe: TrainConfig, tmp_path: Path) -> None:
    endless = replace(recipe.stage1, iterations=10**9)
    config = replace(recipe, stage1=endless, stage2=endless, report_every=5)
    assert train(config, tmp_path / "run", options=RunOptions(minutes=0.02)) is not None
    rates = [entry["learning_rate"] for entry in read_log(tmp_path / "run" / LOG_NAME, "progress")]
    assert min(rates) < max(rates) / 2


def test_rewinding_goes_on_with_a_finished_stage(recipe: TrainConfig, tmp_path: Path) -> None:
    events: list[Event] = []
    train(recipe, tmp_path / "run")
    options = RunOptions(resume=tmp_path / "run" / STAGE_1_NAME, rewind=0.5)
    train(recipe, tmp_path / "run", events.append, options)
    assert [step for stage, step, _ in losses(events) if stage == 1] == [7, 8, 9]
