"""A tiny recipe: noise-like pictures, a network of a few hundred weights, runs of a second."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pcsr_cli.training.config import DataConfig, ModelConfig, ScaleShare, SourceConfig, StageConfig, TrainConfig


def draw_pictures(folder: Path, count: int = 2, side: int = 96) -> None:
    """Smooth shapes with edges, different in every picture."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:side, :side] / side
    for index in range(count):
        waves = np.sin((7 + index) * x + 5 * y * y) + (x > y) + np.cos(9 * x * y)
        rgb = np.stack([waves, np.roll(waves, 9, axis=0), waves.T], axis=2)
        levels = (rgb - rgb.min()) / (rgb.max() - rgb.min()) * 255
        Image.fromarray(levels.astype(np.uint8)).save(folder / f"{index}.png")


@pytest.fixture
def recipe(tmp_path: Path) -> TrainConfig:
    draw_pictures(tmp_path / "pictures")
    stage = StageConfig(iterations=6, batch=4, crop=8, pixels=64, learning_rate=2e-3)
    return TrainConfig(
        name="tiny",
        model=ModelConfig(samplers=((4,), (8, 8)), width=8, depth=1, classifier=(4,)),
        data=DataConfig(sources=(SourceConfig(Path("pictures")),), patch=48, keep=1.0),
        scales=(ScaleShare(2, 2), ScaleShare(1, 3)),
        stage1=stage,
        stage2=stage,
        seed=3,
        report_every=1,
        checkpoint_every=100,
        folder=tmp_path,
    )
