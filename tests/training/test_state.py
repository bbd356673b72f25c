"""A run's state: whole on disk at every moment, and refused where it does not belong."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pcsr_cli.errors import OutputError, TrainingError
from pcsr_cli.model.network import Pcsr
from pcsr_cli.training.config import TrainConfig, load_config
from pcsr_cli.training.state import load_state, save_state
from pcsr_cli.training.trainer import Trainer
from tests.command import ROOT
from tests.failing import fails


def test_a_state_reads_back(recipe: TrainConfig, tmp_path: Path) -> None:
    model = Pcsr(recipe.model.spec)
    saved = Trainer(model, 1, recipe.stage1).state(seconds=1.5)
    save_state(saved, tmp_path / "state.pt")
    loaded = load_state(tmp_path / "state.pt", recipe.model.spec)
    assert loaded.seconds == 1.5 and loaded.architecture == saved.architecture
    assert all(torch.equal(value, loaded.ema[name]) for name, value in saved.ema.items())


def test_a_full_disk_leaves_the_old_state(recipe: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.pt"
    state = Trainer(Pcsr(recipe.model.spec), 1, recipe.stage1).state(seconds=1.5)
    save_state(state, path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with fails(OutputError, f"{path} cannot be written: no space left on device."):
        save_state(state, path)
    assert path.read_bytes() == before
    assert list(tmp_path.glob(".*")) == []


def test_another_kind_of_file_is_refused(recipe: TrainConfig, tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    with fails(TrainingError, f"{tmp_path / 'other.pt'} is no state of a run, or of another version's."):
        load_state(tmp_path / "other.pt", recipe.model.spec)


def test_a_state_of_the_first_versions_is_still_read(recipe: TrainConfig, tmp_path: Path) -> None:
    save_state(Trainer(Pcsr(recipe.model.spec), 1, recipe.stage1).state(seconds=1.5), tmp_path / "state.pt")
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save({**content, "seed": 3, "last_step": 6}, tmp_path / "state.pt")
    assert load_state(tmp_path / "state.pt", recipe.model.spec).seconds == 1.5


def test_the_state_that_comes_with_the_recipe_of_builtin_is_read() -> None:
    config = load_config(ROOT / "recipes" / "builtin.toml")
    state = load_state(ROOT / "recipes" / "builtin_state" / "stage1.pt", config.model.spec)
    trainer = Trainer(Pcsr(config.model.spec), 1, config.stage1)
    trainer.restore(state)
    trainer.schedule.rewind(0.5)
    assert trainer.schedule.step == state.step > 0 and trainer.schedule.progress == 0.5


def test_an_optimizer_of_another_network_is_refused(recipe: TrainConfig) -> None:
    model = Pcsr(recipe.model.spec)
    first, second = Trainer(model, 1, recipe.stage1), Trainer(model, 2, recipe.stage2)
    state = replace(second.state(seconds=0.0), optimizer=first.state(seconds=0.0).optimizer)
    with fails(TrainingError, "The state's optimizer belongs to another network."):
        second.restore(state)
