"""Validation during training, compared with ``pcsr bench``."""

import pytest
import torch
from msgspec.structs import replace
from PIL import Image

from pcsr_cli.engine.rules import usual_refine
from pcsr_cli.engine.upscale import Settings
from pcsr_cli.errors import InputError, TrainingError
from pcsr_cli.evaluate.arguments import parse_methods
from pcsr_cli.evaluate.bench import bench
from pcsr_cli.evaluate.dataset import find_pairs
from pcsr_cli.evaluate.runner import Conditions
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.registry import Identity, LoadedModel
from pcsr_cli.model.spec import Scales
from pcsr_cli.training.config import TrainConfig, ValidationConfig
from pcsr_cli.training.log import Event, Skipped, ignore
from pcsr_cli.training.validation import Validator
from tests.failing import fails

CPU = torch.device("cpu")


@pytest.fixture
def validated(recipe: TrainConfig) -> TrainConfig:
    return replace(recipe, validation=ValidationConfig("images", scales=(2, 3)))


def test_the_figures_equal_those_of_bench(validated: TrainConfig) -> None:
    """At x2, which is not refined by default, and at x3, which is."""
    torch.manual_seed(0)
    model = Pcsr(validated.model.spec).eval()
    measured = list(Validator(validated, CPU, ignore).measure(model.state_dict(), 2, 6, 1.0))
    assert [quality.scale for quality in measured] == [2, 3]
    loaded = LoadedModel(model, Identity("tiny", None, "", "", "", None), Scales((2.0, 3.0)))
    for quality in measured:
        sources = find_pairs([validated.folder / "images"], quality.scale)
        conditions = Conditions(loaded, quality.scale, Settings(refine=usual_refine(quality.scale)))
        routed, heavy, bicubic = bench(conditions, sources, parse_methods("threshold,heavy,bicubic")).mean
        assert quality.heavy_share == routed.heavy_share and 0.1 < quality.heavy_share < 0.9
        assert (quality.psnr, quality.psnr_heavy, quality.psnr_bicubic) == (routed.psnr, heavy.psnr, bicubic.psnr)
        assert routed.executed is not None and quality.flops == pytest.approx(routed.executed * 1e9)


def test_broken_and_tiny_images_are_reported_and_skipped(validated: TrainConfig) -> None:
    folder = validated.folder / "images"
    (folder / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (5, 5)).save(folder / "tiny.png")
    events: list[Event] = []
    validator = Validator(replace(validated, validation=ValidationConfig("images", scales=(3,))), CPU, events.append)
    assert [event.path.name for event in events if isinstance(event, Skipped)] == ["broken.png", "tiny.png"]
    list(validator.measure(Pcsr(validated.model.spec).state_dict(), 1, 6, 1.0))


def test_a_folder_without_usable_images_is_refused(validated: TrainConfig) -> None:
    folder = validated.folder / "bad"
    config = replace(validated, validation=ValidationConfig("bad"))
    with fails(InputError, f"{folder} does not exist."):
        Validator(config, CPU, ignore)
    folder.mkdir()
    with fails(InputError, "contains no images."):
        Validator(config, CPU, ignore)
    (folder / "broken.png").write_bytes(b"no image")
    with fails(TrainingError, f"No image in {folder} can be used for validation."):
        Validator(config, CPU, ignore)


def test_the_first_stage_is_measured_with_all_pixels_heavy(validated: TrainConfig) -> None:
    weights = Pcsr(validated.model.spec).state_dict()
    weights["classifier.imnet.layers.2.bias"] = torch.tensor([9.0, -9.0])
    validator = Validator(validated, CPU, ignore)
    first, second = (next(validator.measure(weights, stage, 6, 1.0)) for stage in (1, 2))
    assert first.psnr == first.psnr_heavy == second.psnr_heavy
    assert first.heavy_share == 1 and second.heavy_share == 0
