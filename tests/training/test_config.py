"""Recipes: read into settings, and what they must not say."""

from pathlib import Path

import pytest

from pcsr_cli.failures import Failure, models, training
from pcsr_cli.specs import Scales
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
    ("old", "new", "row"),
    [
        ("seed = 4", "sead = 4", training.KEY_UNKNOWN),
        ("seed = 4", 'folder = "x"', training.KEY_UNKNOWN),
        ("seed = 4", "seed = 4.5", training.ANOTHER_TYPE),
        ("seed = 4", "seed = true", training.ANOTHER_TYPE),
        ("width = 24", 'width = "24"', training.ANOTHER_TYPE),
        ("samplers = [[], [16, 16]]", "samplers = [16]", training.NOT_A_LIST),
        ("samplers = [[], [16, 16]]", "samplers = [[16]]", training.SAMPLERS),
        ("mean = [0.4, 0.4, 0.4]", "mean = [0.4]", training.ANOTHER_LENGTH),
        ('backbone = "fsrcnn"', 'backbone = "vdsr"', models.NO_SUCH_BACKBONE),
        ("width = 24", "width = 0", models.NO_BACKBONE_SIZES),
        ("[16, 16]", "[16, 0]", models.NO_HIDDEN_SIZES),
        ('path = "DIV2K"', "", training.KEY_MISSING),
        ("low = 4", "low = 0.5", training.SCALES),
        ("low = 4", "low = 5", training.SCALES),
        ('"bfloat16"', '"float8"', training.NO_CHOICE),
        ("iterations = 5", "iterations = 0", training.STAGE),
        ("[stage2]", "[stage3]", training.KEY_UNKNOWN),
        ("[model]", "[model", training.NOT_TOML),
        ("[model]", "[[model]]", training.NOT_A_TABLE),
        ("keep = 1", "keep = 0", training.KEEP),
        ('[[data.sources]]\npath = "DIV2K"\nreductions = [1, 2]', "sources = []", training.SOURCES),
        ("reductions = [1, 2]", "reductions = []", training.REDUCTIONS),
        ("high = 4", "high = 4\nshare = 0", training.SCALE_SHARE),
        ("iterations = 5", "iterations = 5\nema = 1", training.EMA),
        ("iterations = 5", "iterations = 5\nsquare_tail = 2", training.TAILS),
        ("iterations = 5", "iterations = 5\nheavy_share = 1", training.HEAVY_SHARE),
        ("iterations = 5", "iterations = 5\nwarmup = -1", training.STAGE_FROM_0),
        ("iterations = 5", "iterations = 5\nlearning_rate = nan", training.NO_NUMBER),
        ("iterations = 5", "iterations = 5\nclip = inf", training.NO_NUMBER),
        ("seed = 4", "seed = 1000000000000000000000", training.NO_NUMBER),
        ("seed = 4", "seed = -1", training.SEED),
        ("seed = 4", "report_every = 0", training.EVERY),
        ("seed = 4", "checkpoint_every = 0", training.EVERY),
        ("seed = 4", 'validation = { path = "x", every = 0 }', training.EVERY),
        ("seed = 4", 'validation = { path = "x", scales = [4, 0] }', training.VALIDATION_SCALES),
        ("seed = 4", 'validation = { path = "x", scales = [] }', training.VALIDATION_SCALES),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, old: str, new: str, row: Failure) -> None:
    assert old in RECIPE
    with fails(row) as told:
        load(tmp_path, RECIPE.replace(old, new, 1))
    assert "recipe.toml" in told.value.sentence


def test_a_recipe_trains_some_scale(tmp_path: Path) -> None:
    with fails(training.NO_SCALES):
        load(tmp_path, "scales = []\n" + RECIPE.replace("[[scales]]\nlow = 4\nhigh = 4\n", ""))


def test_a_missing_recipe_is_one_sentence(tmp_path: Path) -> None:
    with fails(training.NO_RECIPE, path=tmp_path / "nothing.toml"):
        load_config(tmp_path / "nothing.toml")
