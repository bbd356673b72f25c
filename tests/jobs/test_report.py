"""The report of an upscale: its figures agree with each other, and it is a JSON document."""

import json
from pathlib import Path

import pytest

from pcsr_cli.api import load_model, upscale_image
from pcsr_cli.engine.rules import ALL_HEAVY, ALL_LIGHT, NEVER, Adaptive, Routing, Threshold, Tradeoff
from pcsr_cli.engine.upscale import Settings
from pcsr_cli.images.image import ImageData
from pcsr_cli.jobs.report import Gflops, Report, Seconds, describe_rule, make_report, text_chunks
from pcsr_cli.model.registry import Identity, LoadedModel
from pcsr_cli.model.spec import Scales
from tests.images import levels
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder))


def report(model: LoadedModel, routing: Routing, refine: int = 1, tile: int | None = None, scale: float = 4) -> Report:
    done = upscale_image(ImageData(levels(9, 14)), model, scale, Settings(routing, refine=refine, tile=tile))
    return make_report(
        model,
        [done.outcome],
        routing,
        refine,
        source="in.png",
        output="out.png",
        input_size=(9, 14),
        output_size=done.image.size,
        scale=scale,
        working_scale=done.working_scale,
        seconds=Seconds(1.0, 2.0, 3.5),
        notes=("a note",),
    )


def test_savings_are_in_percent_and_may_be_negative() -> None:
    gflops = Gflops(pcsr=30, all_heavy=40, original=20)
    assert gflops.saved == {"all_heavy": 25, "original": -50}
    assert Gflops(30, 40, None).saved == {"all_heavy": 25, "original": None}


def test_all_heavy_saves_nothing_against_itself(model: LoadedModel) -> None:
    found = report(model, ALL_HEAVY, refine=NEVER)
    for gflops in (found.paper, found.executed):
        assert gflops.pcsr == pytest.approx(gflops.all_heavy)
        assert gflops.saved["all_heavy"] == pytest.approx(0)


def test_light_costs_less_than_heavy(model: LoadedModel) -> None:
    light, heavy = report(model, Threshold(1)), report(model, Threshold(0))
    assert light.paper.pcsr < heavy.paper.pcsr
    assert light.executed.pcsr < heavy.executed.pcsr
    assert report(model, Adaptive()).paper.all_heavy == heavy.paper.all_heavy


def test_tiles_add_executed_gflops_only(model: LoadedModel) -> None:
    whole, tiled = report(model, Threshold()), report(model, Threshold(), tile=5)
    assert (whole.tiles, tiled.tiles) == (1, 6)
    assert whole.paper == tiled.paper
    assert whole.executed.pcsr < tiled.executed.pcsr


def test_the_original_is_reported_at_its_scale_only(tiny_folder: Path, model: LoadedModel) -> None:
    assert report(model, Threshold()).paper.original is not None
    other = LoadedModel(tiny_model("fsrcnn"), model.identity, Scales((2.0,)))
    assert report(other, Threshold(), scale=2).paper.original is None


@pytest.mark.parametrize(
    ("routing", "rule"),
    [(Threshold(0.25), "threshold 0.25"), (Tradeoff(-1.5), "k = -1.5"), (Adaptive(), "ADM")],
)
def test_the_rule_is_reported_with_its_cut(model: LoadedModel, routing: Routing, rule: str) -> None:
    found = report(model, routing).routing
    assert found.rule == describe_rule(routing) == rule
    (cut,) = found.cuts
    assert 0 <= cut <= 1
    assert sum(found.branch_pixels) == 36 * 56
    assert found.heavy_share == found.branch_pixels[1] / (36 * 56)


def test_single_branch_rules_are_described() -> None:
    assert (describe_rule(ALL_LIGHT), describe_rule(ALL_HEAVY)) == ("all light", "all heavy")


def test_the_document_is_json(model: LoadedModel) -> None:
    found = report(model, Tradeoff(0.5))
    assert (found.input_size, found.output_size) == ((14, 9), (56, 36)), "sizes list the width first"
    document = json.loads(json.dumps(found.as_document(), allow_nan=False))
    assert document["seconds"] == {"load": 1.0, "compute": 2.0, "save": 3.5, "total": 6.5}
    assert document["gflops"]["paper"]["saved_percent"] == found.paper.saved
    assert document["notes"] == ["a note"]
    assert document["model"]["name"] == "tiny"


def test_chunks_name_the_commit_and_hold_only_text(model: LoadedModel) -> None:
    chunks = text_chunks(model.identity, Adaptive(), 1, 4)
    assert chunks["pcsr:model"] == "tiny"
    assert chunks["pcsr:routing"] == "ADM, refine 1"
    named = Identity("\udcff name", "1" * 40, "sha", "", "", None)
    chunks = text_chunks(named, Adaptive(), 1, 4)
    assert chunks["pcsr:model"] == f"? name at {'1' * 40}"
