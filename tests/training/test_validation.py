from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pcsr_cli.failures import training
from pcsr_cli.flops import executed_flops, model_costs
from pcsr_cli.measuring.metrics import psnr
from pcsr_cli.model import Pcsr
from pcsr_cli.pictures.reading import read_picture
from pcsr_cli.routing import Threshold
from pcsr_cli.training.card import write_card
from pcsr_cli.training.config import TrainConfig, ValidationConfig
from pcsr_cli.training.events import Event, Skipped, Validated, ignore
from pcsr_cli.training.log import Log, read_log
from pcsr_cli.training.validation import Validator, all_heavy, bicubic_psnr, enlarge, load_pairs, measure
from tests.failing import fails
from tests.training.conftest import draw_pictures


@pytest.fixture
def validated(recipe: TrainConfig) -> TrainConfig:
    return replace(recipe, validation=ValidationConfig(Path("pictures"), scales=(2, 3)))


def test_pairs_are_cut_and_shrunk(recipe: TrainConfig) -> None:
    draw_pictures(recipe.folder / "odd", count=1, side=31)
    (pair,) = load_pairs(recipe.folder / "odd", 3, ignore)
    assert pair.hr.shape == (30, 30, 3) and pair.lr.shape == (10, 10, 3)
    assert np.array_equal(pair.hr, read_picture(recipe.folder / "odd" / "0.png").rgb[:30, :30])


def test_a_broken_picture_is_named_and_left_out(recipe: TrainConfig) -> None:
    folder = recipe.folder / "pictures"
    (folder / "broken.png").write_bytes(b"no picture")
    events: list[Event] = []
    assert len(load_pairs(folder, 2, events.append)) == 2
    assert [event.path.name for event in events if isinstance(event, Skipped)] == ["broken.png"]
    (recipe.folder / "empty").mkdir()
    with fails(training.NOTHING_TO_VALIDATE, folder=recipe.folder / "empty"):
        load_pairs(recipe.folder / "empty", 2, ignore)


def test_means_are_over_pictures(recipe: TrainConfig) -> None:
    model = Pcsr(recipe.model.spec).eval()
    pairs = load_pairs(recipe.folder / "pictures", 2, ignore)
    heavy = measure(model, pairs, all_heavy(2))
    assert heavy.heavy_share == 1
    assert measure(model, pairs, Threshold(1.0)).heavy_share == 0
    quality, flops = [], []
    for pair in pairs:
        result, outcome = enlarge(model, pair.lr, 2, all_heavy(2))
        quality.append(psnr(result, pair.hr, 2))
        flops.append(executed_flops(model_costs(model), outcome.executed))
    assert heavy.psnr == pytest.approx(np.mean(quality))
    assert heavy.flops == pytest.approx(np.mean(flops))


def test_the_first_stage_is_measured_all_heavy(validated: TrainConfig) -> None:
    weights = Pcsr(validated.model.spec).state_dict()
    weights["classifier.imnet.layers.2.bias"] = torch.tensor([9.0, -9.0])
    validator = Validator(validated, torch.device("cpu"), ignore)
    first, second = dict(validator.measure(weights, 1)), dict(validator.measure(weights, 2))
    assert list(first) == [2, 3]
    assert first[2].psnr == first[2].psnr_heavy == second[2].psnr_heavy
    assert first[2].heavy_share == 1 and second[2].heavy_share == 0
    pairs = load_pairs(validated.folder / "pictures", 2, ignore)
    assert first[2].psnr_bicubic == pytest.approx(bicubic_psnr(pairs))


def test_the_card_tells_data_recipe_and_figures(validated: TrainConfig, tmp_path: Path) -> None:
    source = replace(validated.data.sources[0], title="Drawn waves", licence="CC0-1.0", reductions=(1.0, 2.0))
    config = replace(validated, data=replace(validated.data, sources=(source,)))
    log = Log(tmp_path / "log.jsonl")
    log(Validated(2, 6, 2, 26.0, 26.5, 24.0, 0.25, 3e9, 60.0))
    write_card(config, Pcsr(config.model.spec), tmp_path, tmp_path / "log.jsonl", seconds=7200)
    card = (tmp_path / "README.md").read_text()
    for part in ("license: mit", "| Drawn waves | CC0-1.0 | 1, 2 |", "Seed 3", "2.0 hours", "26.00 dB | 25.0%"):
        assert part in card
    assert "x1 to x3" in card


def test_a_card_and_a_log_that_cannot_be_written_are_told(recipe: TrainConfig, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    reason = "No such file or directory"
    with fails(training.NOT_WRITTEN, what="The model card", place=nowhere, reason=reason):
        write_card(recipe, Pcsr(recipe.model.spec), nowhere, nowhere / "log.jsonl", seconds=1)
    with fails(training.NOT_WRITTEN, what="The log", place=nowhere / "log.jsonl", reason=reason):
        Log(nowhere / "log.jsonl")(Skipped(Path("a.png"), "It is broken."))


def test_a_log_cut_short_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    Log(path)(Skipped(Path("a.png"), "It is broken."))
    with path.open("a") as stream:
        stream.write('{"event": "skip')
    (entry,) = read_log(path, "skipped")
    assert entry["path"] == "a.png"
    assert list(read_log(tmp_path / "nothing.jsonl", "skipped")) == []
