"""Schedule, averaged weights, and the state file, which is written atomically and checked when it is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from pcsr_cli.errors import OutputError, TrainingError
from pcsr_cli.model.checkpoint import read_checkpoint
from pcsr_cli.model.network import Pcsr
from pcsr_cli.training.config import StageConfig, TrainConfig
from pcsr_cli.training.session import train
from pcsr_cli.training.trainer import (
    Schedule,
    Trainer,
    add_branches,
    average_weights,
    learning_rate,
    load_state,
    merged_state,
    save_state,
)
from tests.failing import fails


@pytest.fixture
def saved(recipe: TrainConfig, tmp_path: Path) -> Path:
    """The state of a new run."""
    path = tmp_path / "state.pt"
    save_state(Trainer(Pcsr(recipe.model.spec), 1, recipe.stage1).state(seconds=1.5), path)
    return path


def test_a_state_is_read_back(recipe: TrainConfig, tmp_path: Path) -> None:
    state = Trainer(Pcsr(recipe.model.spec), 1, recipe.stage1).state(seconds=1.5)
    save_state(state, tmp_path / "state.pt")
    loaded = load_state(tmp_path / "state.pt", recipe.model.spec)
    assert loaded.seconds == 1.5 and loaded.architecture == state.architecture
    assert all(torch.equal(value, loaded.ema[name]) for name, value in state.ema.items())


def test_a_full_disk_keeps_the_old_state(recipe: TrainConfig, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, before = load_state(saved, recipe.model.spec), saved.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with fails(OutputError, str(saved), "no space left on device"):
        save_state(state, saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.glob(".*")) == []


def test_another_kind_of_file_is_refused(recipe: TrainConfig, tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    with fails(TrainingError, f"{tmp_path / 'other.pt'} is not a training state of this version."):
        load_state(tmp_path / "other.pt", recipe.model.spec)


def test_a_state_with_the_extra_keys_of_the_first_versions_loads(recipe: TrainConfig, saved: Path) -> None:
    torch.save({**torch.load(saved, weights_only=True), "seed": 3, "last_step": 6}, saved)
    assert load_state(saved, recipe.model.spec).seconds == 1.5


def test_an_optimizer_of_another_network_is_refused(recipe: TrainConfig) -> None:
    model = Pcsr(recipe.model.spec)
    first, second = Trainer(model, 1, recipe.stage1), Trainer(model, 2, recipe.stage2)
    state = replace(second.state(seconds=0.0), optimizer=first.state(seconds=0.0).optimizer)
    with fails(TrainingError, "belong to another network."):
        second.restore(state)


MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def reshaped(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value[:1] for name, value in weights.items()}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("stage", lambda stage: 7),
        ("step", lambda step: "one"),
        ("step", lambda step: -1),
        ("progress", lambda progress: float("nan")),
        ("seconds", lambda seconds: None),
        ("model", reshaped),
        ("model", lambda model: {1: torch.zeros(1), **model}),
        ("ema", lambda ema: {}),
        ("ema", lambda ema: [1, 2]),
        ("optimizer", lambda optimizer: {}),
        ("optimizer", lambda optimizer: {**optimizer, "param_groups": 3}),
        ("optimizer", lambda optimizer: {**optimizer, "state": {0: {"step": torch.zeros(())}}}),
        ("optimizer", lambda optimizer: {**optimizer, "state": {0: {"step": 1, "exp_avg": 2, "exp_avg_sq": 3}}}),
        ("optimizer", lambda optimizer: {**optimizer, "state": {0: dict.fromkeys(MOMENTS, torch.zeros(2, 2))}}),
        ("random", lambda random: random[:5]),
        ("random", lambda random: "seed"),
    ],
)
def test_a_state_of_wrong_values_is_refused(
    recipe: TrainConfig, saved: Path, name: str, change: Callable[[Any], object]
) -> None:
    content = torch.load(saved, weights_only=True)
    torch.save({**content, name: change(content[name])}, saved)
    with fails(TrainingError, "start a new run."):
        Trainer(Pcsr(recipe.model.spec), 1, recipe.stage1).restore(load_state(saved, recipe.model.spec))


def test_averaged_weights_move_slower_with_age_and_counters_are_copied(recipe: TrainConfig) -> None:
    model = Pcsr(replace(recipe.model, backbone="carn", depth=None).spec)
    average = average_weights(model, 0.5)
    name = "heavy_sampler.imnet.layers.0.bias"
    counters = [key for key in model.state_dict() if key.endswith("num_batches_tracked")]
    expected = model.state_dict()[name].clone()
    for count in range(1, 15):
        with torch.no_grad():
            for value in model.state_dict().values():
                value.add_(1)
        average.update_parameters(model)
        expected.lerp_(model.state_dict()[name], 1 - min(0.5, count / (count + 10)))
    averaged = average.module.state_dict()
    torch.testing.assert_close(averaged[name], expected)
    assert counters and all(averaged[key] == 14 for key in counters)


def test_the_rate_follows_a_cosine_that_can_be_stretched_and_shortened() -> None:
    config = StageConfig(iterations=100, learning_rate=1.0, final_learning_rate=0.0)
    schedule = Schedule(100)
    rates = []
    while not schedule.finished:
        rates.append(learning_rate(config, schedule))
        schedule.advance()
        if schedule.step == 50:
            assert learning_rate(config, schedule) == pytest.approx(0.5)
            schedule.last_step = 60
    assert len(rates) == 60
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1 and rates[-1] < 0.03
    assert schedule.progress == pytest.approx(1)
    assert learning_rate(config, schedule) == pytest.approx(0)


def test_branches_change_nothing_at_first_and_merge_into_one_kernel(recipe: TrainConfig) -> None:
    model = Pcsr(recipe.model.spec)
    x = torch.randn(1, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    plain = model.features(x)
    add_branches(model, 2)
    assert torch.allclose(model.features(x), plain, atol=1e-6)
    for parameter in model.encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    merged = Pcsr(recipe.model.spec)
    merged.load_state_dict(merged_state(model))
    assert torch.allclose(merged.features(x), model.features(x), atol=1e-5)
    assert not torch.allclose(merged.features(x), plain, atol=1e-2)


def test_a_run_with_branches_resumes_exactly_and_ends_as_a_plain_network(recipe: TrainConfig, tmp_path: Path) -> None:
    config = replace(recipe, model=replace(recipe.model, branches=2))
    whole = train(config, tmp_path / "whole")
    calls = iter(range(3))
    assert train(config, tmp_path / "parts", stop=lambda: next(calls, None) == 2) is None
    parts = train(config, tmp_path / "parts", resume=tmp_path / "parts" / "state.pt")
    assert whole is not None and parts is not None
    weights = [read_checkpoint(folder) for folder in (whole, parts)]
    assert set(weights[0].state) == set(Pcsr(config.model.spec).state_dict())
    assert all(torch.equal(value, weights[1].state[name]) for name, value in weights[0].state.items())


def test_a_state_without_branches_does_not_continue_a_run_with_them(recipe: TrainConfig, saved: Path) -> None:
    trainer = Trainer(Pcsr(recipe.model.spec), 1, recipe.stage1, branches=2)
    with fails(TrainingError, "another network"):
        trainer.restore(load_state(saved, recipe.model.spec))


def test_a_run_starts_from_the_weights_of_a_model(recipe: TrainConfig, tmp_path: Path) -> None:
    first = train(recipe, tmp_path / "first")
    assert first is not None
    model = replace(recipe.model, start=str(first))
    stages = {name: replace(recipe.stage1, learning_rate=1e-12) for name in ("stage1", "stage2")}
    second = train(replace(recipe, model=model, **stages), tmp_path / "second")
    assert second is not None
    before, after = (read_checkpoint(folder).state for folder in (first, second))
    assert all(torch.allclose(value, after[name], atol=1e-5) for name, value in before.items())
    other = replace(model, samplers=((4,), (8,)))
    with fails(TrainingError, str(first), "another architecture"):
        train(replace(recipe, model=other), tmp_path / "third")
