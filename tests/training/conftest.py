"""Small recipes: drawn images, a network of a few hundred weights, runs of a second."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from pcsr_cli.training.config import TrainConfig, load_config

RECIPE = """
name = "tiny"
seed = 3
report_every = 2
[model]
width = 8
depth = 1
samplers = [[4], [8, 8]]
classifier = [4]
[data]
patch = 48
keep = 1
[[data.sources]]
path = "images"
[[scales]]
low = 2
high = 2
[[scales]]
low = 1
high = 3
[stage1]
iterations = 6
batch = 4
crop = 8
pixels = 64
learning_rate = 2e-3
[stage2]
iterations = 6
batch = 4
crop = 8
pixels = 64
learning_rate = 2e-3
[validation]
path = "images"
scales = [2]
"""


def draw_images(folder: Path, count: int = 2, side: int = 96) -> None:
    """Draw smooth shapes with edges, different in every image."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:side, :side] / side
    for index in range(count):
        waves = np.sin((7 + index) * x + 5 * y * y) + (x > y) + np.cos(9 * x * y)
        rgb = np.stack([waves, np.roll(waves, 9, axis=0), waves.T], axis=2)
        levels = (rgb - rgb.min()) / (rgb.max() - rgb.min()) * 255
        Image.fromarray(levels.astype(np.uint8)).save(folder / f"{index}.png")


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """A recipe file beside its images."""
    draw_images(tmp_path / "images")
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def recipe(recipe_file: Path) -> TrainConfig:
    """The same recipe without validation, with a report after every iteration."""
    return replace(load_config(recipe_file), validation=None, report_every=1)
