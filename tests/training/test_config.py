from pathlib import Path

import pytest

from pcsr_cli.specs import Scales
from pcsr_cli.training.config import ConfigError, load_config

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
    ("old", "new", "told"),
    [
        ("seed = 4", "sead = 4", "unknown key sead"),
        ("seed = 4", 'folder = "x"', "unknown key folder"),
        ("seed = 4", "seed = 4.5", "seed is not of type int"),
        ("seed = 4", "seed = true", "seed is not of type int"),
        ("width = 24", 'width = "24"', "width is not of type int"),
        ("samplers = [[], [16, 16]]", "samplers = [16]", "samplers is not a list"),
        ("samplers = [[], [16, 16]]", "samplers = [[16]]", "at least two branches"),
        ("mean = [0.4, 0.4, 0.4]", "mean = [0.4]", "mean is not a list of 3"),
        ('backbone = "fsrcnn"', 'backbone = "vdsr"', "no backbone 'vdsr'"),
        ("width = 24", "width = 0", "sizes of backbone fsrcnn have to be positive"),
        ("[16, 16]", "[16, 0]", "hidden sizes are at least 1"),
        ('path = "DIV2K"', "", "path is missing"),
        ("low = 4", "low = 0.5", "from 1 upward"),
        ("low = 4", "low = 5", "from 1 upward"),
        ('"bfloat16"', '"float8"', "precision is one of float32, bfloat16"),
        ("iterations = 5", "iterations = 0", "above 0"),
        ("[stage2]", "[stage3]", "unknown key stage3"),
        ("[model]", "[model", "not a readable TOML file"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in RECIPE
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, RECIPE.replace(old, new, 1))


def test_a_missing_recipe_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no recipe"):
        load_config(tmp_path / "nothing.toml")
