"""Recipes: read into settings, and what they must not say."""

from pathlib import Path

import pytest

from pcsr_cli.errors import ModelError, PcsrError, TrainingError
from pcsr_cli.model.spec import Scales
from pcsr_cli.training.config import load_config
from tests.failing import fails

RECIPE = """
name = "small"
seed = 4

[model]
backbone = "fsrcnn"
width = 24
samplers = [[], [16, 16]]
mean = [0.4, 0.4, 0.4]

[data]
keep = 1

[[data.sources]]
path = "DIV2K"
reductions = [1, 2]

[[scales]]
low = 4
high = 4

[stage1]
iterations = 10
precision = "bfloat16"

[stage2]
iterations = 5
"""


def load(tmp_path: Path, text: str = RECIPE) -> object:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return load_config(path)


def test_a_recipe_is_read_into_settings(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    config = load_config(path)
    assert config.model.spec.samplers == ((), (16, 16))
    assert config.model.spec.backbone.depth is None
    assert config.data.sources[0].reductions == (1.0, 2.0)
    assert config.trained_scales == Scales((4.0,))
    assert config.locate(config.data.sources[0].path) == tmp_path / "DIV2K"


def test_a_range_of_scales_is_continuous(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.replace("low = 4", "low = 1.5"))
    assert load_config(path).trained_scales == Scales((1.5, 4.0), continuous=True)


@pytest.mark.parametrize(
    ("old", "new", "kind", "said"),
    [
        ("seed = 4", "sead = 4", TrainingError, "unknown key"),
        ("seed = 4", 'folder = "x"', TrainingError, "unknown key"),
        ("seed = 4", "seed = 4.5", TrainingError, "is not of type"),
        ("seed = 4", "seed = true", TrainingError, "is not of type"),
        ("width = 24", 'width = "24"', TrainingError, "is not of type"),
        ("samplers = [[], [16, 16]]", "samplers = [16]", TrainingError, "is not a list."),
        (
            "samplers = [[], [16, 16]]",
            "samplers = [[16]]",
            TrainingError,
            "model.samplers lists the hidden sizes of at least two branches.",
        ),
        ("mean = [0.4, 0.4, 0.4]", "mean = [0.4]", TrainingError, "is not a list of"),
        ('backbone = "fsrcnn"', 'backbone = "vdsr"', ModelError, "unknown backbone"),
        ("width = 24", "width = 0", ModelError, "backbone.width"),
        ("[16, 16]", "[16, 0]", ModelError, "samplers[1][1]"),
        ('path = "DIV2K"', "", TrainingError, "is missing."),
        ("low = 4", "low = 0.5", TrainingError, "scales go from 1 upward, low to high."),
        ("low = 4", "low = 5", TrainingError, "scales go from 1 upward, low to high."),
        ('"bfloat16"', '"float8"', TrainingError, "is one of"),
        (
            "iterations = 5",
            "iterations = 0",
            TrainingError,
            "a stage's iterations, batch, crop, pixels, learning_rate and clip are above 0.",
        ),
        ("[stage2]", "[stage3]", TrainingError, "unknown key"),
        ("[model]", "[model", TrainingError, "is not a readable TOML file:"),
        ("[model]", "[[model]]", TrainingError, "is not a table."),
        ("keep = 1", "keep = 0", TrainingError, "data.keep is a share above 0, at most 1."),
        (
            '[[data.sources]]\npath = "DIV2K"\nreductions = [1, 2]',
            "sources = []",
            TrainingError,
            "data.sources names at least one folder.",
        ),
        ("reductions = [1, 2]", "reductions = []", TrainingError, "data.sources.reductions are numbers of at least 1."),
        ("high = 4", "high = 4\nshare = 0", TrainingError, "a share is above 0."),
        ("iterations = 5", "iterations = 5\nema = 1", TrainingError, "a stage's ema is at least 0 and below 1."),
        (
            "iterations = 5",
            "iterations = 5\nsquare_tail = 2",
            TrainingError,
            "a stage's float32_tail and square_tail are shares, 0 to 1.",
        ),
        (
            "iterations = 5",
            "iterations = 5\nheavy_share = 1",
            TrainingError,
            "a stage's heavy_share is a share between 0 and 1.",
        ),
        (
            "iterations = 5",
            "iterations = 5\nwarmup = -1",
            TrainingError,
            "a stage's final_learning_rate, warmup and balance are at least 0.",
        ),
        ("iterations = 5", "iterations = 5\nlearning_rate = nan", TrainingError, "is no number to train with:"),
        ("iterations = 5", "iterations = 5\nclip = inf", TrainingError, "is no number to train with:"),
        ("seed = 4", "seed = 1000000000000000000000", TrainingError, "is no number to train with:"),
        ("seed = 4", "seed = -1", TrainingError, "seed is at least 0."),
        (
            "seed = 4",
            "report_every = 0",
            TrainingError,
            "report_every, checkpoint_every and validation.every are at least 1.",
        ),
        (
            "seed = 4",
            "checkpoint_every = 0",
            TrainingError,
            "report_every, checkpoint_every and validation.every are at least 1.",
        ),
        (
            "seed = 4",
            'validation = { path = "x", every = 0 }',
            TrainingError,
            "report_every, checkpoint_every and validation.every are at least 1.",
        ),
        (
            "seed = 4",
            'validation = { path = "x", scales = [4, 0] }',
            TrainingError,
            "validation.scales lists at least one scale, none below 1.",
        ),
        (
            "seed = 4",
            'validation = { path = "x", scales = [] }',
            TrainingError,
            "validation.scales lists at least one scale, none below 1.",
        ),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, old: str, new: str, kind: type[PcsrError], said: str) -> None:
    assert old in RECIPE
    with fails(kind, said) as told:
        load(tmp_path, RECIPE.replace(old, new, 1))
    assert "recipe.toml" in told.value.sentence


def test_a_recipe_trains_some_scale(tmp_path: Path) -> None:
    with fails(TrainingError, "scales lists at least one range."):
        load(tmp_path, "scales = []\n" + RECIPE.replace("[[scales]]\nlow = 4\nhigh = 4\n", ""))


def test_a_missing_recipe_is_one_sentence(tmp_path: Path) -> None:
    with fails(TrainingError, f"There is no recipe {tmp_path / 'nothing.toml'}."):
        load_config(tmp_path / "nothing.toml")
