from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pcsr_cli.engine.refine import usual_refine
from pcsr_cli.errors import InputError, OutputError, TrainingError
from pcsr_cli.evaluate.bench import Options, bench
from pcsr_cli.evaluate.dataset import find_pairs
from pcsr_cli.evaluate.methods import parse_methods
from pcsr_cli.model.load import Identity, LoadedModel
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.spec import Scales
from pcsr_cli.training.config import TrainConfig, ValidationConfig
from pcsr_cli.training.events import Event, Skipped, Validated, ignore
from pcsr_cli.training.report import Log, read_log, write_card
from pcsr_cli.training.validation import Validator
from tests.failing import fails

CPU = torch.device("cpu")


@pytest.fixture
def validated(recipe: TrainConfig) -> TrainConfig:
    return replace(recipe, validation=ValidationConfig(Path("pictures"), scales=(2, 3)))


def test_it_measures_what_bench_does(validated: TrainConfig) -> None:
    """At x2, where the program refines nothing, and at x3, where it does."""
    torch.manual_seed(0)
    model = Pcsr(validated.model.spec).eval()
    measured = {quality.scale: quality for quality in Validator(validated, CPU, ignore).measure(model.state_dict(), 2)}
    assert list(measured) == [2, 3]
    loaded = LoadedModel(model, Identity("tiny", None, "", "", "", None), Scales((2.0, 3.0)))
    for scale, quality in measured.items():
        sources = find_pairs([validated.folder / "pictures"], scale)
        options = Options(parse_methods("threshold,heavy,bicubic"), scale, usual_refine(scale))
        routed, heavy, bicubic = bench(loaded, sources, options, lambda _: None).mean
        assert quality.heavy_share == routed.heavy_share and 0.1 < quality.heavy_share < 0.9
        assert (quality.psnr, quality.psnr_heavy, quality.psnr_bicubic) == (routed.psnr, heavy.psnr, bicubic.psnr)
        assert routed.executed is not None and quality.flops == pytest.approx(routed.executed * 1e9)


def test_a_broken_picture_and_one_that_is_all_border_are_named_and_left_out(validated: TrainConfig) -> None:
    folder = validated.folder / "pictures"
    (folder / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (5, 5)).save(folder / "tiny.png")
    events: list[Event] = []
    validator = Validator(
        replace(validated, validation=ValidationConfig(Path("pictures"), scales=(3,))), CPU, events.append
    )
    assert [event.path.name for event in events if isinstance(event, Skipped)] == ["broken.png", "tiny.png"]
    list(validator.measure(Pcsr(validated.model.spec).state_dict(), 1))


def test_a_folder_without_usable_pictures_is_refused(validated: TrainConfig) -> None:
    folder = validated.folder / "bad"
    config = replace(validated, validation=ValidationConfig(Path("bad")))
    with fails(InputError, f"{folder} does not exist."):
        Validator(config, CPU, ignore)
    folder.mkdir()
    with fails(InputError, "contains no images."):
        Validator(config, CPU, ignore)
    (folder / "broken.png").write_bytes(b"no picture")
    with fails(TrainingError, f"There is no picture to validate on in {folder}."):
        Validator(config, CPU, ignore)


def test_the_first_stage_is_measured_all_heavy(validated: TrainConfig) -> None:
    weights = Pcsr(validated.model.spec).state_dict()
    weights["classifier.imnet.layers.2.bias"] = torch.tensor([9.0, -9.0])
    validator = Validator(validated, CPU, ignore)
    first, second = (next(validator.measure(weights, stage)) for stage in (1, 2))
    assert first.psnr == first.psnr_heavy == second.psnr_heavy
    assert first.heavy_share == 1 and second.heavy_share == 0


def test_the_card_tells_data_recipe_and_figures(validated: TrainConfig, tmp_path: Path) -> None:
    source = replace(validated.data.sources[0], title="Drawn waves", licence="CC0-1.0", reductions=(1.0, 2.0))
    config = replace(validated, data=replace(validated.data, sources=(source,)))
    log = Log(tmp_path / "log.jsonl")
    log(Validated(2, 26.0, 26.5, 24.0, 0.25, 3e9, stage=2, step=6, seconds=60.0))
    write_card(config, Pcsr(config.model.spec), tmp_path, tmp_path / "log.jsonl", seconds=7200)
    card = (tmp_path / "README.md").read_text()
    for part in ("license: mit", "| Drawn waves | CC0-1.0 | 1, 2 |", "Seed 3", "2.0 hours", "26.00 dB | 25.0%"):
        assert part in card
    assert "x1 to x3" in card


def test_a_card_and_a_log_that_cannot_be_written_are_told(recipe: TrainConfig, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    reason = "No such file or directory"
    with fails(OutputError, f"The model card cannot be written to {nowhere}: {reason}."):
        write_card(recipe, Pcsr(recipe.model.spec), nowhere, nowhere / "log.jsonl", seconds=1)
    with fails(OutputError, f"The log cannot be written to {nowhere / 'log.jsonl'}: {reason}."):
        Log(nowhere / "log.jsonl")(Skipped(Path("a.png"), "It is broken."))


def test_a_log_cut_short_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    Log(path)(Skipped(Path("a.png"), "It is broken."))
    with path.open("a") as stream:
        stream.write('{"event": "skip')
    (entry,) = read_log(path, "skipped")
    assert entry["path"] == "a.png"
    assert list(read_log(tmp_path / "nothing.jsonl", "skipped")) == []
