"""Recipes are read into settings, and mistakes in them are refused."""

from pathlib import Path

import pytest

from pcsr_cli.errors import TrainingError
from pcsr_cli.model.spec import Scales
from pcsr_cli.training.config import TrainConfig, load_config
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


def load(tmp_path: Path, text: str = RECIPE) -> TrainConfig:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return load_config(path)


def test_a_recipe_is_read(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.model.spec.samplers == ((), (16, 16))
    assert config.model.spec.backbone.depth is None
    assert config.data.sources[0].reductions == (1.0, 2.0)
    assert config.data.patch == 192
    assert config.trained_scales == Scales((4.0,))
    assert config.locate(config.data.sources[0].path) == tmp_path / "DIV2K"
    ranged = load(tmp_path, RECIPE.replace("low = 4", "low = 1.5"))
    assert ranged.trained_scales == Scales((1.5, 4.0), continuous=True)


SCALES = "[[scales]]\nlow = 4\nhigh = 4\n"
SOURCES = '[[data.sources]]\npath = "DIV2K"\nreductions = [1, 2]\n'
FIELDS = "name, model, data, scales, stage1, stage2, degradation, seed"

SEED = (
    ("sead = 4", "is invalid: object contains unknown field `sead`"),
    ('folder = "x"', "is invalid: object contains unknown field `folder`"),
    ("validation = { folder = 4 }", "unknown field `folder`; allowed are path, every, scales."),
    ("seed = 4.5", "seed is invalid: expected a whole number, got a number"),
    ("seed = -1", "seed is invalid: expected a whole number >= 0"),
    ("seed = 1000000000000000000000", "seed is invalid: expected a whole number <="),
    ("seed = " + "[" * 5000 + "]" * 5000, "recipe.toml is not valid TOML:"),
    ("report_every = 0", "report_every is invalid: expected a whole number >= 1"),
    ("checkpoint_every = 0", "checkpoint_every is invalid: expected a whole number >= 1"),
    ('validation = { path = "x", every = 0 }', "validation.every is invalid: expected a whole number >= 1"),
    ('validation = { path = "x", scales = [4, 0] }', "validation.scales[1] is invalid"),
    ('validation = { path = "x", scales = [] }', "validation.scales is invalid"),
)
"""Replacements of the line ``seed = 4``, and parts of the errors."""

DEGRADATION = (
    ("jpeg = { share = 1, low = 0, high = 90 }", "the quality of jpeg and webp is from 1 to 100"),
    (
        "jpeg = { share = 0.6, low = 9, high = 90 }, webp = { share = 0.6, low = 9, high = 90 }",
        "degradation is invalid: the shares of jpeg and webp are together more than 1",
    ),
    ("noise = { share = 1, low = 2, high = 1 }", "noise is invalid: low is larger"),
    ("noise = { share = 1, low = 2, high = 1e9 }", "noise is at most 100"),
    ("blur = { share = 1, low = 2, high = 1e15 }", "blur is at most 10"),
    ("reductions = {}", "reductions and subsamplings are not empty"),
)
"""Degradations, and parts of the errors."""

STAGE_2 = (
    ("ema = 1", "stage2.ema is invalid: expected a number < 1"),
    ("square_tail = 2", "stage2.square_tail is invalid: expected a number <= 1"),
    ("heavy_share = 1", "stage2.heavy_share is invalid: expected a number < 1"),
    ("warmup = -1", "stage2.warmup is invalid: expected a whole number >= 0"),
    ("learning_rate = nan", "learning_rate is invalid: expected a number > 0"),
    ("clip = inf", "stage2.clip is invalid: expected a number <="),
)
"""Lines of the second stage, and parts of the errors."""


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        *(("seed = 4", new, part) for new, part in SEED),
        *(("seed = 4", f"degradation = {{ {new} }}", part) for new, part in DEGRADATION),
        *(("iterations = 5", f"iterations = 5\n{new}", part) for new, part in STAGE_2),
        ("iterations = 5", "iterations = 0", "stage2.iterations is invalid: expected a whole number >= 1"),
        ("[stage2]", "[stage3]", f"unknown field `stage3`; allowed are {FIELDS}"),
        ("keep = 1", "kept = 1", "data is invalid: object contains unknown field `kept`; allowed are sources, cache"),
        ("reductions = [1, 2]", "by = 2", "data.sources[0] is invalid: object contains unknown field `by`; allowed"),
        ('path = "DIV2K"', "", "data.sources[0] is invalid: object missing required field `path`"),
        ("width = 24", "width = 0", "model.width is invalid: expected a whole number >= 1"),
        ("[[], [16, 16]]", "[[16]]", "model.samplers is invalid: expected a list of length >= 2"),
        ("[16, 16]", "[16, 0]", "model.samplers[1][1] is invalid: expected a whole number >= 1"),
        ("mean = [0.4, 0.4, 0.4]", "mean = [0.4]", "model.mean is invalid: expected a list of length 3"),
        ('backbone = "fsrcnn"', 'backbone = "vdsr"', "model is invalid: unknown backbone"),
        (SOURCES, "sources = []", "data.sources is invalid: expected a list of length >= 1"),
        ("reductions = [1, 2]", "reductions = []", "data.sources[0].reductions is invalid: expected a list of length"),
        ("reductions = [1, 2]", "reductions = [0.5]", "reductions[0] is invalid: expected a number >= 1"),
        ("keep = 1", "keep = 0", "data.keep is invalid: expected a number > 0"),
        ("keep = 1", "keep = 1.1", "data.keep is invalid: expected a number <= 1"),
        ("low = 4", "low = 0.5", "scales[0].low is invalid: expected a number >= 1"),
        ("low = 4", "low = 5", "scales[0] is invalid: low is larger than high"),
        ("high = 4", "high = 4\nshare = 0", "scales[0].share is invalid: expected a number > 0"),
        ("bfloat16", "float8", "stage1.precision is invalid: invalid enum value 'float8'; allowed are bfloat16,"),
        ("[model]", "[model", "is not valid TOML:"),
        ("iterations = 10", "iterations = " + "1" * 5000, "conversion: value has 5000 digits. Correct"),
        (
            "iterations = 10",
            "iterations = 10\nbatch = 1_000_000",
            "stage1.batch is invalid: expected a whole number <= 65536",
        ),
        ("keep = 1", "patch = 1_000_000_000_000", "data.patch is invalid: expected a whole number <= 16384"),
        ('path = "DIV2K"', 'path = "DIV2K"\nexclude = [""]', "data.sources[0] is invalid: empty pattern"),
        ('path = "DIV2K"', 'path = "DIV2K"\nexclude = ["*.png", "."]', "data.sources[0] is invalid: empty pattern"),
        ("reductions = [1, 2]", f"reductions = {[1] * 100_000}", "is invalid: expected a list of length <= 64"),
    ],
)
def test_an_invalid_recipe_is_refused_with_the_key(tmp_path: Path, old: str, new: str, part: str) -> None:
    assert old in RECIPE
    with fails(TrainingError, "recipe.toml", part, "Correct the recipe."):
        load(tmp_path, RECIPE.replace(old, new, 1))


def test_a_recipe_needs_a_scale(tmp_path: Path) -> None:
    with fails(TrainingError, "scales is invalid: expected a list of length >= 1"):
        load(tmp_path, "scales = []\n" + RECIPE.replace(SCALES, ""))


def test_a_recipe_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with fails(TrainingError, f"Cannot read the recipe {tmp_path / 'nothing.toml'}: no such file or directory."):
        load_config(tmp_path / "nothing.toml")
    with fails(TrainingError, f"Cannot read the recipe {tmp_path}:"):
        load_config(tmp_path)
