"""``--model auto`` and ``--source``: images from lossy sources get a model that was trained for them."""

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pcsr_cli.evaluate.dataset import demo_image
from pcsr_cli.images.degrade import jpeg, reduce
from pcsr_cli.images.read import read_rgb
from pcsr_cli.jobs.journal import segments
from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.spec import Scales
from tests.command import Pcsr
from tests.tiny import tiny_entry, tiny_model


@pytest.fixture
def here(run_pcsr: Pcsr) -> Pcsr:
    """A registry with the models ``clean`` and ``lossy``, and small images."""
    for seed, name in enumerate(("clean", "lossy")):
        save_folder(tiny_model("fsrcnn", seed=seed), Scales((4.0,)), run_pcsr.cwd / name)
    text = "".join(tiny_entry(name, f'folder = "{name}"\nsources = "{name}"') for name in ("clean", "lossy"))
    (run_pcsr.cwd / "both.toml").write_text('auto = ["clean", "lossy"]\n' + text)
    (run_pcsr.cwd / "one.toml").write_text('auto = ["clean"]\n' + text)
    (run_pcsr.cwd / "in").mkdir()
    rgb = reduce(read_rgb(demo_image()), 150, 225, "area")[40:104, 80:144]
    picture = Image.fromarray(rgb)
    picture.save(run_pcsr.cwd / "in" / "a.png")
    picture.save(run_pcsr.cwd / "in" / "b.jpg", quality=75)
    picture.save(run_pcsr.cwd / "in" / "c.webp", quality=75)
    Image.fromarray(jpeg(rgb, 75)).save(run_pcsr.cwd / "in" / "d.png")
    return run_pcsr


def upscaled(here: Pcsr, source: str, *arguments: str, registry: str = "both.toml") -> dict[str, Any]:
    ran = here("upscale", source, "out.png", "--overwrite", "--json", "--registry", registry, *arguments).succeeded()
    document: dict[str, Any] = ran.document
    return document


@pytest.mark.parametrize(
    ("name", "model", "kind"),
    [
        ("a.png", "clean", {"lossy": False, "name": "", "quality": None}),
        ("b.jpg", "lossy", {"lossy": True, "name": "JPEG", "quality": 75}),
        ("c.webp", "lossy", {"lossy": True, "name": "WebP", "quality": None}),
        ("d.png", "lossy", {"lossy": True, "name": "image with the blocks of a JPEG", "quality": None}),
    ],
)
def test_the_source_chooses_the_model(here: Pcsr, name: str, model: str, kind: dict[str, Any]) -> None:
    document = upscaled(here, f"in/{name}")
    assert (document["model"]["name"], document["source_kind"]) == (model, kind)


def test_the_choice_is_in_a_note_and_in_the_file(here: Pcsr) -> None:
    ran = here("upscale", "in/b.jpg", "out.png", "--registry", "both.toml").succeeded()
    assert "b.jpg is lossy (JPEG of quality about 75): model lossy." in " ".join(ran.stderr.replace("│", " ").split())
    with Image.open(here.cwd / "out.png") as image:
        assert image.info["pcsr:model"] == "lossy"
        assert image.info["pcsr:source"] == "JPEG of quality about 75"
    named = here("upscale", "in/b.jpg", "out.png", "--overwrite", "--registry", "both.toml", "--model", "clean")
    assert "lossy" not in named.succeeded().stderr


def test_source_overrides_the_file(here: Pcsr) -> None:
    assert upscaled(here, "in/b.jpg", "--source", "clean")["model"]["name"] == "clean"
    document = upscaled(here, "in/a.png", "--source", "jpeg=60")
    assert (document["model"]["name"], document["source_kind"]["quality"]) == ("lossy", 60)
    options = ["upscale", "in/a.png", "out.png", "--overwrite", "--registry"]
    here(*options, "both.toml", "--source", "jpg").failed(2, "Invalid source 'jpg'.")
    here(*options, "both.toml", "--source", "jpeg", "--model", "clean").failed(2, "--source has no effect on --model")
    here(*options, "one.toml", "--source", "jpeg").failed(2, "No model for lossy sources is registered at x4.")


def test_without_a_model_for_lossy_sources_all_images_get_the_same(here: Pcsr) -> None:
    document = upscaled(here, "in/b.jpg", registry="one.toml")
    assert document["model"]["name"] == "clean" and "source_kind" not in document
    ran = here("upscale", "in/b.jpg", "out.png", "--overwrite", "--registry", "one.toml").succeeded()
    assert "lossy" not in ran.stderr


def test_a_folder_run_chooses_for_each_image_and_resumes(here: Pcsr) -> None:
    options = ["upscale", "in", "out", "--registry", "both.toml"]
    assert "3 of 4 images are lossy: model lossy." in here(*options).succeeded().stderr
    (segment,) = segments(here.cwd / "out")
    _, *lines = map(json.loads, segment.read_text().splitlines())
    names = {line["name"]: line["settings"]["model"]["name"] for line in lines}
    assert names == {"a_x4.png": "clean", "b_x4.jpg": "lossy", "c_x4.webp": "lossy", "d_x4.png": "lossy"}
    assert lines[1]["info"]["source_kind"] == "JPEG of quality about 75"
    assert here(*options, "--json").succeeded().document["totals"]["skipped"] == 4
    here(*options, "--source", "clean").failed(2, "was made with other options")
    here(*options, "--model", "clean").failed(2, "b_x4.jpg already exists and was made with another model")
    overridden = here(*options, "--source", "clean", "--overwrite", "--json").succeeded().document
    assert {report["model"]["name"] for report in overridden["reports"]} == {"clean"}


def test_only_the_models_that_the_images_need_are_loaded(here: Pcsr) -> None:
    (here.cwd / "clean" / "model.safetensors").write_bytes(b"damaged")
    assert [upscaled(here, source)["model"]["name"] for source in ("in/b.jpg", "in/d.png")] == ["lossy", "lossy"]
    here("upscale", "in/a.png", "out2.png", "--registry", "both.toml").failed(1, "model.safetensors")
    here("upscale", "in", "out", "--registry", "both.toml").failed(1, "model.safetensors")


def test_a_plan_has_the_cost_of_the_chosen_models(here: Pcsr) -> None:
    options = ["--registry", "both.toml", "--json"]
    assert here("plan", "in/b.jpg", *options).succeeded().document["model"] == "lossy"
    assert here("plan", "in/b.jpg", *options).document["images"][0]["notes"] == []
    plan = here("plan", "in/a.png", *options).succeeded().document
    assert plan["model"] == "clean"
    assert "upscale takes lossy if the pixels show the blocks of a JPEG" in plan["images"][0]["notes"][0]
    assert set(here("plan", "in", *options).succeeded().document["model"].split(", ")) == {"clean", "lossy"}


def test_bench_measures_the_model_for_lossy_sources_on_degraded_images(here: Pcsr) -> None:
    options = ["bench", "in/a.png", "--methods", "light", "--registry", "both.toml", "--json"]
    models = [
        here(*options, *degrade).succeeded().document["model"]["name"]
        for degrade in ((), ("--degrade", "jpeg=75"), ("--degrade", "jpeg=75+reduce=area"))
    ]
    assert models == ["clean", "lossy", "clean"]
    curve = here("sweep", "in/b.jpg", "--no-reference", "--threshold", "0,1", *options[4:]).succeeded().document
    assert curve["model"]["name"] == "lossy"


def test_an_animation_has_a_kind_too(here: Pcsr) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200)]
    frames[0].save(here.cwd / "film.webp", save_all=True, append_images=frames[1:], quality=50)
    document = upscaled(here, "film.webp", "--frames")
    assert document["model"]["name"] == "lossy"
