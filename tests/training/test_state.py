"""A run's state: whole on disk at every moment, and refused where it does not belong."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pcsr_cli.failures import outputs, training
from pcsr_cli.model import Pcsr
from pcsr_cli.training.config import TrainConfig
from pcsr_cli.training.state import load_state, save_state
from pcsr_cli.training.trainer import Trainer
from tests.failing import fails


def test_a_state_reads_back(recipe: TrainConfig, tmp_path: Path) -> None:
    model = Pcsr(recipe.model.spec)
    saved = Trainer(model, 1, recipe.stage1).state(seed=3, seconds=1.5)
    save_state(saved, tmp_path / "state.pt")
    loaded = load_state(tmp_path / "state.pt", recipe.model.spec)
    assert loaded.seconds == 1.5 and loaded.architecture == saved.architecture
    assert all(torch.equal(value, loaded.ema[name]) for name, value in saved.ema.items())


def test_a_full_disk_leaves_the_old_state(recipe: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.pt"
    state = Trainer(Pcsr(recipe.model.spec), 1, recipe.stage1).state(seed=3, seconds=1.5)
    save_state(state, path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with fails(outputs.NO_SPACE, output=path, reason="no space left on device"):
        save_state(state, path)
    assert path.read_bytes() == before
    assert list(tmp_path.glob(".*")) == []


def test_another_kind_of_file_is_refused(recipe: TrainConfig, tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    with fails(training.ANOTHER_STATE, path=tmp_path / "other.pt"):
        load_state(tmp_path / "other.pt", recipe.model.spec)


def test_an_optimizer_of_another_network_is_refused(recipe: TrainConfig) -> None:
    model = Pcsr(recipe.model.spec)
    first, second = Trainer(model, 1, recipe.stage1), Trainer(model, 2, recipe.stage2)
    state = replace(second.state(seed=3, seconds=0.0), optimizer=first.state(seed=3, seconds=0.0).optimizer)
    with fails(training.ANOTHER_OPTIMIZER):
        second.restore(state)
